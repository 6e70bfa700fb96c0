"""Providers report, over HTTP with real signatures: committed before the answer, applied once, in any order."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from outrider.base.clock import utc_now
from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.callbacks import Report, State, Unread
from outrider.domain.callbacks.take import Came, take_in
from outrider.engine.inbound import reports
from outrider.engine.loop import show
from outrider.interfaces.api.callbacks import CallbackApp
from tests.kit.dispatch import until
from tests.kit.texting import PHONE, Texting, sid_of, texting

_FINISHED = (
    "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2) "
    "UPDATE messages SET state = 'sent', provider_id = $3 WHERE tenant_id = $1 AND id = $2"
)


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def events_of(office: Texting, message_id: UUID) -> list[str]:
    rows = await office.rows(
        "SELECT kind FROM message_events WHERE tenant_id = $1 AND message_id = $2 ORDER BY at", message_id
    )
    return [row["kind"] for row in rows]


async def counted(office: Texting) -> dict[str, int]:
    both = "SELECT tenant_id, state, n FROM rollups UNION ALL SELECT tenant_id, state, n FROM rollup_deltas"
    rows = await office.rows(f"SELECT state, sum(n)::int AS n FROM ({both}) t WHERE tenant_id = $1 GROUP BY 1")
    return {row["state"]: row["n"] for row in rows if row["n"]}


async def test_what_is_reported_moves_the_message_its_events_and_its_counts(office: Texting) -> None:
    message_id = await office.sent()
    for status in ("queued", "sent", "delivered"):
        assert (await office.report(message_id, status))[0] == 200
    assert (await office.state(message_id))[0] == "sent", "kept, but nobody applied it yet"
    assert await office.applied() == 3
    assert await office.state(message_id) == ("delivered", None)
    assert await events_of(office, message_id) == ["delivered"]
    assert await counted(office) == {"accepted": 1, "delivered": 1}


async def test_a_failure_has_its_cause_and_an_address_that_is_gone_is_not_written_to_again(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "undelivered", form={"ErrorCode": "30005"})
    await office.applied()
    assert await office.state(message_id) == ("bounced", "handset_unknown")
    rows = await office.rows("SELECT address, reason FROM suppressions WHERE tenant_id = $1")
    assert [tuple(row) for row in rows] == [(PHONE, "invalid")]


@pytest.mark.parametrize(
    ("error", "status", "end"),
    [
        ("30001", "failed", ("failed", "queue_overflow_late")),
        ("30001", "undelivered", ("bounced", "queue_overflow_late")),
        ("30002", "failed", ("failed", "account_suspended_late")),
        ("30022", "failed", ("failed", "dropped_by_provider")),
        ("30023", "failed", ("failed", "daily_quota_late")),
        ("30500", "failed", ("failed", "dropped_by_provider")),
    ],
)
async def test_what_a_provider_drops_after_it_took_it_has_failed_and_promises_no_repetition(
    office: Texting, error: str, status: str, end: tuple[str, str]
) -> None:
    message_id = await office.sent()
    await office.report(message_id, status, form={"ErrorCode": error})
    await office.applied()
    assert await office.state(message_id) == end
    assert await office.rows("SELECT 1 FROM queue WHERE tenant_id = $1") == [], "nothing is tried again by itself"
    assert await office.rows("SELECT 1 FROM suppressions WHERE tenant_id = $1") == [], "it says nothing of the address"
    shown = await office.owner.get("/api/v1/messages/stats")
    (why,) = shown.json["reasons"]
    assert why["code"] == end[1]
    assert "send it again" in why["remedy"]


async def test_what_is_told_twice_counts_once_and_what_differs_shows(office: Texting) -> None:
    message_id = await office.sent()
    answers = await asyncio.gather(*(office.report(message_id, "delivered") for _ in range(100)))
    assert {status for status, _ in answers} == {200}
    assert (await office.report(message_id, "delivered", form={"To": "+14155552672"}))[0] == 200
    await office.applied()
    (row,) = await office.rows("SELECT repeats, is_conflicting FROM webhook_events WHERE tenant_id = $1")
    assert row["repeats"] == 100, "counted one by one, however many come together"
    assert row["is_conflicting"] is True
    assert await events_of(office, message_id) == ["delivered"]
    shown = await office.owner.get("/api/v1/callbacks?repeated=true")
    assert [each["state"] for each in shown.json["items"]] == ["applied"]


async def test_all_120_orders_of_five_reports_end_alike(office: Texting) -> None:
    words: dict[str, State] = {
        "queued": "sent",
        "sending": "sent",
        "sent": "sent",
        "delivered": "delivered",
        "undelivered": "bounced",
    }
    orders = list(itertools.permutations(words))
    ids = [await office.sent(f"+1415555{n:04}") for n in range(2000, 2120)]
    connection_id = UUID(office.connection["id"])
    for step in range(5):
        reports = [
            Report(f"{m}:{o[step]}", sid_of(m), o[step], words[o[step]], m) for m, o in zip(ids, orders, strict=True)
        ]
        came = [Came(connection_id, "twilio", report, b"", "genuine", "test") for report in reports]
        async with office.api.engine() as uow:
            await take_in(uow.raw, DEFAULT_TENANT, came)
        await office.applied()
    rows = await office.rows("SELECT state, count(*)::int AS n FROM messages WHERE tenant_id = $1 GROUP BY 1")
    assert [tuple(row) for row in rows] == [("bounced", 120)]
    assert await counted(office) == {"accepted": 120, "bounced": 120}


async def test_what_comes_before_our_own_commit_waits_for_it(office: Texting) -> None:
    message_id = await office.accepted()
    await office.report(message_id, "delivered")
    assert await office.applied() == 1
    (row,) = await office.rows("SELECT state, note FROM webhook_events WHERE tenant_id = $1")
    assert tuple(row) == ("parked", "its message is under way")
    await office.rows(_FINISHED, message_id, sid_of(message_id))
    await office.rows("UPDATE webhook_events SET due_at = now() WHERE tenant_id = $1")
    await office.applied()
    assert (await office.state(message_id))[0] == "delivered"


async def test_who_says_stop_while_their_message_is_to_be_repeated_is_listed_at_once_and_gets_no_second_one(
    office: Texting,
) -> None:
    message_id = await office.accepted()  # its answer was lost, and its sender promises to try again: it waits for that
    await office.report(message_id, "undelivered", form={"ErrorCode": "21610"})
    await office.applied()
    listed = "SELECT address, reason FROM suppressions WHERE tenant_id = $1"
    assert [tuple(row) for row in await office.rows(listed)] == [(PHONE, "stop")], "before the repetition goes"
    await office.rows("DELETE FROM suppressions WHERE tenant_id = $1")
    await office.rows("UPDATE webhook_events SET due_at = now() WHERE tenant_id = $1")
    assert await office.applied() == 1, "its message is under way still"
    await office.rows(_FINISHED, message_id, sid_of(message_id))
    await office.rows("UPDATE webhook_events SET due_at = now() WHERE tenant_id = $1")
    assert await office.applied() == 1
    assert (await office.state(message_id))[0] == "bounced"
    assert await office.rows(listed) == [], "who was taken off the list since is not put on it by what waited"


async def test_who_says_stop_to_the_first_of_two_copies_is_listed_though_the_report_has_another_id(
    office: Texting,
) -> None:
    message_id = await office.sent()
    await office.report(message_id, "undelivered", sid="SM" + "c" * 32, form={"ErrorCode": "21610"})
    await office.applied()
    assert (await office.state(message_id))[0] == "sent"
    rows = await office.rows("SELECT address, reason FROM suppressions WHERE tenant_id = $1")
    assert [tuple(row) for row in rows] == [(PHONE, "stop")]


async def test_a_report_settles_a_message_whose_answer_was_lost(office: Texting) -> None:
    message_id = await office.accepted()
    statement = (
        "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2 RETURNING lane_id), "
        "doubt AS (INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail) "
        "SELECT $1, $2, lane_id, 'answer_lost', '' FROM gone) "
        "UPDATE messages SET state = 'uncertain', code = 'answer_lost' WHERE tenant_id = $1 AND id = $2"
    )
    await office.rows(statement, message_id)
    await office.report(message_id, "queued")
    await office.applied()
    assert await office.state(message_id) == ("sent", None)
    assert await office.rows("SELECT 1 FROM uncertain_messages WHERE tenant_id = $1") == []


async def test_reports_never_cross_and_what_belongs_to_nothing_is_an_orphan(office: Texting) -> None:
    mine, other = await office.sent(), await office.sent("+14155552672")
    await office.report(mine, "delivered", sid=sid_of(other))
    await office.call(office.status("SM" + "a" * 32, "delivered"))
    await office.report(UUID(int=7), "delivered")
    await office.applied()
    assert [(await office.state(each))[0] for each in (mine, other)] == ["sent", "sent"]
    rows = await office.rows("SELECT note FROM webhook_events WHERE tenant_id = $1 AND state = 'orphan' ORDER BY note")
    assert [row["note"] for row in rows] == [
        "names no message", "no such message", "the message has another id at the provider",
    ]  # fmt: skip


async def test_one_id_for_two_messages_moves_each_by_its_own_reports(office: Texting) -> None:
    sid = "SM" + "b" * 32
    first, second = await office.sent(sid=sid), await office.sent("+14155552672", sid=sid)
    await office.report(first, "delivered", sid=sid)
    await office.applied()
    assert [(await office.state(each))[0] for each in (first, second)] == ["delivered", "sent"]


async def test_one_id_for_two_messages_is_told_by_their_reports_whoever_sent_them(office: Texting) -> None:
    sid = "SM" + "b" * 32
    first, second = await office.sent(sid=sid), await office.sent("+14155552672", sid=sid)
    other = await office.sent("+14155552673")
    (loop,) = reports.loops(office.api.runtime)
    registry = CollectorRegistry()
    show([loop], registry)

    async def told(message_id: UUID, status: str, sid: str) -> float:
        await office.report(message_id, status, sid=sid)
        await loop.step()
        return figure_in(generate_latest(registry).decode(), "outrider_reported_ids_repeated_total")

    assert await told(first, "sent", sid) == 0
    assert await told(first, "delivered", sid) == 0
    assert await told(other, "delivered", sid_of(other)) == 0
    assert await told(other, "failed", sid) == 0, "it is known by another id: nothing of this is applied"
    assert await told(second, "sent", sid) == 1
    assert await told(second, "delivered", sid) == 1, "said once"
    assert [(await office.state(each))[0] for each in (first, second)] == ["delivered", "delivered"]


async def test_a_report_under_another_id_hides_none_of_the_messages_own(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "failed", sid="SM" + "c" * 32)
    await office.report(message_id, "delivered")
    assert await office.applied() == 2
    assert await office.state(message_id) == ("delivered", None)
    rows = await office.rows("SELECT word, state FROM webhook_events WHERE tenant_id = $1 ORDER BY word")
    assert [tuple(row) for row in rows] == [("delivered", "applied"), ("failed", "orphan")]


async def test_a_genuine_callback_replayed_days_later_changes_nothing(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "undelivered", form={"ErrorCode": "30003"})
    await office.applied()
    await office.rows("UPDATE webhook_events SET received_at = received_at - interval '3 days' WHERE tenant_id = $1")
    before = await office.state(message_id)
    assert (await office.report(message_id, "undelivered", form={"ErrorCode": "30003"}))[0] == 200
    assert await office.applied() == 0
    assert await office.state(message_id) == before


async def test_stored_reports_are_applied_again_without_effect(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "delivered")
    await office.applied()
    again = await office.owner.post("/api/v1/callbacks/replay", {"since": (utc_now() - timedelta(hours=1)).isoformat()})
    assert again.json == {"count": 1}
    assert await office.applied() == 1
    assert await events_of(office, message_id) == ["delivered"]
    assert await counted(office) == {"accepted": 1, "delivered": 1}
    neither = await office.owner.post("/api/v1/callbacks/replay", {})
    assert (neither.status, neither.json["code"]) == (422, "required")


async def test_a_replay_that_says_two_things_or_breaks_the_line_of_its_reason_applies_nothing(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "delivered")
    await office.applied()
    since = (utc_now() - timedelta(hours=1)).isoformat()
    for body, field in (
        ({"ids": [str(message_id)], "since": since}, "/since"),
        ({"since": since, "reason": "mended\r\nby nobody"}, "/reason"),
    ):
        answer = await office.owner.post("/api/v1/callbacks/replay", body)
        assert (answer.status, answer.json["pointer"]) == (422, field)
    assert await office.applied() == 0


async def test_what_a_report_left_on_the_timeline_stands_there_once_however_often_it_is_applied(
    office: Texting,
) -> None:
    message_id = await office.sent()
    for status in ("delivered", "undelivered", "delivered"):  # the last is the first, told again
        await office.report(message_id, status, form={"ErrorCode": "30003"} if status == "undelivered" else {})
        await office.applied()
    await office.report(message_id, "failed", form={"ErrorCode": "30008"})  # weaker than what is known: only told
    await office.applied()
    before = await events_of(office, message_id)
    assert before == ["delivered", "bounced", "reported"]
    for _ in range(2):
        since = (utc_now() - timedelta(hours=1)).isoformat()
        assert (await office.owner.post("/api/v1/callbacks/replay", {"since": since})).json == {"count": 3}
        assert await office.applied() == 3
    assert await events_of(office, message_id) == before
    assert await office.state(message_id) == ("bounced", "handset_unreachable")
    assert await counted(office) == {"accepted": 1, "bounced": 1}


async def test_when_it_happened_by_the_providers_clock_stands_beside_when_we_heard_of_it(office: Texting) -> None:
    message_id = await office.sent()
    long_ago = utc_now() - timedelta(hours=6)
    told = Report("k", sid_of(message_id), "delivered", "delivered", message_id, at=long_ago)
    async with office.api.engine() as uow:
        came = Came(UUID(office.connection["id"]), "twilio", told, b"", "genuine", "test")
        await take_in(uow.raw, DEFAULT_TENANT, [came])
    await office.applied()
    events = (await office.owner.get(f"/api/v1/messages/{message_id}")).json["events"]
    (event,) = [each for each in events if each["kind"] == "delivered"]
    assert event["data"] == {"word": "delivered", "happened_at": long_ago.isoformat()}
    assert event["at"] > long_ago.isoformat()


async def test_a_report_that_cannot_be_applied_holds_up_nobody_elses(office: Texting) -> None:
    broken, sound = await office.sent(), await office.sent("+14155552672")
    for message_id in (broken, sound):
        await office.report(message_id, "delivered")
    await office.rows("UPDATE webhook_events SET data = '{}' WHERE tenant_id = $1 AND message_id = $2", broken)
    (loop,) = reports.loops(office.api.runtime)
    assert await loop.step() is False
    assert [(await office.state(each))[0] for each in (broken, sound)] == ["sent", "delivered"]
    (row,) = await office.rows(
        "SELECT state, note, due_at > now() AS is_later FROM webhook_events WHERE tenant_id = $1 AND message_id = $2",
        broken,
    )
    assert tuple(row) == ("parked", "cannot be applied: KeyError", True)
    await office.rows(
        "UPDATE webhook_events SET due_at = now(), received_at = now() - interval '2 days' WHERE tenant_id = $1"
    )
    await loop.step()
    rows = await office.rows("SELECT state FROM webhook_events WHERE tenant_id = $1 ORDER BY state")
    assert [row["state"] for row in rows] == ["applied", "orphan"], "not for ever"


def figure_in(text: str, name: str) -> float:
    """The only sample of a figure."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples if s.name == name]
    assert len(samples) == 1, name
    return float(samples[0].value)


async def test_how_long_reports_wait_is_measured_from_when_they_came_however_often_they_are_tried(
    office: Texting,
) -> None:
    async def shown(name: str) -> float:
        return figure_in((await office.owner.get("/metrics")).text, name)

    async def until_shown(name: str, least: float) -> None:
        async def is_shown() -> bool:
            return await shown(name) >= least

        await until(is_shown)

    first = await office.accepted()
    await office.report(first, "delivered")
    ago = "UPDATE webhook_events SET {} WHERE tenant_id = $1 AND message_id = $2"
    await office.rows(ago.format("received_at = now() - interval '90 s', due_at = now() - interval '90 s'"), first)
    await until_shown("outrider_callback_lag_seconds", 90)
    assert await shown("outrider_callbacks_parked") == 0
    await office.rows(ago.format("received_at = now() - interval '5 hours'"), first)
    assert await office.applied() == 1, "its message is under way: it is parked, and its turn moves on"
    await until_shown("outrider_callback_parked_age_seconds", 5 * 3600)
    assert await shown("outrider_callbacks_parked") == 1


async def test_how_long_each_report_took_to_be_applied_is_counted_once(office: Texting) -> None:
    (loop,) = reports.loops(office.api.runtime)
    registry = CollectorRegistry()
    show([loop], registry)

    def counted_so_far(part: str) -> float:
        return figure_in(generate_latest(registry).decode(), f"outrider_callback_apply_seconds_{part}")

    sent, under_way = await office.sent(), await office.accepted("+14155552672")
    for message_id in (sent, under_way):
        await office.report(message_id, "delivered")
    await office.rows("UPDATE webhook_events SET received_at = now() - interval '100 s' WHERE tenant_id = $1")
    await loop.step()
    assert counted_so_far("count") == 1, "what is parked is not applied"
    assert 100 <= counted_so_far("sum") < 200
    again = await office.owner.post("/api/v1/callbacks/replay", {"since": (utc_now() - timedelta(hours=1)).isoformat()})
    assert again.json["count"] >= 1
    await loop.step()
    assert counted_so_far("count") == 1, "what is replayed did not wait"


async def test_of_several_reasons_not_to_write_again_the_strongest_stands(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "failed", form={"ErrorCode": "21610"})
    await office.report(message_id, "undelivered", form={"ErrorCode": "30005"})
    await office.applied()
    rows = await office.rows("SELECT address, reason FROM suppressions WHERE tenant_id = $1")
    assert [tuple(row) for row in rows] == [(PHONE, "stop")]


async def test_who_was_taken_off_the_list_stays_off_it_when_reports_are_applied_again(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "undelivered", form={"ErrorCode": "30005"})
    await office.applied()
    await office.rows("DELETE FROM suppressions WHERE tenant_id = $1")
    again = await office.owner.post("/api/v1/callbacks/replay", {"since": (utc_now() - timedelta(hours=1)).isoformat()})
    assert again.json == {"count": 1}
    assert await office.applied() == 1
    assert await office.rows("SELECT 1 FROM suppressions WHERE tenant_id = $1") == []


async def test_forged_ones_are_refused_counted_and_change_nothing(office: Texting) -> None:
    message_id = await office.sent()
    for more in ({"signature": "x" * 28}, {"token": "another"}, {"signature": ""}):
        assert (await office.report(message_id, "delivered", **more))[0] == 403
    assert await office.rows("SELECT 1 FROM webhook_events WHERE tenant_id = $1") == []
    async with asyncio.timeout(90):
        while True:
            shown = (await office.owner.get("/api/v1/callbacks/refusals")).json["items"]
            if sum(each["count"] for each in shown) == 3:
                break
            await asyncio.sleep(0.05)
    assert {each["reason"] for each in shown} == {"wrong_signature", "unsigned"}
    text = (await office.owner.get("/metrics")).text
    assert 'outrider_callbacks_total{app="outrider",provider="twilio",result="refused"} 3.0' in text


async def test_an_address_that_was_guessed_is_nowhere(office: Texting) -> None:
    base, _, token = office.callback_url.rpartition("/")
    form = office.status("SM" + "a" * 32, "delivered")
    for url in (f"{base}/{'A' * 64}", f"{base}/x", base.replace("twilio", "smtp") + "/" + token):
        assert (await office.call(form, url=url))[0] == 404


async def test_a_network_is_excepted_for_a_while_and_no_longer(office: Texting) -> None:
    message_id = await office.sent()
    body = {"connection_id": office.connection["id"], "network": "127.0.0.1", "minutes": 30, "reason": "rotation"}
    for wrong in ({"minutes": 1441}, {"network": "0.0.0.0/0"}, {"network": "x"}, {"reason": " "}):
        assert (await office.owner.post("/api/v1/callbacks/exceptions", {**body, **wrong})).status == 422
    made = await office.owner.post("/api/v1/callbacks/exceptions", body)
    assert made.status == 201, made.text
    assert (await office.report(message_id, "delivered", signature="forged"))[0] == 200
    await office.applied()
    shown = await office.owner.get("/api/v1/callbacks?signature=excepted")
    assert [each["source"] for each in shown.json["items"]] == ["127.0.0.1"]
    assert (await office.owner.delete(f"/api/v1/callbacks/exceptions/{made.json['id']}")).status == 204
    assert (await office.owner.get("/api/v1/callbacks/exceptions")).json == {"items": []}


async def test_callbacks_are_found_by_connection_source_and_time(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "sent")
    await office.rows(
        "UPDATE webhook_events SET received_at = '2026-01-31T12:00:00Z', source = '192.0.2.7' WHERE tenant_id = $1"
    )
    await office.report(message_id, "delivered")
    for query, words in (
        (f"connection_id={office.connection['id']}", ["delivered", "sent"]),
        (f"connection_id={message_id}", []),
        ("source=192.0.2.7", ["sent"]),
        ("since=2026-01-31T12:00:00Z&until=2026-02-01T00:00:00Z", ["sent"]),
        ("since=2026-02-01T00:00:00%2B00:00", ["delivered"]),
    ):
        shown = await office.owner.get(f"/api/v1/callbacks?{query}")
        assert [each["word"] for each in shown.json["items"]] == words, query
    for query, code in (
        ("since=2026-02-01T00:00:00", "offset_required"),
        ("until=9999-12-31T23:59:59-14:00", "out_of_range"),
    ):
        wrong = await office.owner.get(f"/api/v1/callbacks?{query}")
        assert (wrong.status, wrong.code, wrong.json["parameter"]) == (422, code, query.partition("=")[0])


async def test_an_exception_excuses_a_signature_and_nothing_else(office: Texting) -> None:
    body = {"connection_id": office.connection["id"], "network": "127.0.0.1", "minutes": 30, "reason": "rotation"}
    assert (await office.owner.post("/api/v1/callbacks/exceptions", body)).status == 201
    form = {**office.status("SM" + "a" * 32, "delivered"), "AccountSid": "AC" + "9" * 32}
    status, answer = await office.call(form, signature="forged")
    assert (status, json.loads(answer)["code"]) == (403, "other_account")
    assert await office.rows("SELECT 1 FROM webhook_events WHERE tenant_id = $1") == []


async def test_callbacks_that_come_together_ask_for_their_connection_once(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = CallbackApp._read, []

    async def counted(self: CallbackApp, named: tuple[UUID, UUID]) -> object:
        asked.append(named)
        return await read(self, named)

    monkeypatch.setattr(CallbackApp, "_read", counted)
    message_id = await office.sent()
    answers = await asyncio.gather(*(office.report(message_id, "delivered") for _ in range(20)))
    assert {status for status, _ in answers} == {200}
    assert len(asked) == 1


async def test_a_connection_that_is_gone_is_not_asked_for_again_and_again(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, asked = CallbackApp._read, []

    async def counted(self: CallbackApp, named: tuple[UUID, UUID]) -> object:
        asked.append(named)
        return await read(self, named)

    monkeypatch.setattr(CallbackApp, "_read", counted)
    await office.rows("UPDATE connections SET provider = 'smtp' WHERE tenant_id = $1")
    for _ in range(5):
        assert (await office.call(office.status("SM" + "a" * 32, "delivered")))[0] == 404
    assert len(asked) == 1


async def test_while_the_token_is_rotated_both_count(office: Texting) -> None:
    message_id = await office.sent()
    path = f"/api/v1/connections/{office.connection['id']}"
    settings = {"auth_token": "second-token", "previous_auth_token": "first-token"}
    assert (await office.owner.patch(path, {"settings": settings})).status == 200
    assert (await office.report(message_id, "sent", token="first-token"))[0] == 200
    assert (await office.report(message_id, "delivered", token="second-token"))[0] == 200


async def test_keys_that_begin_alike_are_two_things_and_a_long_one_is_known_again(office: Texting) -> None:
    connection_id = UUID(office.connection["id"])
    keys = ["k" * 250 + "1", "k" * 250 + "2", "k" * 250 + "1"]
    came = [Came(connection_id, "twilio", Unread(key, "sent"), b"", "genuine", "test") for key in keys]
    async with office.api.engine() as uow:
        kept = await take_in(uow.raw, DEFAULT_TENANT, came)
    assert [each.is_new for each in kept] == [True, True, False]
    assert kept[0].id == kept[2].id


async def test_handsets_that_cannot_be_reached_again_and_again_are_listed_and_it_is_shown_with_the_contact(
    office: Texting,
) -> None:
    policy = "UPDATE tenants SET settings = settings || $2::text::jsonb WHERE id = $1 RETURNING 1"
    await office.rows(policy, json.dumps({"soft_bounce_limit": 2, "soft_bounce_least_days": 1}))
    made = await office.owner.post("/api/v1/contacts", {"addresses": [{"channel": "sms", "address": PHONE}]})
    for code in ("30003", "30007", "30008"):  # the second is about the text and says nothing about the handset
        message_id = await office.sent()
        for _ in range(3):
            await office.report(message_id, "undelivered", form={"ErrorCode": code})
        await office.applied()
    await office.owner.post("/api/v1/callbacks/replay", {"since": (utc_now() - timedelta(hours=1)).isoformat()})
    await office.applied()
    (entry,) = await office.rows("SELECT reason, note FROM suppressions WHERE tenant_id = $1")
    assert entry["reason"] == "soft_bounce"
    assert entry["note"].startswith("2 soft bounces on 1 days")
    shown = (await office.owner.get(f"/api/v1/contacts/{made.json['id']}/soft-bounces")).json["items"]
    assert [(each["cause"], each["is_used"]) for each in shown] == [
        ("carrier_unknown_error", True), ("handset_unreachable", True),
    ]  # fmt: skip
