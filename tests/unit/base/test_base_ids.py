from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outrider.base.errors import Refused
from outrider.base.ids import DEFAULT_TENANT, NIL, first_id_at, parse_id, time_of

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(3000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive by hypothesis' rules


@pytest.mark.parametrize(
    "text",
    [str(ID), str(ID).upper(), f"{{{ID}}}", f"urn:uuid:{ID}", ID.hex],
    ids=["plain", "upper", "{}", "urn", "hex"],
)
def test_every_usual_form_of_an_id_is_the_same_id(text: str) -> None:
    assert parse_id(text, "id") == ID


@pytest.mark.parametrize(
    "text", ["", "1", "x" * 36, str(ID) + "0", "0" * 100_000, "\u0660" * 32, f"{ID}\n\n", "' OR 1=1 --"]
)
def test_an_id_that_cannot_exist_is_not_found_and_echoed_briefly(text: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_id(text, "message_id")
    assert (refused.value.code, refused.value.http_status, refused.value.field) == ("not_found", 404, "message_id")
    assert len(refused.value.message) < 400


def test_the_two_fixed_tenants_are_what_the_schema_says() -> None:
    assert str(NIL) == "00000000-0000-0000-0000-000000000000"
    assert str(DEFAULT_TENANT) == "00000000-0000-0000-0000-000000000001"


@given(MOMENTS)
@example(datetime(2515, 1, 1, 0, 0, 0, 6999, tzinfo=UTC))  # nearer to the next millisecond than a float can tell
def test_the_first_id_of_a_moment_is_a_version_7_id_of_that_millisecond(moment: datetime) -> None:
    first = first_id_at(moment)
    assert (first.version, first.variant) == (7, "specified in RFC 4122")
    assert timedelta() <= moment - time_of(first) < timedelta(milliseconds=1)


@given(MOMENTS, MOMENTS)
def test_first_ids_sort_like_their_moments(one: datetime, other: datetime) -> None:
    if one <= other:
        assert first_id_at(one) <= first_id_at(other)


def test_the_time_zone_of_a_moment_does_not_matter() -> None:
    moment = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert first_id_at(moment.astimezone(timezone(timedelta(hours=14)))) == first_id_at(moment)
