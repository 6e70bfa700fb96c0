"""F75 at random: whatever a server does, each message is settled once and nothing it took is called unsent."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from outrider.contracts.outcome import Accepted, Uncertain, Unsent
from outrider.contracts.provider import Outgoing, Transport
from tests.kit.smtp_faults import EXTENSIONS, Action, Close, Event, Hang, SmtpFaults
from tests.kit.smtp_sending import STOP_AND_WAIT, open_transport
from tests.kit.watching import Recorder, on_both_loops, outgoing

MESSAGES, BATCH = 2000, 50
LINE = b"." + b"x" * 700 + b"\r\n"
ENVELOPE_FAULTS: tuple[Action, ...] = (
    b"421 4.3.2 leaving\r\n",
    b"451 4.7.1 greylisted\r\n",
    b"550 5.1.1 unknown\r\n",
    b"not smtp at all\r\n",
    b"250-half an answer\r\n",
    Close(),
    Close(b"421 4.3.2 leaving\r\n"),
    Close(b"250 2.0.0 ok\r\n"),
)
FAULTS: dict[str, tuple[Action, ...]] = {
    "banner": (Close(), b"554 5.3.2 no\r\n", b"421 4.3.2 busy\r\n"),
    "ehlo": (Close(), b"421 4.3.2 busy\r\n"),
    "mail": ENVELOPE_FAULTS,
    "rcpt": ENVELOPE_FAULTS,
    "data": (*ENVELOPE_FAULTS[:-1], Close(b"354 go ahead\r\n"), b"250 what?\r\n"),
    "dot": (
        b"421 4.3.2 leaving\r\n",
        b"451 4.3.0 later\r\n",
        b"554 5.7.1 spam\r\n",
        Close(),
        Close(is_taken=True),
        Close(b"250 2.0.0 taken\r\n"),
        Close(b"451 4.3.0 later\r\n"),
        Close(b"garbage\r\n", is_taken=True),
        Hang(is_taken=True),
        Hang(),
    ),
    "rset": (Close(), b"500 5.5.1 what?\r\n"),
    "quit": (Close(),),
}


def batch(number: int) -> list[Outgoing]:
    """Fifty messages, each with a body of its own, one of them long."""
    return [
        outgoing(f"m{n}@example.com", b"Subject: %d\r\n\r\n" % n + LINE * (300 if n % BATCH == 7 else n % 9))
        for n in range(number * BATCH, (number + 1) * BATCH)
    ]


async def send_one_batch(transport: Transport, messages: list[Outgoing], recorder: Recorder, *, is_cut: bool) -> None:
    """Send, and in some cases stop waiting once half of it is settled."""
    sending = asyncio.create_task(transport.send(messages, recorder))
    if is_cut:
        wanted = len(recorder.settled) + len(messages) // 2
        await recorder.until(lambda: len(recorder.settled) >= wanted or sending.done(), bound_s=120)
        sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending
    assert all(message.address in recorder.settled for message in messages)


@on_both_loops
@pytest.mark.parametrize(
    ("extensions", "seed"), [(EXTENSIONS, 20261), (STOP_AND_WAIT, 20262)], ids=["pipelined", "stop-and-wait"]
)
async def test_random_faults_over_2000_messages_lose_none_and_miscount_none(
    extensions: tuple[str, ...], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.plugins.providers.smtp.transport._BACK_OFF_S", 0.02)
    chance = random.Random(seed)  # noqa: S311 - faults, not secrets

    def script(event: Event) -> Action:
        rate = 0.005 if event.stage in ("banner", "ehlo") else 0.015
        return chance.choice(FAULTS[event.stage]) if chance.random() < rate else None

    withheld: set[str] = set()

    def withhold(message: Outgoing) -> str | None:
        if chance.random() < 0.01:
            withheld.add(message.address)
            return "withdrawn"
        return None

    recorder = Recorder(withhold)
    async with SmtpFaults(script, extensions=extensions) as server:
        transport = open_transport(server, connections=8, command_timeout_s=0.1, data_timeout_s=0.1)
        for group in range(0, MESSAGES // BATCH, 8):
            await asyncio.gather(
                *(
                    send_one_batch(transport, batch(number), recorder, is_cut=number % 11 == 10)
                    for number in range(group, group + 8)
                )
            )
        await transport.close()
    outcomes = recorder.outcomes
    taken = {message.recipient: message.body for message in server.accepted}
    accepted = {address for address, outcome in outcomes.items() if isinstance(outcome, Accepted)}
    uncertain = {address for address, outcome in outcomes.items() if isinstance(outcome, Uncertain)}
    assert len(outcomes) == MESSAGES
    assert len(server.accepted) == len(taken), "a message was taken twice"
    assert accepted <= taken.keys() <= accepted | uncertain
    bodies = {message.address: message.body for number in range(MESSAGES // BATCH) for message in batch(number)}
    assert all(body == bodies[address] for address, body in taken.items())
    assert {address for address, outcome in outcomes.items() if outcome == Unsent("withdrawn")} <= withheld
    assert not withheld & taken.keys()
    assert len(accepted) > MESSAGES / 10, "the faults drowned the test"
    assert uncertain
