"""The transaction byte by byte: what is written in one piece, and that answers may come in any pieces."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts.outcome import Accepted, Deferred, Outcome
from outrider.plugins.providers.smtp.envelope import Offer
from outrider.plugins.providers.smtp.queue import Batch, Item
from outrider.plugins.providers.smtp.replies import Reply
from outrider.plugins.providers.smtp.session import Session
from outrider.plugins.providers.smtp.settings import Account
from outrider.plugins.providers.smtp.wire import Wire
from tests.kit.watching import BODY, Recorder, outgoing

PIPELINING = Offer(is_pipelining=True)


class Pipe(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.is_cut = True


class Few:
    """A source of a few messages."""

    def __init__(self, count: int) -> None:
        self.recorder = Recorder()
        messages = [outgoing(f"m{n}@b.c") for n in range(count)]
        self.batch = Batch(messages, self.recorder, asyncio.get_running_loop().create_future())
        self.given_back: list[str] = []
        self.reasons: list[Deferred | None] = []
        self.rested = 0

    def take(self) -> Item | None:
        return self.batch.waiting.popleft() if self.batch.waiting else None

    def give_back(self, item: Item) -> None:
        self.given_back.append(item.message.address)

    def sift(self, batch: Batch) -> None:
        raise AssertionError("nothing was withdrawn")

    def rest(self, session: Session) -> None:
        session.rest()
        self.rested += 1

    def gone(self, session: Session, reason: Deferred | None) -> None:
        self.reasons.append(reason)


def ready(count: int, offer: Offer = PIPELINING) -> tuple[Session, Pipe, Few]:
    """A session past its handshake that has begun with the first of some messages."""
    few, pipe = Few(count), Pipe()
    session = Session(Account("mail.example.org"), few)
    session.connection_made(pipe)
    session.data_received(b"220 hello\r\n")
    session.offer = offer
    assert session.start()
    return session, pipe, few


def envelope(number: int) -> bytes:
    return b"MAIL FROM:<news@example.org>\r\nRCPT TO:<m%d@b.c>\r\nDATA\r\n" % number


async def test_an_envelope_is_one_write_and_a_body_carries_the_next_envelope_with_it() -> None:
    session, pipe, few = ready(2)
    assert pipe.writes == [envelope(0)]
    session.data_received(b"250 ok\r\n250 ok\r\n354 go\r\n")
    assert pipe.writes[1:] == [BODY + b".\r\n" + envelope(1)]
    session.data_received(b"250 queued as A\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    assert pipe.writes[2:] == [BODY + b".\r\n"]
    session.data_received(b"250 queued as B\r\n")
    assert few.recorder.outcomes == {"m0@b.c": Accepted("A"), "m1@b.c": Accepted("B")}
    assert (few.rested, few.reasons) == (1, [])


async def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    session, pipe, _ = ready(2, Offer())
    for answer in (b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"250 ok\r\n"):
        session.data_received(answer)
    mail, rcpt, data = (line + b"\r\n" for line in envelope(0).split(b"\r\n")[:3])
    assert pipe.writes == [mail, rcpt, data, BODY + b".\r\n", mail]


async def test_a_refused_recipient_is_followed_by_a_reset_in_the_same_write_as_the_next() -> None:
    session, pipe, few = ready(2)
    session.data_received(b"250 ok\r\n550 5.1.1 who\r\n503 5.5.1 no recipients\r\n")
    assert pipe.writes[1:] == [b"RSET\r\n" + envelope(1)]
    assert few.recorder.order == ["m0@b.c"]


async def test_a_reset_that_is_refused_ends_the_connection_and_gives_the_message_back() -> None:
    session, pipe, few = ready(2)
    session.data_received(b"250 ok\r\n550 5.1.1 who\r\n503 5.5.1 no recipients\r\n")
    session.data_received(b"500 what\r\n")
    assert (few.given_back, pipe.is_cut) == (["m1@b.c"], True)


async def test_421_after_the_dot_defers_that_message_and_frees_the_one_behind_it() -> None:
    session, pipe, few = ready(2)
    session.data_received(b"250 ok\r\n250 ok\r\n354 go\r\n")
    session.data_received(b"421 4.3.2 bye\r\n")
    assert few.recorder.outcomes == {"m0@b.c": Deferred("server_busy", "DOT: 421 4.3.2 bye")}
    assert (few.given_back, pipe.is_cut, len(few.reasons)) == (["m1@b.c"], True, 1)


async def test_nothing_is_written_after_the_end() -> None:
    session, pipe, few = ready(3)
    session.data_received(b"250 ok\r\n250 ok\r\n354 go\r\n")
    session.connection_lost(ConnectionResetError())
    session.connection_lost(None)
    before = len(pipe.writes)
    session.data_received(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    session.quit()
    session.resume_writing()
    assert len(pipe.writes) == before
    assert len(few.reasons) == 1


async def test_a_resting_connection_that_is_told_anything_is_over() -> None:
    session, pipe, few = ready(1)
    session.data_received(b"250 ok\r\n250 ok\r\n354 go\r\n")
    session.data_received(b"250 ok\r\n")
    session.data_received(b"421 4.4.2 idle too long\r\n")
    assert (pipe.is_cut, session.is_leaving) == (True, True)
    assert few.reasons == [Deferred("connection_failed", "the server ended the session")]


ANSWERS = b"250 ok\r\n250-2.1.5 long\r\n250 2.1.5 ok\r\n354 go\r\n"
MORE = b"250 2.0.0 queued as A\r\n250 ok\r\n450-4.2.1 not\r\n450 4.2.1 now\r\n554 none\r\n"


@given(st.sets(st.integers(1, len(ANSWERS) - 1), max_size=8), st.sets(st.integers(1, len(MORE) - 1), max_size=8))
def test_answers_mean_the_same_in_whatever_pieces_they_come(first: set[int], second: set[int]) -> None:
    async def run() -> dict[str, Outcome]:
        session, _, few = ready(2)
        for stream, cuts in ((ANSWERS, first), (MORE, second)):
            edges = [0, *sorted(cuts), len(stream)]
            for begin, end in pairwise(edges):
                session.data_received(stream[begin:end])
        return few.recorder.outcomes

    assert asyncio.run(run()) == {
        "m0@b.c": Accepted("A"),
        "m1@b.c": Deferred("server_deferred", "RCPT: 450 4.2.1 not 4.2.1 now", is_soft=True),
    }


@pytest.mark.parametrize(
    "noise",
    [b"HTTP/1.1 400\r\n", b"25\r\n", b"\r\n", b"999 no\r\n", b"250-a\r\n251 b\r\n", b"x" * 5000, b"150 early\r\n"],
)
async def test_what_is_no_reply_ends_the_connection(noise: bytes) -> None:
    wire = Wire()
    pipe = Pipe()
    wire.connection_made(pipe)
    wire.data_received(noise)
    assert pipe.is_cut
    assert wire.failure is not None
    assert wire.failure.cause == "protocol_error"


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_no_bytes_whatever_raise_or_grow_without_bound(chunks: list[bytes]) -> None:
    async def run() -> None:
        wire = Wire()
        wire.connection_made(Pipe())
        for chunk in chunks:
            wire.data_received(chunk)

    asyncio.run(run())


async def test_a_question_after_the_end_gets_the_reason_at_once() -> None:
    wire = Wire()
    wire.connection_made(Pipe())
    wire.data_received(b"220 hello\r\n")
    wire.connection_lost(None)
    assert await wire.ask(b"", 5) == Reply(220, b"220 hello\r")
    assert await wire.ask(b"EHLO x\r\n", 5) == Deferred("connection_failed", "the server hung up")
