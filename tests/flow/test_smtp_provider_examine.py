"""`doctor`'s examination of an SMTP account: a server broken at exactly one stage is named by that stage."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from outrider.base.errors import Refused
from outrider.contracts.provider import Stage
from outrider.data.egress import Egress
from outrider.plugins.providers.smtp import Smtp
from tests.kit.certificates import server_context
from tests.kit.smtp_faults import Close, Hang, SmtpFaults
from tests.kit.smtp_sending import LOOPBACK, at, contexts
from tests.kit.watching import on_both_loops

LOGIN = ("me", "hunter2-canary")


async def examine(port: int, egress: Egress = LOOPBACK, *, password: str = LOGIN[1], **settings: Any) -> list[Stage]:
    given = {
        "host": "127.0.0.1",
        "port": port,
        "tls": "required",
        "username": "me",
        "command_timeout_s": 0.5,
        **settings,
    }
    stages = [stage async for stage in Smtp(contexts).examine(given, {"password": password}, egress)]
    assert "hunter2" not in repr(stages)
    return stages


def passed(stages: list[Stage]) -> list[tuple[str, bool]]:
    return [(stage.name, stage.is_ok) for stage in stages]


@on_both_loops
async def test_a_sound_account_passes_every_stage_and_sends_nothing() -> None:
    async with SmtpFaults(tls=server_context(), login=LOGIN) as server:
        stages = await examine(server.port)
        assert passed(stages) == [(name, True) for name in ("dns", "tcp", "greeting", "tls", "auth")]
        assert server.said("MAIL") == []
        await server.until(lambda: server.ended == server.connections == 1)
    async with SmtpFaults(tls=server_context(), is_implicit=True, login=LOGIN, auth="LOGIN") as server:
        stages = await examine(server.port, tls="implicit")
        assert passed(stages) == [(name, True) for name in ("dns", "tcp", "tls", "greeting", "auth")]
    async with SmtpFaults() as server:
        stages = await examine(server.port, tls="off", username="")
        assert passed(stages) == [(name, True) for name in ("dns", "tcp", "greeting", "tls", "auth")]
        assert [stage.detail for stage in stages[3:]] == ["not used: tls is off", "not used: no username"]


@on_both_loops
async def test_a_name_that_does_not_resolve_or_may_not_be_dialled_is_dns() -> None:
    async def nothing(_name: str, _port: int) -> list[str]:
        raise OSError

    assert passed(await examine(25, Egress(resolver=nothing), host="mail.example.org")) == [("dns", False)]
    async with SmtpFaults() as server:
        assert passed(await examine(server.port, Egress())) == [("dns", False)]
        assert server.connections == 0


@on_both_loops
async def test_a_port_on_which_nothing_listens_is_tcp() -> None:
    async with SmtpFaults() as server:
        port = server.port
    assert passed(await examine(port)) == [("dns", True), ("tcp", False)]


@on_both_loops
@pytest.mark.parametrize(
    ("stage", "action"),
    [
        ("banner", Close()),
        ("banner", Hang()),
        ("banner", b"554 5.3.2 no service\r\n"),
        ("banner", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ("ehlo", Close(b"421 4.3.2 busy\r\n")),
        ("ehlo", b"550 5.7.1 who are you\r\n"),
    ],
)
async def test_a_server_that_does_not_say_hello_is_greeting(stage: str, action: Any) -> None:
    async with SmtpFaults(at(stage, action), tls=server_context(), login=LOGIN) as server:
        stages = await examine(server.port)
    assert passed(stages) == [("dns", True), ("tcp", True), ("greeting", False)]
    assert "Bad Request" not in stages[-1].detail


@on_both_loops
@pytest.mark.parametrize("fault", ["missing", "refused", "broken", "certificate"])
async def test_starttls_that_is_missing_refused_or_wrong_is_tls(fault: str) -> None:
    answers = {"refused": b"454 4.7.0 later\r\n", "broken": b"220 go\r\nnot tls\r\n"}
    context = {"missing": None, "certificate": server_context("mail.example.org")}.get(fault, server_context())
    async with SmtpFaults(at("starttls", answers.get(fault)), tls=context, login=LOGIN) as server:
        stages = await examine(server.port)
        assert server.said("AUTH") == []
    assert passed(stages) == [("dns", True), ("tcp", True), ("greeting", True), ("tls", False)]


@on_both_loops
async def test_an_implicit_handshake_that_fails_is_tls() -> None:
    async with SmtpFaults(tls=server_context("mail.example.org"), is_implicit=True, login=LOGIN) as server:
        stages = await examine(server.port, tls="implicit")
    assert passed(stages) == [("dns", True), ("tcp", True), ("tls", False)]
    assert "certificate" in stages[-1].detail


@on_both_loops
async def test_a_wrong_password_is_auth_and_is_tried_once() -> None:
    async with SmtpFaults(tls=server_context(), login=LOGIN) as server:
        stages = await examine(server.port, password="wrong")
        assert len(server.said("AUTH")) == 1
    assert passed(stages)[-1] == ("auth", False)
    assert stages[-1].detail == "the server answered 535"
    async with SmtpFaults(login=LOGIN) as server:
        stages = await examine(server.port, tls="off")
        assert server.said("AUTH") == []
    assert passed(stages)[-1] == ("auth", False)


async def test_settings_that_contradict_each_other_name_their_field() -> None:
    with pytest.raises(Refused) as caught:
        Smtp().open({"host": "mail.example.org", "username": "me"}, {}, Egress((ip_network("127.0.0.0/8"),)))
    assert caught.value.field == "settings.password"
    with pytest.raises(Refused) as caught:
        Smtp().open({"host": "mail.example.org", "ehlo_name": "a b"}, {}, Egress())
    assert caught.value.field == "settings.ehlo_name"
