"""Cron expressions: what is read, what is refused with its field named, and how often one runs at most."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.base.errors import Refused
from outrider.domain.schedules.cron import LONGEST, parse

BEGIN = datetime.fromisoformat("2026-01-01T00:00:00")


@pytest.mark.parametrize(
    ("given_text", "text"),
    [
        ("0 2 * * mon", "0 2 * * MON"),
        ("\n0 0 * * *", "0 0 * * *"),
        ("0\t0\t*\t*\t*", "0 0 * * *"),
        (" 0   0 * * * ", "0 0 * * *"),
        ("*/5 9-17 1,15 jan-jun 1-5", "*/5 9-17 1,15 JAN-JUN 1-5"),
        ("0 0 lw * *", "0 0 LW * *"),
    ],
)
def test_an_expression_has_one_spelling(given_text: str, text: str) -> None:
    assert parse(given_text).text == text


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("0 2 * * MON", "2026-01-05T02:00", "2026-01-12T02:00"),
        ("0 2 1 * *", "2026-01-01T02:00", "2026-02-01T02:00"),
        ("30 8 L * *", "2026-01-31T08:30", "2026-02-28T08:30"),
        ("0 9 * * MON#1", "2026-01-05T09:00", "2026-02-02T09:00"),
        ("0 9 * * 5L", "2026-01-30T09:00", "2026-02-27T09:00"),
        ("0 0 29 2 *", "2028-02-29T00:00", "2032-02-29T00:00"),
        ("15,45 * * * *", "2026-01-01T00:15", "2026-01-01T00:45"),
        ("0 0 * * 7", "2026-01-04T00:00", "2026-01-11T00:00"),
    ],
)
def test_an_expression_names_these_times(text: str, first: str, second: str) -> None:
    found = list(islice(parse(text).after(BEGIN), 2))
    assert found == [datetime.fromisoformat(first), datetime.fromisoformat(second)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it has 0"),
        ("0 0 * * * *", "it has 6"),
        ("60 * * * *", "minute: must be from 0 to 59"),
        ("* 24 * * *", "hour: must be from 0 to 23"),
        ("0 0 0 * *", "day of month: must be from 1 to 31"),
        ("0 0 1 13 *", "month: must be from 1 to 12 or JAN to DEC"),
        ("0 0 * * 8", "day of week: must be from 0 to 7 or SUN to SAT"),
        ("1-0 * * * *", "minute: the range 1-0 runs backwards"),
        ("0 0 * * FRI-MON", "day of week: the range FRI-MON runs backwards"),
        ("0-59/61 * * * *", "minute: the step must be a whole number from 1 to 60"),
        ("0-9/11 * * * *", "minute: the step must be a whole number from 1 to 10"),
        ("*/0 * * * *", "minute: the step must be"),
        ("*/ * * * *", "minute: the step must be"),
        ("5/15 * * * *", "minute: a step needs a range"),
        ("*-5 * * * *", "minute: must be from 0 to 59"),
        ("1-2-3 * * * *", "minute: must be from 0 to 59"),
        (",1 * * * *", "minute: must be from 0 to 59"),
        ("-1 * * * *", "minute: must be from 0 to 59"),
        ("0 0 L/2 * *", "day of month: must be"),
        ("0 0 15W * *", "day of month: must be"),
        ("0 0 * * MON#6", "day of week: must be"),
        ("0 0 * * L", "day of week: must be"),
        ("0 L * * *", "hour: must be"),
        ("\u0660 * * * *", "plain ASCII"),
        ("0\x000 * * * *", "plain ASCII"),
        ("0\u00a00 * * *", "plain ASCII"),
        ("1," * LONGEST + "1 * * * *", "at most 256 characters"),
    ],
)
def test_a_refusal_says_which_field_is_wrong(text: str, says: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(text, field="/cron")
    assert (refusal.value.code, refusal.value.field) == ("invalid_cron", "/cron")
    assert says in refusal.value.message


@pytest.mark.parametrize("text", ["0 0 31 2 *", "0 0 30,31 2 *", "0 0 31 4,6 */1"])
def test_days_that_do_not_exist_are_refused_as_such(text: str) -> None:
    with pytest.raises(Refused) as refusal:
        parse(text)
    assert refusal.value.code == "never_runs"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("* * * * *", 1),
        ("*/5 * * * *", 5),
        ("0,59 0,23 * * *", 1),
        ("0,59 0,23 * * MON", 59),
        ("0,59 0,23 * * MON,TUE", 1),
        ("0 0,23 1,2 * *", 60),
        ("59,0 0,23 1,31 1,3 *", 59),
        ("59,0 0,23 1,31 1,2 *", 1),
        ("0 2 * * *", 1440),
        ("7,52 * * * *", 15),
    ],
)
def test_the_least_gap_counts_the_step_over_midnight_only_where_days_follow_each_other(text: str, minutes: int) -> None:
    assert parse(text).least_gap_minutes() == minutes


def test_only_an_expression_that_leaves_hours_out_names_hours() -> None:
    assert not parse("0 * * * *").names_hours
    assert not parse("0 0-23 * * *").names_hours
    assert parse("0 */2 * * *").names_hours


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/-,#LW MONSUNJAF@?\n", max_size=40))
def test_any_text_is_read_or_refused_and_what_is_read_runs(text: str) -> None:
    try:
        cron = parse(text)
    except Refused:
        return
    assert next(cron.after(BEGIN)) > BEGIN
    assert parse(cron.text) == cron
