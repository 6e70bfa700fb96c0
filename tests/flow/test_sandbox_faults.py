"""Faults on request: each does what its rule says, and the ledger accounts for each."""

from __future__ import annotations

import asyncio
import smtplib
from pathlib import Path
from typing import Any, get_args

import pytest

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox import Sandbox, SandboxOptions
from outrider.interfaces.sandbox.rules import (
    AnyRule,
    Defer,
    Drop,
    EagerData,
    Greylist,
    Hang,
    Multiline,
    No8bitmime,
    NoPipelining,
    NoSmtputf8,
    Refuse,
    SizeLimit,
    Slow,
    parse_rules,
)
from tests.kit.smtp_talk import ENVELOPE, MESSAGE, Talk, open_sandbox, records, summary, until, with_smtplib

HELLO = b"EHLO client.test\r\n"
STEPS = {
    "ehlo": (HELLO, 250),
    "mail": (b"MAIL FROM:<from@example.org>\r\n", 250),
    "rcpt": (b"RCPT TO:<ana@example.org>\r\n", 250),
    "data": (b"DATA\r\n", 354),
    "dot": (MESSAGE + b".\r\n", 250),
}
"""The stages after the banner: what the client says and what it hears when nothing is wrong."""


async def walk_to(talk: Talk, stage: str) -> bytes:
    """Say everything before a stage; gives what is to be said there."""
    for name, (line, code) in STEPS.items():
        if name == stage:
            return line
        await talk.say(line, expect=code)
    raise AssertionError(stage)


@pytest.mark.parametrize("stage", ["banner", *STEPS])
@pytest.mark.parametrize("code", [421, 451, 550])
async def test_a_session_is_refused_or_deferred_at_any_stage(tmp_path: Path, stage: Any, code: int) -> None:
    rule = Refuse(stage=stage, code=code, text="go\naway") if code > 500 else Defer(stage=stage, code=code)
    async with open_sandbox(tmp_path, rule) as sandbox:
        async with Talk(sandbox.addresses.smtp, is_greeting_heard=stage != "banner") as talk:
            line = b"" if stage == "banner" else await walk_to(talk, stage)
            answer = await talk.say(line, expect=code)
            assert answer.count(b"\r\n") == (2 if code == 550 else 1)
            if code == 421 or stage == "banner":
                assert await talk.ended() == b""
            else:
                await talk.say(b"NOOP\r\n", expect=250)
        rcpt = "ana@example.org" if stage in {"rcpt", "data", "dot"} else None
        assert summary(sandbox) == [("refused" if code == 550 else "deferred", stage, rcpt)]
        assert records(sandbox)[0].fault == ("1-refuse" if code == 550 else "1-defer")


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "before_dot", "after_dot"])
async def test_a_connection_is_dropped_at_any_stage(tmp_path: Path, stage: Any) -> None:
    async with open_sandbox(tmp_path, Drop(stage=stage, times=1), keeps_bodies=True) as sandbox:
        async with Talk(sandbox.addresses.smtp, is_greeting_heard=stage != "banner") as talk:
            if stage != "banner":
                line = await walk_to(talk, "dot" if stage.endswith("_dot") else stage)
                await talk.say(line.removesuffix(b".\r\n") if stage == "before_dot" else line)
            assert await talk.ended() == b""
        rcpt = "ana@example.org" if stage in {"rcpt", "data", "before_dot", "after_dot"} else None
        outcome = "dropped_after_dot" if stage == "after_dot" else "dropped_before_dot"
        assert summary(sandbox) == [(outcome, stage, rcpt)]
        record = records(sandbox)[0]
        assert record.is_taken is (stage == "after_dot")
        assert record.message_id == ("<m1@example.org>" if stage.endswith("_dot") else None)
        assert (record.body_bytes == len(MESSAGE)) is (stage == "after_dot")
        assert sandbox.house.stats()["dropped"] == 1
        await with_smtplib(sandbox, lambda client: client.sendmail("a@b", "c@d", MESSAGE))


async def test_only_the_recipients_of_a_pattern_are_refused(tmp_path: Path) -> None:
    rule = Refuse(recipient="*@bounce.example", code=553, enhanced="5.1.3", text="No such box")
    async with open_sandbox(tmp_path, rule) as sandbox:

        def send(client: smtplib.SMTP) -> dict[str, tuple[int, bytes]]:
            return client.sendmail("a@b", ["x@bounce.example", "ana@example.org"], MESSAGE)

        assert await with_smtplib(sandbox, send) == {"x@bounce.example": (553, b"5.1.3 No such box")}
        assert summary(sandbox) == [("refused", "rcpt", "x@bounce.example"), ("accepted", "dot", "ana@example.org")]


async def test_greylisting_takes_the_second_attempt(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, Greylist()) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<c@d>\r\n")
        await talk.hear(250, 450, 250)
        assert summary(sandbox) == [("deferred", "rcpt", "c@d")]


async def test_a_hang_at_the_dot_records_first_and_answers_later(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, Hang(seconds=1.5)) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        line = await walk_to(talk, "dot")
        answer = asyncio.create_task(talk.say(line + b"NOOP\r\n", expect=250))
        await until(lambda: bool(summary(sandbox)))
        assert not answer.done()
        assert b"queued as" in await answer
        await talk.hear(250)
        assert [(record.outcome, record.fault) for record in records(sandbox)] == [("accepted", "1-hang")]


async def test_a_client_that_gives_up_on_a_hang_left_a_message(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, Hang(seconds=600)) as sandbox:
        async with Talk(sandbox.addresses.smtp) as talk:
            await talk.say(await walk_to(talk, "dot"))
            await until(lambda: bool(summary(sandbox)))
        await until(lambda: not sandbox.house.sessions)
        assert summary(sandbox) == [("accepted", "dot", "ana@example.org")]


async def test_slow_answers_come_in_order(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, Slow(delay_ms=20)) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b>\r\nRCPT TO:<bad>\r\nRCPT TO:<c@d>\r\nDATA\r\n")
        await talk.hear(250, 501, 250, 354)
        await talk.say(MESSAGE + b".\r\nQUIT\r\n")
        await talk.hear(250, 221)
        assert sandbox.house.stats()["fault_hits"] == {"1-slow": 6}


@pytest.mark.parametrize("stage", ["banner", "mail", "rcpt", "data", "dot"])
async def test_answers_may_have_three_lines(tmp_path: Path, stage: Any) -> None:
    async with open_sandbox(tmp_path, Multiline(stage=stage)) as sandbox:
        await with_smtplib(sandbox, lambda client: client.sendmail("a@b", "c@d", MESSAGE))
        async with Talk(sandbox.addresses.smtp, is_greeting_heard=False) as talk:
            if stage == "banner":
                answer = await talk.hear(220)
            else:
                await talk.hear(220)
                answer = await talk.say(await walk_to(talk, stage), expect=STEPS[stage][1])
        assert answer.count(b"\r\n") == 3


async def test_a_server_without_pipelining_refuses_those_who_do_it(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, NoPipelining()) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        assert b"PIPELINING" not in await talk.say(HELLO, expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 503)
        assert await talk.ended() == b""
        await with_smtplib(sandbox, lambda client: client.sendmail("a@b", "c@d", MESSAGE))


async def test_a_server_without_8bitmime_takes_seven_bits_only(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, No8bitmime()) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        assert b"8BITMIME" not in await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b> BODY=8BITMIME\r\n", expect=555)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say("Subject: ü\r\n\r\n.\r\n".encode(), expect=554)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE + b".\r\n", expect=250)


async def test_a_server_without_smtputf8_refuses_the_parameter(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, NoSmtputf8()) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        assert b"SMTPUTF8" not in await talk.say(HELLO, expect=250)
        await talk.say(b"MAIL FROM:<a@b> SMTPUTF8\r\n", expect=555)


@pytest.mark.parametrize(("is_advertised", "code"), [(True, 552), (False, 250)])
async def test_a_size_limit_may_be_hidden(tmp_path: Path, *, is_advertised: bool, code: int) -> None:
    rule = SizeLimit(size_bytes=50, is_advertised=is_advertised)
    async with open_sandbox(tmp_path, rule) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        assert (b"SIZE 50\r\n" in await talk.say(HELLO, expect=250)) is is_advertised
        await talk.say(b"MAIL FROM:<a@b> SIZE=60\r\n", expect=code)
        await talk.say(b"RSET\r\n", expect=250)
        await talk.say(ENVELOPE)
        await talk.hear(250, 250, 354)
        await talk.say(MESSAGE + b".\r\n", expect=552)


async def test_data_may_be_accepted_for_nobody(tmp_path: Path) -> None:
    async with open_sandbox(tmp_path, Refuse(stage="rcpt"), EagerData()) as sandbox:
        async with Talk(sandbox.addresses.smtp) as talk:
            await talk.say(HELLO, expect=250)
            await talk.say(ENVELOPE)
            await talk.hear(250, 550, 354)
            await talk.say(b".\r\n", expect=554)
        assert summary(sandbox) == [("refused", "rcpt", "ana@example.org")]


async def test_rules_of_a_file_hold_as_soon_as_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"

    def put(text: str) -> None:
        fresh = tmp_path / "fresh.json"
        fresh.write_text(text)
        fresh.replace(path)

    async with open_sandbox(tmp_path, faults_path=path) as sandbox, Talk(sandbox.addresses.smtp) as talk:
        await talk.say(HELLO, expect=250)
        await talk.say(STEPS["mail"][0], expect=250)
        await talk.say(STEPS["rcpt"][0], expect=250)
        put('{"rules": [{"action": "refuse", "name": "no"}]}')
        await until(lambda: sandbox.house.stats()["rules"] == ["no"])
        await talk.say(STEPS["rcpt"][0], expect=550)
        put('{"rules": [{"action": "refuse", "code": 9}]}')
        await until(lambda: sandbox.house.stats()["rules_error"] is not None)
        assert "rules[0].code" in sandbox.house.stats()["rules_error"]
        await talk.say(STEPS["rcpt"][0], expect=550)
        path.unlink()
        await until(lambda: sandbox.house.stats()["rules"] == [])
        assert sandbox.house.stats()["rules_error"] is None
        await talk.say(STEPS["rcpt"][0], expect=250)
        assert sandbox.house.stats()["fault_hits"] == {"no": 2}


async def test_a_bad_rules_file_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"rules": [{"action": "burn"}]}')
    with pytest.raises(Misconfigured) as caught:
        await Sandbox(SandboxOptions(ledger_path=tmp_path / "l", smtp_port=0, faults_path=path)).start()
    assert caught.value.field == "rules[0].action"


def test_the_documented_rules_are_rules_and_every_action_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "sandbox.md").read_text()
    block = page.partition("```json\n")[2].partition("```")[0]
    assert len(parse_rules(block.encode())) == 4
    actions = {str(rule.__struct_config__.tag) for rule in get_args(AnyRule)}
    assert len(actions) == 14
    assert {action for action in actions if f"`{action}`" not in page} == set()
