"""F01 for mail programs: the SMTP intake is killed around its commit; who submits again sends nothing twice."""

from __future__ import annotations

import asyncio
import smtplib
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from outrider.data.db import Role
from outrider.domain.tenants import keys
from tests.kit.drill import OPERATOR, Drill, Sender
from tests.kit.processes import Process

pytestmark = pytest.mark.timeout(900)


async def _submit(process: Process, sender: Sender, key: str, name: str) -> UUID | None:
    """Submit one message as a mail program does; gives its id, None when the connection ended without an answer."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "whoever@example.org", f"{name}@example.com", "Hello"
    message["Message-ID"], message["X-Outrider-Sender"] = f"<{name}@example.org>", str(sender.id)
    message.set_content("Hello.\n")
    parts = urlsplit(process.where)

    def send() -> UUID | None:
        with smtplib.SMTP(str(parts.hostname), int(parts.port or 0), timeout=90) as client:
            client.login("drill", key)
            try:
                client.mail("bounce@example.org")
                client.rcpt(f"{name}@example.com")
                code, answer = client.data(message.as_bytes(policy=SMTP))
            except smtplib.SMTPServerDisconnected:
                return None
            assert code == 250, answer
            return UUID(answer.decode().split()[-1])

    return await asyncio.to_thread(send)


@pytest.mark.parametrize(("point", "rows"), [("submission.before_commit", 1), ("submission.committed", 2)])
async def test_a_submission_whose_answer_was_killed_is_accepted_once(point: str, rows: int, tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        sender = await drill.sender("at_most_once")
        async with drill.db.uow(Role.APP, sender.tenant_id) as uow:
            _, key = await keys.create(uow, OPERATOR, name="drill", role="operator", scopes=["messages:write"])
        victim = await drill.start("submission", at=f"{point}:2:kill", submission_port="0").ready()
        first = await _submit(victim, sender, key, "first")
        assert await _submit(victim, sender, key, "second") is None
        await victim.killed(point)
        assert await drill.value("SELECT count(*) FROM messages") == rows
        again = await drill.start("submission", submission_port="0").ready()
        second = await _submit(again, sender, key, "second")
        assert first is not None
        assert second is not None
        assert second == await _submit(again, sender, key, "second")
        drill.client.add((first, second))
        await drill.worker()
        await drill.drained()
        assert len(drill.acceptances()) == 2
        assert await drill.violations() == []
