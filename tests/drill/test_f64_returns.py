"""F64 for mail: a bounce comes back to a listener that is killed before its commit, and is brought again."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.kit.drill import Drill
from tests.kit.processes import Process, until
from tests.unit.plugins.providers.test_smtp_reports import failed

pytestmark = pytest.mark.timeout(900)
POINT = "returns.before_commit"


async def _bring(process: Process, address: str) -> bool:
    """Bring a bounce back as a mail server does; whether it was taken, not whether the connection ended."""
    parts = urlsplit(process.where)

    def send() -> bool:
        with smtplib.SMTP(str(parts.hostname), int(parts.port or 0), timeout=90) as client:
            client.ehlo("mx.example.com")
            try:
                client.mail("")
                client.rcpt(address)
                code, answer = client.data(failed("5.1.1"))
            except smtplib.SMTPServerDisconnected:
                return False
            assert code == 250, answer
            return True

    return await asyncio.to_thread(send)


async def test_a_bounce_whose_answer_was_killed_is_applied_once(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        sender = await drill.sender("at_most_once")
        await drill.execute("UPDATE senders SET return_path = '*@bounces.example.org', version = version + 1")
        (message_id,) = await drill.admit(sender, 1, name="gone")
        await drill.worker()
        await drill.drained()
        (record,) = [each for each in drill.provider.read_new() if each.is_taken]
        address = str(record.mail_from)
        assert address.endswith("@bounces.example.org")
        victim = await drill.start("returns", at=f"{POINT}:1:kill", returns_port="0").ready()
        assert not await _bring(victim, address)
        await victim.killed(POINT)
        assert await drill.value("SELECT count(*) FROM webhook_events") == 0
        again = await drill.start("returns", returns_port="0").ready()
        assert await _bring(again, address)
        assert await _bring(again, address), "a server that did not hear the answer brings it once more"

        async def is_bounced() -> bool:
            return bool(await drill.value("SELECT state = 'bounced' FROM messages WHERE id = $1", message_id))

        await until(is_bounced, what="the bounce is applied")
        assert await drill.value("SELECT count(*) FROM webhook_events") == 1
        assert await drill.value("SELECT count(*) FROM suppressions WHERE reason = 'hard_bounce'") == 1
        bounced = await drill.value("SELECT count(*) FROM message_events WHERE kind = 'bounced'")
        assert bounced == 1
