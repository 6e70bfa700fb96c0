"""The table of bad inputs for cron and schedules: one test per id, over the API; or where it is decided, or why not."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from outrider.base.fields import check
from outrider.contracts.gate import Candidate, Hold, Lane, Pass
from outrider.plugins.gates.quiet_hours import GATE as QUIET
from tests.kit.api import Answer, Api, Caller, api_of
from tests.kit.command import Command, migrated_command

ROWS: dict[str, dict[str, str]] = {
    row["id"]: row
    for row in json.loads((Path(__file__).with_name("bad_inputs.json")).read_text(encoding="utf-8"))[
        "cron and schedule"
    ]
}
ELSEWHERE = {
    "R41": "unit/domain/schedules/test_times.py: a day of 25 hours has 25 hourly runs",
    "R44": "unit/domain/schedules/test_times.py: the day that Samoa left out",
    "R46": "flow/test_schedules_fire.py: a zone that left the database goes on by its last offset and is flagged",
    "R47": "drill/test_f81_time_zone_rules.py: messages are given instants, only schedules are local",
    "R48": "flow/test_schedules_fire.py: leaps of the clock; drill/test_f79_clock_leaps.py",
    "R53": "flow/test_schedules_fire.py: a tick that meets the run before is recorded as skipped",
    "R63": "drill/test_f21_schedulers.py: ten thousand due at once",
}
DOES_NOT_APPLY = {
    "R64": "there are no reports and no recipients of reports yet",
}
ARGUMENTS = {"import_id": "00000000-0000-0000-0000-000000000009"}
EXPRESSIONS = {
    "R04": "* * * * * * *",
    "R06": "60 * * * *",
    "R07": "* 24 * * *",
    "R08": "0 0 0 * *",
    "R09": "0 0 32 1 *",
    "R11": "0 0 * * 8",
    "R19": "1-0 * * * *",
    "R20": "5-1/2 * * * *",
    "R21": "0-59/999999999999 * * * *",
    "R23": "1," * 5000 + "1 * * * *",
    "R28": "@every 5m",
    "R33": "\u0660 * * * *",
    "R34": "0\u0660 0 * * *",
    "R36": "* * * * *; rm -rf /",
    "R37": "0 0 1 1 * 2099",
}


@pytest.fixture(scope="module")
def url(new_database: Callable[..., str]) -> str:
    return new_database("migrated")


@pytest.fixture(scope="module")
async def api(url: str) -> AsyncIterator[Api]:
    async with api_of(url) as running:
        yield running


@pytest.fixture(scope="module")
async def caller(api: Api) -> Caller:
    return api.caller(await api.key("schedules:read", "schedules:write", "messages:write"))


async def make(caller: Caller, **given: Any) -> Answer:
    body = {"name": f"s {uuid4()}", "job_type": "import_contacts", "arguments": ARGUMENTS, "cron": "0 2 * * *"}
    return await caller.post("/api/v1/schedules", {**body, "timezone": "UTC", **given})


async def count(api: Api) -> int:
    async with api.engine(None) as uow:
        found: int = await uow.raw.fetchval("SELECT count(*) FROM schedules")
    return found


async def refused(api: Api, caller: Caller, code: str, pointer: str, **given: Any) -> None:
    """One request that must be refused without a trace in the database and with one clean line in the log."""
    before = await count(api)
    with capture_logs() as lines:
        answer = await make(caller, **given)
    assert (answer.status, answer.code, answer.json["pointer"]) == (422, code, pointer), answer.text
    assert await count(api) == before
    assert len(answer.text) < 1_000, "the input is not echoed at length"
    assert len([line for line in lines if line["event"] == "request"]) == 1
    assert not re.search(r"[\x00-\x1f]", " ".join(str(line) for line in lines))


def test_every_row_is_tested_or_says_where_or_why_not() -> None:
    names = re.findall(r"def test_((?:r\d\d_)+)", Path(__file__).read_text(encoding="utf-8"))
    tested = {part.upper() for name in names for part in name.strip("_").split("_")} | set(EXPRESSIONS)
    assert tested | set(ELSEWHERE) | set(DOES_NOT_APPLY) == set(ROWS)
    assert not tested & (set(ELSEWHERE) | set(DOES_NOT_APPLY))
    root = Path(__file__).resolve().parent.parent
    assert all((root / place.partition(":")[0]).is_file() for place in ELSEWHERE.values())


@pytest.mark.parametrize("row", EXPRESSIONS, ids=lambda row: row)
async def test_an_expression_of_the_table_is_refused(row: str, api: Api, caller: Caller) -> None:
    expected = ROWS[row]["input"]
    if row != "R23":
        assert EXPRESSIONS[row] == expected
    await refused(api, caller, "invalid_cron", "/cron", cron=EXPRESSIONS[row])
    preview = await caller.post("/api/v1/schedules/preview", {"cron": EXPRESSIONS[row], "timezone": "UTC"})
    assert (preview.status, preview.code) == (422, "invalid_cron")


async def test_r05_runs_closer_than_the_least_interval_are_too_frequent(api: Api, caller: Caller) -> None:
    for cron in ("* * * * *", "*/4 * * * *", "0,58 * * * *", "59,0 23,0 * * *"):
        await refused(api, caller, "too_frequent", "/cron", cron=cron)
    assert (await make(caller, cron="*/5 * * * *")).status == 201


@pytest.mark.parametrize("cron", ["\n0 0 * * *", "0\t0\t*\t*\t*", " 0 0 * * * "])
async def test_r35_blanks_count_as_one_and_are_stored_as_one(cron: str, caller: Caller) -> None:
    answer = await make(caller, cron=cron)
    assert (answer.status, answer.json["cron"]) == (201, "0 0 * * *")


@pytest.mark.parametrize(
    "timezone",
    ["", "EST5EDT4", "UTC+10", "../../etc/passwd", "/etc/passwd", "Europe/Berlin\n", "posix/UTC", "localtime"],
)
async def test_r45_what_is_no_name_of_the_list_is_refused_and_no_file_is_read(
    timezone: str, api: Api, caller: Caller
) -> None:
    await refused(api, caller, "unknown_timezone", "/timezone", timezone=timezone)


async def test_r45_case_counts_and_the_right_spelling_is_named(api: Api, caller: Caller) -> None:
    answer = await make(caller, timezone="Australia/sydney")
    assert (answer.status, answer.code) == (422, "unknown_timezone")
    assert "Australia/Sydney" in answer.json["detail"]


async def test_r45_old_names_of_the_list_are_names(caller: Caller) -> None:
    for timezone in ("Europe/Kyiv", "Europe/Kiev"):
        answer = await make(caller, timezone=timezone)
        assert (answer.status, answer.json["timezone"]) == (201, timezone)


@pytest.fixture(scope="module")
async def sender(api: Api) -> str:
    async with api.engine() as uow:
        account = await uow.raw.fetchval(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'x', 'smtp') RETURNING id", uow.tenant
        )
        made = await uow.raw.fetchval(
            "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
            "VALUES ($1, 'x', 'email', $2, 'news@example.org') RETURNING id",
            uow.tenant, account,
        )  # fmt: skip
    return str(made)


async def test_r54_a_time_just_past_means_now(api: Api, caller: Caller, sender: str) -> None:
    async with api.engine(None) as uow:
        moment = await uow.raw.fetchval("SELECT now() - interval '1 millisecond'")
    answer = await send(caller, moment.isoformat(), sender)
    assert answer.status == 202, answer.text
    async with api.engine(None) as uow:
        is_due = await uow.raw.fetchval("SELECT due_at <= now() FROM messages WHERE id = $1", UUID(answer.json["id"]))
    assert is_due


@pytest.mark.parametrize("moment", ["2036-11-20T00:00:00Z", "10000-01-01T00:00:00Z", "1969-12-31T23:59:59Z"])
async def test_r54_a_time_of_sending_lies_within_a_year(moment: str, caller: Caller, sender: str) -> None:
    answer = await send(caller, moment, sender)
    assert (answer.status, answer.json["pointer"]) == (422, "/send_at")


async def test_r55_a_leap_second_is_refused(caller: Caller, sender: str) -> None:
    answer = await send(caller, "2026-12-31T23:59:60Z", sender)
    assert (answer.status, answer.json["pointer"]) == (422, "/send_at")


NIGHT = "21:00-08:00"
TEXTS = Lane(UUID(int=1), 1, "sms", UUID(int=2), None, "bulk")


def held_until(hours: str, moment: str, zone: str | None, tenant_zone: str = "UTC") -> str | None:
    """Until when quiet hours hold a text at an instant; None where it may go."""
    gate = QUIET.configured(check(QUIET.fields, {"quiet_hours": hours}))
    if not gate.concerns(TEXTS):
        return None
    message = Candidate(UUID(int=1), None, "+491701234567", "marketing", None, 0)
    told = gate.judge({"zone": zone, "tenant_zone": tenant_zone}, message, datetime.fromisoformat(moment))
    assert isinstance(told, Hold | Pass)
    return told.until.isoformat() if isinstance(told, Hold) else None


def test_r58_hours_that_end_earlier_than_they_begin_are_a_night() -> None:
    morning = "2027-06-02T08:00:00+00:00"
    for moment in ("2027-06-01T21:00:00Z", "2027-06-02T00:00:00Z", "2027-06-02T07:59:59Z"):
        assert held_until(NIGHT, moment, "UTC") == morning, moment
    for moment in ("2027-06-01T20:59:59Z", "2027-06-02T08:00:00Z", "2027-06-02T12:00:00Z"):
        assert held_until(NIGHT, moment, "UTC") is None, moment


def test_r59_hours_that_begin_when_they_end_are_none() -> None:
    for hour in range(24):
        assert held_until("21:00-21:00", f"2027-06-01T{hour:02}:00:00Z", "UTC") is None


@pytest.mark.parametrize("zone", [None, "Mars/Olympus_Mons"])
def test_r60_whose_zone_nobody_knows_has_the_tenants(zone: str | None) -> None:
    noon = "2027-06-01T12:00:00Z"
    assert held_until(NIGHT, noon, zone, "Asia/Tokyo") == "2027-06-01T23:00:00+00:00", "it is 21:00 there"
    assert held_until(NIGHT, noon, zone, "Europe/Berlin") is None


@pytest.mark.parametrize("zone", [None, "Mars/Olympus_Mons"])
def test_r60_where_that_is_wished_the_strictest_of_the_zones_a_number_may_be_in_decides(zone: str | None) -> None:
    gate = QUIET.configured(check(QUIET.fields, {"quiet_hours": "21:00-09:00", "quiet_unknown_zone": "strictest"}))
    fact = {"zone": zone, "tenant_zone": "Asia/Tokyo"}

    def told(number: str, moment: str) -> Hold | Pass:
        message = Candidate(UUID(int=1), None, number, "marketing", None, 0)
        found = gate.judge(fact, message, datetime.fromisoformat(moment))
        assert isinstance(found, Hold | Pass)
        return found

    toll_free, berlin = "+18005551212", "+493012345678"  # anywhere in North America; nowhere but in Germany
    morning = told(toll_free, "2027-06-01T13:00:00Z")
    assert isinstance(morning, Hold), "it is nine in New York and night in Honolulu"
    assert morning.until >= datetime(2027, 6, 1, 19, tzinfo=UTC)
    assert isinstance(told(toll_free, morning.until.isoformat()), Pass)
    evening = told(toll_free, "2027-06-02T00:00:00Z")
    assert isinstance(evening, Hold), "it is early in Honolulu and 21:30 in Newfoundland"
    assert told(berlin, "2027-06-01T10:00:00Z") == Pass(until=datetime(2027, 6, 1, 19, tzinfo=UTC))
    nobody_knows = told("ann@example.org", "2027-06-01T12:30:00Z")
    assert nobody_knows == Hold(datetime(2027, 6, 2, tzinfo=UTC), "it is quiet in Asia/Tokyo"), "the tenant's is left"


def test_r61_the_wall_clock_ends_the_hours_whatever_is_set_inside_them() -> None:
    spring = held_until(NIGHT, "2027-03-27T22:00:00Z", "Europe/Berlin")
    autumn = held_until(NIGHT, "2027-10-30T22:00:00Z", "Europe/Berlin")
    assert (spring, autumn) == ("2027-03-28T06:00:00+00:00", "2027-10-31T07:00:00+00:00"), "08:00 there, both times"


async def test_r56_an_end_before_the_beginning_is_refused(api: Api, caller: Caller) -> None:
    begin, end = "2027-02-01T00:00:00Z", "2027-01-01T00:00:00Z"
    await refused(api, caller, "out_of_range", "/ends_at", starts_at=begin, ends_at=end)
    await refused(api, caller, "out_of_range", "/ends_at", starts_at=begin, ends_at=begin)
    await refused(api, caller, "offset_required", "/starts_at", starts_at="2027-02-01T00:00:00")


async def send(caller: Caller, moment: str, sender: str) -> Answer:
    body = {"to": "ann@example.org", "subject": "s", "text": "t", "sender": sender, "send_at": moment}
    return await caller.post("/api/v1/messages", body)


def test_the_command_line_refuses_the_same_with_exit_2(url: str, tmp_path: Path) -> None:
    told = migrated_command(lambda _template: url, tmp_path)
    assert isinstance(told, Command)
    rows = {row: text for row, text in EXPRESSIONS.items() if row != "R23"}
    lines = [["schedules", "preview", text, "--timezone", "UTC"] for text in rows.values()]
    for row, done in zip(rows, told.many(lines), strict=True):
        assert (done.code, done.out) == (2, ""), row
        assert "Traceback" not in done.err
        assert len(done.err.strip().splitlines()) == 1, done.err
