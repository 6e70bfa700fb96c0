"""Returns by SMTP: only to addresses of ours, kept before 250, applied once; strangers can say nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.signing import ReturnSigner
from outrider.domain.callbacks import take
from outrider.engine.inbound.reports import apply_due
from outrider.interfaces.returns import serve
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit.api import Api, runtime_for
from tests.kit.smtp_talk import Talk
from tests.kit.tracking import Mail
from tests.unit.plugins.providers.test_smtp_reports import complaint, dsn, failed

_BOUND_S = 60.0


@dataclass
class Returns:
    """A running listener, and messages that went out."""

    address: tuple[str, int]
    mail: Mail
    signer: ReturnSigner

    def to(self, number: int = 0) -> str:
        """Where a message comes back."""
        return f"{self.signer.sign(DEFAULT_TENANT, self.mail.ids[number])}@bounces.example.org"

    @asynccontextmanager
    async def talk(self) -> AsyncIterator[Talk]:
        async with Talk(self.address) as talk:
            await talk.say(b"EHLO mx.example.net\r\n", expect=250)
            yield talk

    async def bring(self, letter: bytes, *to: str, sender: str = "", expect: int = 250) -> bytes:
        """One whole transaction; gives the answer to its dot."""
        async with self.talk() as talk:
            await talk.say(f"MAIL FROM:<{sender}>\r\n".encode(), expect=250)
            for each in to or (self.to(),):
                await talk.say(f"RCPT TO:<{each}>\r\n".encode(), expect=250)
            await talk.say(b"DATA\r\n", expect=354)
            return await talk.say(letter.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n", expect=expect)

    async def apply(self) -> int:
        async with self.mail.api.engine() as uow:
            return await apply_due(uow)

    async def rows(self, sql: str, *arguments: Any) -> list[Any]:
        async with self.mail.api.engine() as uow:
            return list(await uow.raw.fetch(sql, *arguments))

    async def state(self, number: int = 0) -> tuple[str, str | None]:
        (row,) = await self.rows("SELECT state, code FROM messages WHERE id = $1", self.mail.ids[number])
        return row["state"], row["code"]

    async def suppressed(self) -> dict[str, str]:
        return {row["reason"]: row["source"] for row in await self.rows("SELECT reason, source FROM suppressions")}


@pytest.fixture
async def returns(new_database: Callable[..., str]) -> AsyncIterator[Returns]:
    runtime = runtime_for(new_database("migrated"), returns_port=0, returns_max_bytes=50_000)
    runtime = replace(runtime, providers={"smtp": PROVIDER})
    where: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(runtime, ready=where.set_result, stop=stop))
    try:
        async with asyncio.timeout(_BOUND_S):
            await asyncio.wait([serving, asyncio.ensure_future(where)], return_when=asyncio.FIRST_COMPLETED)
        if not where.done():
            await serving
        parts = urlsplit(await where)
        mail = await Mail.open(Api("", runtime), 3)
        signer = ReturnSigner(runtime.keyring.derive("returns"))
        yield Returns((str(parts.hostname), int(parts.port or 0)), mail, signer)
    finally:
        stop.set()
        async with asyncio.timeout(_BOUND_S):
            await serving
        await runtime.db.close()


async def test_a_bounce_ends_its_message_and_its_address(returns: Returns) -> None:
    assert b"5.1.1" in await returns.bring(failed("5.1.1", "smtp; 550 nobody here"))
    assert await returns.apply() == 1
    assert await returns.state() == ("bounced", "mailbox_unavailable")
    assert await returns.state(1) == ("sent", None), "nobody else"
    assert await returns.suppressed() == {"hard_bounce": "callback"}


async def test_the_same_letter_again_changes_nothing(returns: Returns) -> None:
    for _ in range(3):
        await returns.bring(failed("5.1.1"))
    assert await returns.apply() == 1
    assert await returns.apply() == 0
    (row,) = await returns.rows("SELECT repeats, state FROM webhook_events")
    assert (row["repeats"], row["state"]) == (2, "applied")


async def test_a_full_mailbox_ends_the_message_and_not_the_address(returns: Returns) -> None:
    await returns.bring(failed("5.2.2"))
    await returns.apply()
    assert (await returns.state())[0] == "bounced"
    assert await returns.suppressed() == {}


async def test_a_complaint_ends_the_address_and_not_the_message(returns: Returns) -> None:
    await returns.bring(complaint("abuse"), sender="feedback@example.net")
    await returns.apply()
    assert await returns.state() == ("sent", None)
    assert await returns.suppressed() == {"complaint": "callback"}


@pytest.mark.parametrize(
    ("letter", "said"),
    [
        (dsn("Action: delayed\r\nStatus: 4.4.1"), b"delayed"),
        (b"Auto-Submitted: auto-replied\r\n\r\nAway. 5.1.1", b"reply"),
        (b"Subject: hi\r\n\r\nhow are you", b"unknown"),
    ],
)
async def test_what_is_no_end_changes_nothing(returns: Returns, letter: bytes, said: bytes) -> None:
    assert said in await returns.bring(letter)
    await returns.apply()
    assert await returns.state() == ("sent", None)
    assert await returns.suppressed() == {}
    assert len(await returns.rows("SELECT FROM webhook_events")) == 1, "it is kept, to be looked at"


async def test_one_letter_may_be_about_several_messages(returns: Returns) -> None:
    await returns.bring(failed("5.1.1"), returns.to(0), returns.to(2).upper(), returns.to(0))
    assert await returns.apply() == 2
    assert [(await returns.state(n))[0] for n in range(3)] == ["bounced", "sent", "bounced"]


async def test_what_a_letter_claims_about_other_messages_counts_for_nothing(returns: Returns) -> None:
    back = f"X-Outrider-Message: {returns.mail.ids[1]}\r\nMessage-ID: <{returns.mail.ids[1]}@example.org>"
    await returns.bring(dsn("Action: failed\r\nStatus: 5.1.1\r\nFinal-Recipient: rfc822; p1@b.example", back=back))
    await returns.apply()
    assert [(await returns.state(n))[0] for n in range(3)] == ["bounced", "sent", "sent"]


async def test_only_addresses_of_ours_are_taken_and_guessing_ends_the_talk(returns: Returns) -> None:
    forged = ReturnSigner(b"x" * 32).sign(DEFAULT_TENANT, returns.mail.ids[0])
    async with returns.talk() as talk:
        await talk.say(b"MAIL FROM:<>\r\n", expect=250)
        for local_part in ("postmaster", "p0", forged, "a" * 60):
            await talk.say(f"RCPT TO:<{local_part}@bounces.example.org>\r\n".encode(), expect=550)
        await talk.say(b"DATA\r\n", expect=554)
        await talk.say(b"RCPT TO:<x@bounces.example.org>\r\n")
        await talk.hear(550, 421)
    assert not await returns.rows("SELECT FROM webhook_events")


async def test_a_message_that_is_gone_is_answered_and_nothing_is_kept(returns: Returns) -> None:
    gone = f"{returns.signer.sign(DEFAULT_TENANT, uuid4())}@bounces.example.org"
    nobody = f"{returns.signer.sign(UUID(int=5), returns.mail.ids[0])}@bounces.example.org"
    await returns.bring(failed("5.1.1"), gone, nobody)
    assert not await returns.rows("SELECT FROM webhook_events")
    assert await returns.state() == ("sent", None)


async def test_without_a_database_it_is_brought_again(returns: Returns, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_arguments: object) -> None:
        raise Unavailable("database_unavailable", "away")

    with monkeypatch.context() as patch:
        patch.setattr(take, "take_in", away)
        await returns.bring(failed("5.1.1"), expect=451)
    assert not await returns.rows("SELECT FROM webhook_events")
    await returns.bring(failed("5.1.1"))
    assert await returns.apply() == 1


async def test_what_is_too_large_or_out_of_order_is_refused(returns: Returns) -> None:
    await returns.bring(failed("5.1.1") + b"x" * 60_000, expect=552)
    async with returns.talk() as talk:
        await talk.say(b"RCPT TO:<x@y.example>\r\n", expect=503)
        await talk.say(b"DATA\r\n", expect=503)
        await talk.say(b"MAIL FROM:<> SIZE=60000\r\n", expect=552)
        await talk.say(b"MAIL FROM:<>\r\n", expect=250)
        await talk.say(b"MAIL FROM:<>\r\n", expect=503)
        await talk.say(b"AUTH PLAIN AA==\r\n", expect=500)
        await talk.say(b"STARTTLS\r\n", expect=502)
        await talk.say(b"QUIT\r\n", expect=221)
    assert not await returns.rows("SELECT FROM webhook_events")
