"""The Twilio provider against the sandbox: the wire, pauses, hang-ups, and what became of lost answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from twilio.request_validator import RequestValidator
from twilio.rest import Client

from outrider.base.clock import boottime_s
from outrider.base.errors import Refused
from outrider.base.fields import check
from outrider.contracts.callbacks import CALLBACK_URL, Finds, Lost
from outrider.contracts.outcome import Accepted, Deferred, Rejected, Uncertain, Unsent
from outrider.contracts.provider import Outgoing, Transport
from outrider.data.egress import Egress
from outrider.interfaces.sandbox.twilio import TwilioOptions, TwilioSandbox
from outrider.interfaces.sandbox.twilio.ledger import TAKEN
from outrider.interfaces.sandbox.twilio.options import Rule
from outrider.plugins.providers.twilio import PROVIDER, finding, form
from tests.kit.texting import texting
from tests.kit.watching import Recorder

PEOPLE = [f"+1415555{n:04}" for n in range(2000, 2030)]
SECRETS = {"auth_token": "token-token"}


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[TwilioSandbox]:
    made = TwilioSandbox(TwilioOptions(ledger_path=tmp_path / "ledger", port=0, auth_token=SECRETS["auth_token"]))
    await made.start()
    yield made
    await made.close()


def opened(sandbox: TwilioSandbox, **more: Any) -> Transport:
    url = more.pop(CALLBACK_URL, None)
    given = {"account_sid": sandbox.options.account_sid, "base_url": sandbox.url, "answer_timeout_s": 30.0, **more}
    settings = check([field for field in PROVIDER.fields if field.kind != "secret"], given)
    return PROVIDER.open({**settings, CALLBACK_URL: url}, SECRETS, Egress((ip_network("127.0.0.0/8"),)))


def text(address: str = PEOPLE[0], body: str = "Hello €", **more: Any) -> Outgoing:
    message = Outgoing(UUID(int=int(address[1:])), address, "+14155550100", body.encode(), address)
    return replace(message, **more)


async def sent(transport: Transport, *messages: Outgoing) -> Recorder:
    watch = Recorder()
    async with asyncio.timeout(90):
        await transport.send(messages, watch)
    return watch


async def test_a_request_says_everything_that_was_decided(
    sandbox: TwilioSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = boottime_s()
    monkeypatch.setattr(form, "boottime_s", lambda: now_s)
    service = "MG" + "a" * 32
    transport = opened(sandbox, messaging_service_sid=service, callback_url="http://127.0.0.1:9/cb/x", validity_s=600)
    watch = await sent(transport, text(), text(PEOPLE[1], until_s=now_s + 90.5))
    await transport.close()
    first, second = sorted(sandbox.ledger.entries, key=lambda entry: entry.to)
    assert watch.outcomes[PEOPLE[0]] == Accepted(first.sid)
    assert (first.to, first.from_, first.text, first.messaging_service_sid) == (
        PEOPLE[0], "+14155550100", "Hello €", service,
    )  # fmt: skip
    assert first.status_callback == f"http://127.0.0.1:9/cb/x?m={text().id}"
    assert first.validity_period == 600
    assert second.validity_period == 89, "it ends a second early: it counts from when the request arrives"


async def test_what_is_over_before_it_could_be_there_is_not_handed_over(sandbox: TwilioSandbox) -> None:
    transport = opened(sandbox)
    watch = await sent(transport, text(until_s=boottime_s() + 1.5), text(PEOPLE[1], until_s=boottime_s() + 60))
    await transport.close()
    assert isinstance(watch.outcomes[PEOPLE[0]], Unsent)
    assert [entry.to for entry in sandbox.ledger.entries] == [PEOPLE[1]]


async def test_what_waits_for_its_phone_for_longer_than_it_is_valid_is_given_up(sandbox: TwilioSandbox) -> None:
    sandbox.rules = [Rule(to=PEOPLE[0], delivered_s=0.2), Rule(delivered_s=30.0)]
    transport = opened(sandbox, validity_s=1)
    await sent(transport, text(), text(PEOPLE[1]))
    await sandbox.settled()
    await transport.close()
    ends = {entry.to: entry.outcome for entry in sandbox.ledger.entries if entry.outcome not in TAKEN}
    assert ends == {PEOPLE[0]: "delivered", PEOPLE[1]: "given_up"}


async def test_the_official_client_is_answered_alike(sandbox: TwilioSandbox) -> None:
    """The sandbox answers whoever is written for the real one."""

    def talk() -> tuple[str, list[str]]:
        client = Client(sandbox.options.account_sid, SECRETS["auth_token"])
        client.http_client.session.trust_env = False
        base = client.api.v2010.domain
        base.base_url = sandbox.url
        made = client.messages.create(to=PEOPLE[0], from_="+14155550100", body="Hi")
        return str(made.sid), [str(each.sid) for each in client.messages.list(to=PEOPLE[0])]

    sid, listed = await asyncio.to_thread(talk)
    assert listed == [sid]
    assert [entry.sid for entry in sandbox.ledger.entries] == [sid]


async def test_callbacks_are_signed_as_the_official_validator_expects(sandbox: TwilioSandbox) -> None:
    got: list[tuple[str, dict[str, str], str]] = []

    async def take(request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        got.append((str(request.url), form, request.headers["X-Twilio-Signature"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/cb", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    transport = opened(sandbox, callback_url=f"http://127.0.0.1:{runner.addresses[0][1]}/cb")
    sandbox.rules = [Rule(copies=2, statuses=["queued", "undelivered"], error_code=30003)]
    await sent(transport, text())
    await sandbox.settled()
    await transport.close()
    await runner.cleanup()
    validator = RequestValidator(SECRETS["auth_token"])
    assert [form["MessageStatus"] for _, form, _ in got] == ["queued", "queued", "undelivered", "undelivered"]
    assert got[-1][1]["ErrorCode"] == "30003"
    assert all(validator.validate(url, form, signature) for url, form, signature in got)


async def test_connections_are_used_again(sandbox: TwilioSandbox) -> None:
    transport = opened(sandbox, connections=2)
    await sent(transport, *(text(address) for address in PEOPLE))
    await sent(transport, *(text(address) for address in PEOPLE))
    pool: Any = transport
    connector = pool._http._session.connector
    assert sum(map(len, connector._conns.values())) <= 2
    await transport.close()
    assert len(sandbox.ledger.entries) == 60


async def test_a_code_to_sign_in_with_goes_before_campaigns_that_wait_for_the_same_account(
    sandbox: TwilioSandbox,
) -> None:
    transport = opened(sandbox, connections=1)
    await sent(transport, text(PEOPLE[0]))
    watch = Recorder()
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for address in PEOPLE[1:7]:
            group.create_task(transport.send([text(address)], watch))
        await watch.until(lambda: bool(watch.begun))
        group.create_task(transport.send([text(PEOPLE[7], is_urgent=True)], watch))
    await transport.close()
    assert [entry.to for entry in sandbox.ledger.entries].index(PEOPLE[7]) <= 3, "with the next, not behind all of them"


async def test_a_429_stops_the_account_for_as_long_as_it_asks_and_one_probes(sandbox: TwilioSandbox) -> None:
    sandbox.rules = [Rule(status=429, code=20429, retry_after_s=30)]
    transport = opened(sandbox, connections=1)
    watch = await sent(transport, *(text(address) for address in PEOPLE))
    assert {type(outcome) for outcome in watch.outcomes.values()} == {Deferred}
    waits = [outcome.after_s for outcome in watch.outcomes.values() if isinstance(outcome, Deferred)]
    assert all(wait is not None and 15 < wait <= 30 for wait in waits)
    assert sandbox.request_count == 1
    await sent(transport, text())
    assert sandbox.request_count == 1
    await transport.close()


@pytest.mark.parametrize("rule", [Rule(status=500, code=20500), Rule(status=502, code=1), Rule(status=503, code=20500)])
async def test_while_it_answers_that_it_fails_one_text_is_in_doubt_and_what_waits_is_not(
    sandbox: TwilioSandbox, rule: Rule
) -> None:
    sandbox.rules = [rule]
    transport = opened(sandbox, connections=4)
    outcomes = list((await sent(transport, *(text(each) for each in PEOPLE[:20]))).outcomes.values())
    assert [type(each) for each in outcomes].count(Uncertain) == 1
    assert [each.cause for each in outcomes if isinstance(each, Deferred)] == ["provider_down"] * 19
    await transport.close()


async def test_what_waits_while_it_fails_waits_as_long_as_it_asks(sandbox: TwilioSandbox) -> None:
    sandbox.rules = [Rule(status=503, code=20500, retry_after_s=30)]
    transport = opened(sandbox, connections=1)
    outcomes = (await sent(transport, *(text(each) for each in PEOPLE[:3]))).outcomes.values()
    await transport.close()
    waits = [each.after_s for each in outcomes if isinstance(each, Deferred)]
    assert len(waits) == 2
    assert all(wait is not None and 15 < wait <= 30 for wait in waits)


async def test_where_it_cannot_be_reached_the_cause_is_its_own_and_not_a_mail_servers(sandbox: TwilioSandbox) -> None:
    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accepts the line and never answers the handshake."""
        hanging.append(writer)

    hanging: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    late = opened(sandbox, base_url=f"https://127.0.0.1:{port}", connect_timeout_s=0.2)
    (outcome,) = (await sent(late, text())).outcomes.values()
    await late.close()
    assert (type(outcome), getattr(outcome, "cause", "")) == (Deferred, "api_timeout")
    for writer in hanging:
        writer.close()
    silent.close()
    await silent.wait_closed()
    away = opened(sandbox, base_url=f"https://127.0.0.1:{port}")
    (outcome,) = (await sent(away, text())).outcomes.values()
    await away.close()
    assert (type(outcome), getattr(outcome, "cause", "")) == (Deferred, "api_unreachable")


async def test_a_refused_account_is_asked_once_and_then_probed(sandbox: TwilioSandbox) -> None:
    sandbox.refuses_everybody = True
    transport = opened(sandbox, connections=8)
    watch = await sent(transport, *(text(address) for address in PEOPLE))
    await transport.close()
    assert sandbox.request_count == 1, "the first request goes alone"
    assert {outcome.cause for outcome in watch.outcomes.values() if isinstance(outcome, Deferred)} == {
        "authentication_failed"
    }
    assert len(watch.outcomes) == len(PEOPLE)


@pytest.mark.parametrize("number", ["+15005550001", "+15005550004", "+15005550009"])
async def test_p24_a_number_that_is_refused_fails_at_the_first_attempt(sandbox: TwilioSandbox, number: str) -> None:
    transport = opened(sandbox)
    watch = await sent(transport, text(number), text())
    await transport.close()
    assert isinstance(watch.outcomes[number], Rejected)
    assert isinstance(watch.outcomes[PEOPLE[0]], Accepted)


@pytest.mark.parametrize(
    ("rule", "is_taken"),
    [
        (Rule(cut="after"), True),
        (Rule(cut="before"), False),
        (Rule(hang_s=30), True),
        (Rule(body="<html>fine</html>"), True),
    ],
    ids=["dropped after it was taken", "dropped before", "never answered", "no answer of the API"],
)
async def test_a_lost_answer_is_uncertain_and_the_provider_is_asked_what_became_of_it(
    sandbox: TwilioSandbox, rule: Rule, *, is_taken: bool
) -> None:
    sandbox.rules = [rule]
    transport = opened(sandbox, answer_timeout_s=1.0 if rule.hang_s else 30.0)
    message = text()
    watch = await sent(transport, message)
    assert isinstance(watch.outcomes[message.address], Uncertain)
    sandbox.rules = []
    if rule.hang_s:  # who asks what became of it waits longer: only the first answer was meant to be late
        await transport.close()
        transport = opened(sandbox)
    assert isinstance(transport, Finds)
    lost = Lost(message.id, message.address, message.envelope_from, message.body, datetime.now(UTC), frozenset())
    found = await transport.find([lost])
    taken = [entry.sid for entry in sandbox.ledger.entries if entry.outcome in TAKEN]
    assert found == {message.id: taken[0] if is_taken else None}
    if is_taken:
        assert await transport.find([replace(lost, known_ids=frozenset(taken))]) == {message.id: None}
        other = replace(lost, body=b"another text")
        assert await transport.find([other]) == {message.id: None}
    await transport.close()


async def test_what_the_provider_took_and_has_not_sent_yet_is_found_and_what_is_older_is_not(
    sandbox: TwilioSandbox,
) -> None:
    sandbox.rules = [Rule(cut="after")]
    transport = opened(sandbox)
    message = text()
    await sent(transport, message)
    (shown,) = sandbox.messages.values()
    shown["date_sent"] = None
    sandbox.rules = []
    assert isinstance(transport, Finds)
    lost = Lost(message.id, message.address, message.envelope_from, message.body, datetime.now(UTC), frozenset())
    assert await transport.find([lost]) == {message.id: shown["sid"]}
    shown["date_created"] = format_datetime(datetime.now(UTC) - timedelta(days=2))
    assert await transport.find([lost]) == {message.id: None}
    await transport.close()


async def test_a_list_of_several_pages_is_read_to_its_end_and_one_that_is_too_long_says_nothing_of_what_it_lacks(
    sandbox: TwilioSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PAGE", 3)
    sandbox.rules = [Rule(cut="after", times=1)]
    transport = opened(sandbox, connections=1)
    first, missing = text(), replace(text(), id=UUID(int=7), body=b"never taken")
    for message in (first, *(text(body=f"text {at}") for at in range(10))):
        await sent(transport, message)
    lost = [Lost(t.id, t.address, t.envelope_from, t.body, datetime.now(UTC), frozenset()) for t in (first, missing)]
    assert isinstance(transport, Finds)
    before, taken = sandbox.request_count, sandbox.ledger.entries[0].sid
    assert await transport.find(lost) == {first.id: taken, missing.id: None}
    assert sandbox.request_count - before == 4, "once for both"
    monkeypatch.setattr(finding, "MOST_PAGES", 3)
    assert await transport.find(lost) == {}, "the rest may have them"
    monkeypatch.setattr(finding, "PAGE", 6)
    monkeypatch.setattr(finding, "MOST_PAGES", 1)
    sandbox.messages[taken]["body"] = "another"
    latest = next(reversed(sandbox.messages.values()))
    latest["body"] = first.body.decode()
    assert await transport.find(lost) == {first.id: latest["sid"]}, "what stands in it was taken"
    await transport.close()


async def test_of_two_alike_of_which_one_was_taken_one_is_found(sandbox: TwilioSandbox) -> None:
    sandbox.rules = [Rule(cut="after", times=1), Rule(cut="before")]
    transport = opened(sandbox, connections=1)
    twins = [text(), replace(text(), id=UUID(int=7))]
    for twin in twins:
        await sent(transport, twin)
    sandbox.rules = []
    lost = [Lost(t.id, t.address, t.envelope_from, t.body, datetime.now(UTC), frozenset()) for t in twins]
    assert isinstance(transport, Finds)
    found = await transport.find(lost)
    assert sorted(sid is None for sid in found.values()) == [False, True]
    await transport.close()


async def test_an_examination_tells_which_stage_fails(sandbox: TwilioSandbox) -> None:
    async def names(**more: Any) -> list[tuple[str, bool]]:
        given = {"account_sid": sandbox.options.account_sid, "base_url": sandbox.url, **more}
        settings = check([field for field in PROVIDER.fields if field.kind != "secret"], given)
        egress = Egress((ip_network("127.0.0.0/8"),))
        return [(stage.name, stage.is_ok) async for stage in PROVIDER.examine(settings, SECRETS, egress)]

    sound = [("connection", True), ("credentials", True), ("account", True), ("callbacks", True)]
    assert await names() == sound
    assert await names(account_sid="AC" + "f" * 32) == [("connection", True), ("credentials", True), ("account", False)]
    sandbox.refuses_everybody = True
    assert await names() == [("connection", True), ("credentials", False)]
    assert await names(base_url="http://127.0.0.1:1") == [("connection", False)]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"account_sid": "AC1"}, "settings.account_sid"),
        ({"base_url": "http://api.example.org"}, "settings.base_url"),
        ({"api_key_sid": "SK" + "0" * 32}, "settings.api_key_secret"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], field: str) -> None:
    given = check(
        [each for each in PROVIDER.fields if each.kind != "secret"], {"account_sid": "AC" + "0" * 32, **settings}
    )
    with pytest.raises(Refused) as refused:
        PROVIDER.open(given, SECRETS, Egress())
    assert refused.value.field == field


async def test_the_sandbox_goes_on_where_it_was(tmp_path: Path, sandbox: TwilioSandbox) -> None:
    transport = opened(sandbox)
    await sent(transport, text())
    await transport.close()
    kept = tmp_path / "copy"
    kept.write_bytes((tmp_path / "ledger").read_bytes())
    again = TwilioSandbox(TwilioOptions(ledger_path=kept, port=0, auth_token=SECRETS["auth_token"]))
    url = await again.start()
    auth = aiohttp.encode_basic_auth(again.options.account_sid, SECRETS["auth_token"])
    async with aiohttp.ClientSession(headers={"Authorization": auth}) as http:
        path = f"{url}/2010-04-01/Accounts/{again.options.account_sid}/Messages.json"
        async with http.get(path) as answer:
            listed = (await answer.json())["messages"]
    await again.close()
    assert [each["sid"] for each in listed] == [sandbox.ledger.entries[0].sid]


@pytest.mark.parametrize("through_service", [False, True])
async def test_an_examination_compares_where_answers_lead_with_where_they_should(
    sandbox: TwilioSandbox, *, through_service: bool
) -> None:
    service = "MG" + "a" * 32

    async def inbound(**leads: str) -> tuple[bool, str]:
        sandbox.leads = leads
        given = {"account_sid": sandbox.options.account_sid, "base_url": sandbox.url}
        if through_service:
            given["messaging_service_sid"] = service
        settings = check([field for field in PROVIDER.fields if field.kind != "secret"], given)
        settings[CALLBACK_URL] = "https://outrider.example.org/cb/twilio/x"
        egress = Egress((ip_network("127.0.0.0/8"),))
        stages = {each.name: each async for each in PROVIDER.examine(settings, SECRETS, egress)}
        return stages["inbound"].is_ok, stages["inbound"].detail

    here = "https://outrider.example.org/cb/twilio/x"
    if through_service:
        assert (await inbound(**{service: here}))[0] is True
        is_ok, detail = await inbound(**{service: "https://demo.example.net/sms?secret=1"})
        assert (await inbound())[0] is False, "there is no such service"
    else:
        assert await inbound() == (True, "the account has no numbers: nobody can answer")
        both = await inbound(**{"+14155550100": here, "+14155550101": "https://demo.example.net/sms"})
        assert both == (True, "1 of 2 lead answers here; elsewhere: +14155550101 to demo.example.net")
        is_ok, detail = await inbound(**{"+14155550100": "https://demo.example.net/sms?secret=1"})
    assert is_ok is False
    assert detail.endswith(f"to demo.example.net; set it to {here}")
    assert "secret" not in detail


async def test_doctor_knows_the_address_that_a_connection_reports_to(
    migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with texting(migrated_url, tmp_path, monkeypatch) as office:
        office.sandbox.leads = {"+14155550100": office.callback_url}
        told = await office.owner.post(f"/api/v1/connections/{office.connection['id']}/examine")
        stages = {each["name"]: each for each in told.json["stages"]}
        assert stages["callbacks"]["detail"] == "status callbacks are asked for"
        assert stages["inbound"]["is_ok"] is True, stages
