"""The Resend provider against the sandbox: what shares a request, pace, keys, lost answers, examination."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Unavailable
from outrider.base.fields import check
from outrider.contracts.callbacks import Finds, Lost
from outrider.contracts.outcome import Accepted, Deferred, Rejected, Uncertain, Unsent
from outrider.contracts.provider import Outgoing, Repeats, Stage, Transport
from outrider.data.egress import Egress
from outrider.interfaces.sandbox.resend import ResendOptions, ResendSandbox
from outrider.interfaces.sandbox.resend.options import Rule
from outrider.plugins.providers.resend import PROVIDER
from tests.kit.watching import Recorder, outgoing

KEY = "re_test"
EGRESS = Egress((ip_network("127.0.0.0/8"),))
FILE = (
    b'From: a@example.org\r\nSubject: hello\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n\r\n"
    b"--b\r\nContent-Type: text/csv\r\nContent-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="a"\r\n'
    b"\r\nYQ==\r\n\r\n--b--\r\n"
)


def lacks(state: str) -> str:
    """The records of a domain in a state."""
    return f"SPF (MX send): {state}, SPF (TXT send): {state}, DKIM (TXT resend._domainkey): {state}"


@asynccontextmanager
async def running(folder: Path, **options: Any) -> AsyncIterator[ResendSandbox]:
    made = ResendSandbox(ResendOptions(ledger_path=folder / "emails", port=0, api_key=KEY, **options))
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[ResendSandbox]:
    async with running(tmp_path) as made:
        yield made


def settings_of(sandbox: ResendSandbox, **more: Any) -> dict[str, Any]:
    given = {"base_url": sandbox.url, "answer_timeout_s": 30.0, "requests_per_s": 500, **more}
    return check([field for field in PROVIDER.fields if field.kind != "secret"], given)


def opened(sandbox: ResendSandbox, **more: Any) -> Transport:
    """A transport that waits for long, unless silence is what it is to hear: both share one event loop."""
    if any(rule.hang_s for rule in sandbox.rules):
        more = {"answer_timeout_s": 1.0, **more}
    return PROVIDER.open(settings_of(sandbox, **more), {"api_key": KEY}, EGRESS)


async def sent(transport: Transport, *messages: Outgoing, watch: Recorder | None = None) -> Recorder:
    watch = watch or Recorder()
    async with asyncio.timeout(90):
        await transport.send(messages, watch)
    return watch


def people(count: int) -> list[Outgoing]:
    return [outgoing(f"p{n}@example.com") for n in range(count)]


def requests(sandbox: ResendSandbox) -> list[int]:
    """How many emails each request held, in order."""
    numbers = [entry.request for entry in sandbox.ledger.entries]
    return [numbers.count(number) for number in dict.fromkeys(numbers)]


async def test_what_waits_shares_requests_of_a_hundred_and_one_alone_goes_alone(sandbox: ResendSandbox) -> None:
    transport = opened(sandbox, connections=1)
    watch = await sent(transport, *people(205))
    await sent(transport, outgoing("single@example.com"))
    await transport.close()
    assert requests(sandbox) == [100, 100, 5, 1]
    assert len(sandbox.taken) == 206
    ids = {entry.to: entry.id for entry in sandbox.taken}
    assert all(watch.outcomes[m.address] == Accepted(ids[m.address]) for m in people(205))
    assert {entry.key for entry in sandbox.taken if entry.to == "single@example.com"} == {"key-single@example.com"}


async def test_a_password_mail_goes_before_campaigns_that_wait_for_the_same_account(sandbox: ResendSandbox) -> None:
    transport = opened(sandbox, connections=1)
    await sent(transport, outgoing("first@example.com"))
    watch, urgent = Recorder(), outgoing("urgent@example.com")
    urgent.is_urgent = True
    async with asyncio.timeout(90), asyncio.TaskGroup() as group:
        for message in people(6):
            group.create_task(transport.send([message], watch))
        await watch.until(lambda: bool(watch.begun))
        group.create_task(transport.send([urgent], watch))
    await transport.close()
    assert watch.order.index(urgent.address) <= 2, "with the next, not behind all of them"


async def test_every_request_is_written_down_before_it_is_made(sandbox: ResendSandbox) -> None:
    class Refusing(Recorder):
        async def keep_key(self, key: str, messages: Any) -> str | None:
            await super().keep_key(key, messages)
            return "the database is away"

    transport = opened(sandbox)
    watch = await sent(transport, *people(7))
    assert list(watch.keys.values()) == [[message.address for message in people(7)]]
    assert {entry.key for entry in sandbox.taken} == set(watch.keys)
    nothing = await sent(transport, *people(7), watch=Refusing())
    await transport.close()
    assert set(nothing.outcomes.values()) == {Unsent("the database is away")}
    assert nothing.begun == []
    assert len(sandbox.taken) == 7


async def test_files_go_alone_and_hold_up_nobody(sandbox: ResendSandbox) -> None:
    transport = opened(sandbox, connections=1)
    with_file = replace(outgoing("file@example.com"), body=FILE)
    watch = await sent(transport, *people(3), with_file, *[outgoing(f"q{n}@example.com") for n in range(3)])
    await transport.close()
    assert all(isinstance(outcome, Accepted) for outcome in watch.outcomes.values())
    assert sorted(requests(sandbox)) == [1, 6]


async def test_one_bad_email_of_many_is_refused_alone(sandbox: ResendSandbox) -> None:
    sandbox.rules = [Rule(to="p3@*", invalid=True)]
    transport = opened(sandbox)
    watch = await sent(transport, *people(10))
    await transport.close()
    refused = [address for address, outcome in watch.outcomes.items() if isinstance(outcome, Rejected)]
    assert refused == ["p3@example.com"]
    assert len(sandbox.taken) == 9
    assert requests(sandbox) == [9], "nothing went twice"


async def test_a_batch_that_is_refused_for_one_of_it_goes_in_halves(sandbox: ResendSandbox) -> None:
    sandbox.rules = [Rule(to="p3@*", status=422, name="validation_error")]
    transport = opened(sandbox)
    watch = await sent(transport, *people(10))
    await transport.close()
    refused = [address for address, outcome in watch.outcomes.items() if isinstance(outcome, Rejected)]
    assert refused == ["p3@example.com"]
    assert sorted(entry.to for entry in sandbox.taken) == sorted({m.address for m in people(10)} - {"p3@example.com"})


async def test_what_cannot_be_read_is_rejected_and_the_others_go(sandbox: ResendSandbox) -> None:
    transport = opened(sandbox)
    watch = await sent(transport, replace(outgoing("bad@example.com"), body=b"x"), *people(2))
    await transport.close()
    assert watch.outcomes["bad@example.com"] == Rejected("request_refused", "the message has no end of its header")
    assert len(sandbox.taken) == 2


# keys and lost answers


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize(
    "rule",
    [
        Rule(cut="after", times=1), Rule(cut="before", times=1), Rule(body="<html>", times=2), Rule(body="{", times=1),
        Rule(status=500, name="application_error", times=2), Rule(status=502, name="x", times=1),
        Rule(hang_s=1.2, times=1),
    ],
    ids=["cut after", "cut before", "html", "truncated", "500", "502", "late"],
)  # fmt: skip
async def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_nothing_goes_twice(
    sandbox: ResendSandbox, rule: Rule, count: int
) -> None:
    sandbox.rules = [rule]
    transport = opened(sandbox)
    watch = await sent(transport, *people(count))
    await transport.close()
    known = {entry.to: entry.id for entry in sandbox.taken}
    assert watch.outcomes == {m.address: Accepted(known[m.address]) for m in people(count)}
    assert len(sandbox.taken) == count
    assert len({entry.key for entry in sandbox.ledger.entries}) == 1


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize(
    ("rule", "taken"),
    [
        (Rule(cut="after"), True), (Rule(cut="before"), False), (Rule(body="<html>OK</html>"), True),
        (Rule(body='{"id": "56'), True), (Rule(body="{}"), True), (Rule(hang_s=30), True),
        (Rule(status=409, name="concurrent_idempotent_requests"), False),
    ],
    ids=["reset", "never", "html", "truncated", "no id", "hangs", "under way"],
)  # fmt: skip
async def test_what_stays_unknown_is_no_success_and_can_be_repeated_by_its_key(
    sandbox: ResendSandbox, rule: Rule, count: int, *, taken: bool
) -> None:
    sandbox.rules = [rule]
    transport = opened(sandbox)
    watch = await sent(transport, *people(count))
    assert {type(outcome) for outcome in watch.outcomes.values()} == {Uncertain}
    assert all(isinstance(o, Uncertain) and o.is_keyed and o.cause == "answer_lost" for o in watch.outcomes.values())
    assert len(sandbox.taken) == (count if taken else 0)
    if rule.hang_s:
        await transport.close()
        return
    sandbox.rules = []
    ((key, addresses),) = watch.keys.items()
    assert addresses == [message.address for message in people(count)]
    repeating: Any = transport
    assert isinstance(repeating, Repeats)
    found = await repeating.repeat(key, people(count), lambda: None)
    await transport.close()
    known = {entry.to: entry.id for entry in sandbox.taken}
    assert found == [Accepted(known[message.address]) for message in people(count)]
    assert len(sandbox.taken) == count


async def test_a_key_of_another_request_ends_in_doubt_and_nothing_goes(sandbox: ResendSandbox) -> None:
    transport = opened(sandbox)
    await sent(transport, outgoing("a@example.com"))
    other = replace(outgoing("a@example.com"), body=b"Subject: other\r\n\r\nother\r\n")
    watch = await sent(transport, other)
    await transport.close()
    (outcome,) = watch.outcomes.values()
    assert isinstance(outcome, Uncertain)
    assert (outcome.cause, outcome.is_keyed) == ("idempotency_conflict", True)
    assert len(sandbox.taken) == 1


async def test_keys_are_known_after_a_restart_and_forgotten_after_a_day(tmp_path: Path) -> None:
    for remembers_s, taken in ((86_400.0, 1), (86_400.0, 1), (0.0, 2)):
        async with running(tmp_path, remembers_s=remembers_s) as sandbox:
            transport = opened(sandbox)
            watch = await sent(transport, outgoing("a@example.com"))
            await transport.close()
            assert [entry.id for entry in sandbox.taken][taken - 1 :] == [
                outcome.provider_id for outcome in watch.outcomes.values() if isinstance(outcome, Accepted)
            ]
            assert len(sandbox.taken) == taken


@pytest.mark.parametrize(("status", "name"), [(401, "missing_api_key"), (429, "rate_limit_exceeded")])
async def test_a_repetition_that_is_not_taken_now_says_nothing_of_the_request(
    sandbox: ResendSandbox, status: int, name: str
) -> None:
    sandbox.rules = [Rule(status=status, name=name)]
    transport: Any = opened(sandbox)
    assert await transport.repeat("batch-x", people(3), lambda: None) is None
    sandbox.rules = []
    other: Any = opened(sandbox)
    assert await other.repeat("batch-x", people(3), lambda: "paused") is None
    assert sandbox.taken == []
    await transport.close()
    await other.close()


@pytest.mark.parametrize("count", [1, 30])
async def test_a_domain_that_lost_its_rights_since_says_nothing_of_a_request_that_was_taken(
    sandbox: ResendSandbox, count: int
) -> None:
    lost, refused = Rule(cut="after", times=1), Rule(status=403, name="validation_error")
    sandbox.rules = [lost, refused]
    transport: Any = opened(sandbox)
    watch = await sent(transport, *people(count))
    assert len(sandbox.taken) == count
    assert {type(outcome) for outcome in watch.outcomes.values()} == {Uncertain}, "it went, whatever is said now"
    ((key, _addresses),) = watch.keys.items()
    assert await transport.repeat(key, people(count), lambda: None) is None
    sandbox.rules = []
    found = await transport.repeat(key, people(count), lambda: None)
    await transport.close()
    assert found == [Accepted(entry.id) for entry in sandbox.taken]
    assert len(sandbox.taken) == count


# pace


async def test_requests_keep_to_the_limit_that_answers_name(tmp_path: Path) -> None:
    async with running(tmp_path, requests_per_s=5) as sandbox:
        transport = opened(sandbox, batch_size=1, connections=1)
        watch = await sent(transport, *people(16))
        await transport.close()
        assert sandbox.request_count == sandbox.posted_count == 16, "none was turned away"
    assert all(isinstance(outcome, Accepted) for outcome in watch.outcomes.values())


async def test_a_429_stops_the_account_for_as_long_as_it_asks_and_one_probes(sandbox: ResendSandbox) -> None:
    sandbox.rules = [Rule(status=429, name="rate_limit_exceeded", retry_after_s=30)]
    transport = opened(sandbox, connections=1, batch_size=10)
    watch = await sent(transport, *people(30))
    waits = [outcome.after_s for outcome in watch.outcomes.values() if isinstance(outcome, Deferred)]
    assert len(waits) == 30
    assert all(wait is not None and 15 < wait <= 30 for wait in waits)
    await sent(transport, *people(3))
    await transport.close()
    assert sandbox.request_count == 1


async def test_what_is_withheld_between_two_tries_may_have_been_taken(sandbox: ResendSandbox) -> None:
    sandbox.rules = [Rule(cut="after")]
    asked: list[str] = []

    def withhold(message: Outgoing) -> str | None:
        asked.append(message.address)
        return "paused" if asked.count(message.address) > 1 else None

    transport = opened(sandbox)
    watch = await sent(transport, *people(4), watch=Recorder(withhold))
    await transport.close()
    assert all(isinstance(outcome, Uncertain) and outcome.is_keyed for outcome in watch.outcomes.values())
    assert len(sandbox.taken) == 4


async def test_every_request_takes_the_turn_of_the_account_and_without_a_database_the_workers_own(
    sandbox: ResendSandbox,
) -> None:
    transport: Any = opened(sandbox, connections=2, batch_size=1, requests_per_s=500)
    asked: list[float] = []

    async def turn(rate_per_s: float, rest_s: float) -> float:
        asked.append(rate_per_s)
        if len(asked) > 6:
            raise Unavailable("database_unavailable", "away")
        return rest_s

    transport.share(turn)
    await sent(transport, *people(5))
    await transport.find([lost(people(1)[0])])
    assert len(asked) >= 6, "looking is a request as well"
    watch = await sent(transport, outgoing("late@example.com"))
    assert [type(outcome) for outcome in watch.outcomes.values()] == [Accepted]
    assert max(asked) <= 500
    await transport.close()


# asking and examining


def lost(message: Outgoing, **more: Any) -> Lost:
    given = {"since": datetime.now(UTC), "known_ids": frozenset[str](), **more}
    return Lost(message.id, message.address, message.envelope_from, message.body, **given)


async def test_what_was_taken_is_found_and_what_was_not_is_known_not_to_be_there(sandbox: ResendSandbox) -> None:
    transport: Any = opened(sandbox)
    await sent(transport, *people(150))
    twin = replace(people(1)[0], id=UUID(int=99))
    nowhere = outgoing("nowhere@example.com")
    known = {entry.to: entry.id for entry in sandbox.taken}
    asking: object = transport
    assert isinstance(asking, Finds)
    found = await asking.find([lost(people(150)[149]), lost(people(1)[0]), lost(twin), lost(nowhere)])
    assert found == {
        people(150)[149].id: known["p149@example.com"], people(1)[0].id: known["p0@example.com"], twin.id: None,
        nowhere.id: None,
    }  # fmt: skip
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await transport.find([lost(people(1)[0], since=later)]) == {people(1)[0].id: None}
    await transport.close()


async def test_an_address_that_the_account_shows_in_other_cases_is_the_same(sandbox: ResendSandbox) -> None:
    transport: Any = opened(sandbox)
    message = outgoing("Ana.Smith@example.com")
    await sent(transport, message)
    (entry,) = sandbox.taken
    entry.email["to"] = ["ana.smith@Example.COM"]
    assert await transport.find([lost(message)]) == {message.id: entry.id}, "else it would be sent a second time"
    await transport.close()


async def test_what_is_older_than_the_accounts_list_may_have_been_taken(sandbox: ResendSandbox) -> None:
    transport: Any = opened(sandbox)
    await sent(transport, *people(2))
    older, newer = sandbox.taken
    now = datetime.now(UTC)
    gone, recent = outgoing("gone@example.com"), replace(outgoing("recent@example.com"), id=UUID(int=98))
    asked = [lost(gone, since=now - timedelta(days=2)), lost(recent)]
    assert await transport.find(asked) == {recent.id: None}, "by then it may have been forgotten there"
    older.at_ns = int((now - timedelta(days=3)).timestamp() * 1e9)
    assert await transport.find(asked) == {gone.id: None, recent.id: None}, "the list reaches back to before it"
    older.at_ns = newer.at_ns - int(47 * 3600 * 1e9)
    assert await transport.find(asked) == {recent.id: None}, "it ends after it"
    await transport.close()


async def test_a_key_that_may_only_send_tells_nothing_about_any(tmp_path: Path) -> None:
    async with running(tmp_path, may_only_send=True) as sandbox:
        transport: Any = opened(sandbox)
        await sent(transport, *people(1))
        assert await transport.find([lost(people(1)[0])]) == {}
        await transport.close()


async def examined(sandbox: ResendSandbox, *, key: str = KEY, **more: Any) -> list[Stage]:
    secrets = {"api_key": key, "webhook_secret": "whsec_AAEC"}
    async with asyncio.timeout(90):
        return [stage async for stage in PROVIDER.examine(settings_of(sandbox, **more), secrets, EGRESS)]


@pytest.mark.parametrize(
    ("options", "more", "names", "told"),
    [
        ({}, {}, ["connection", "key", "domains", "events"], "events are verified and taken"),
        ({"domains": {"a.example": "verified", "b.example": "pending"}}, {}, ["connection", "key", "domains", "events"],
         "events are verified and taken"),
        ({"domains": {"a.example": "verified", "b.example": "pending"}}, {"domains": "a.example, b.example"},
         ["connection", "key", "domains"],
         f"b.example is pending: {lacks('pending')}"),
        ({"domains": {"a.example": "failed"}}, {}, ["connection", "key", "domains"],
         f"a.example is failed: {lacks('failed')}"),
        ({}, {"domains": "c.example"}, ["connection", "key", "domains"], "c.example is not a domain of the account"),
        ({"may_only_send": True}, {}, ["connection", "key", "domains", "events"], "events are verified and taken"),
    ],
)  # fmt: skip
async def test_an_examination_names_the_domain_and_the_records_it_lacks(
    tmp_path: Path, options: dict[str, Any], more: dict[str, Any], names: list[str], told: str
) -> None:
    async with running(tmp_path, **options) as sandbox:
        stages = await examined(sandbox, **more)
    assert [stage.name for stage in stages] == names
    assert stages[-1].detail == told
    assert stages[-1].is_ok == (names[-1] == "events")


async def test_a_key_that_is_refused_is_named_and_not_shown(sandbox: ResendSandbox) -> None:
    stages = await examined(sandbox, key="re_hunter2")
    assert [(stage.name, stage.is_ok) for stage in stages] == [("connection", True), ("key", False)]
    assert "hunter2" not in repr(stages)


async def test_a_domain_that_is_not_verified_is_named_as_the_cause(tmp_path: Path) -> None:
    async with running(tmp_path, domains={"example.org": "pending"}) as sandbox:
        transport = opened(sandbox)
        watch = await sent(transport, *people(2))
        await transport.close()
    causes = {outcome.cause for outcome in watch.outcomes.values() if isinstance(outcome, Rejected)}
    assert causes == {"domain_not_verified"}


async def test_while_nobody_answers_one_request_is_in_doubt_and_what_waits_is_not(sandbox: ResendSandbox) -> None:
    sandbox.rules = [Rule(status=500, name="application_error")]
    transport = opened(sandbox, connections=1, batch_size=10)
    watch = await sent(transport, *people(50))
    kinds = [type(outcome) for outcome in watch.outcomes.values()]
    assert (kinds.count(Uncertain), kinds.count(Deferred)) == (10, 40)
    assert {o.cause for o in watch.outcomes.values() if isinstance(o, Deferred)} == {"provider_down"}
    assert len(watch.begun) == 10 * 3, "asked for leave before each try"
    await transport.close()
