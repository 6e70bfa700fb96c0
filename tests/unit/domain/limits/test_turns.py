"""Turns of destinations: what a door lets through, when the turns of the others come, and where addresses belong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from outrider.base.errors import Refused
from outrider.contracts.gate import Lane, MessageClass
from outrider.domain.limits import destinations
from outrider.domain.limits.turns import Door, destination_of

NOW_S = 1_800_000_000.0


def door(tokens: float, *, rate: float = 10, next_s: float = 0, others: int = 0, urgent_s: float = 0) -> Door:
    return Door("gmail.com", rate, 100, tokens, NOW_S, next_s, others, urgent_s)


def lane(message_class: MessageClass) -> Lane:
    return Lane(uuid4(), 1, "email", uuid4(), None, message_class)


@pytest.mark.parametrize(("tokens", "free"), [(0, 0), (0.9, 0), (1 - 1e-9, 1), (1, 1), (7.5, 7), (-0.5, 0)])
def test_whole_tokens_let_messages_through(tokens: float, free: int) -> None:
    assert door(tokens).free(lane("bulk")) == free


def test_turns_follow_each_other_at_the_rate() -> None:
    gate = door(0, rate=4)
    assert [gate.turn() for _ in range(3)] == [
        datetime.fromtimestamp(NOW_S + after, UTC) for after in (0.25, 0.5, 0.75)
    ]


def test_turns_go_on_behind_those_the_lane_gave_out_before() -> None:
    assert door(0, rate=2, next_s=NOW_S + 60).turn() == datetime.fromtimestamp(NOW_S + 60.5, UTC)
    assert door(0, rate=2, next_s=NOW_S - 60).turn() == datetime.fromtimestamp(NOW_S + 0.5, UTC)


def test_turns_of_a_tiny_rate_are_never_further_off_than_a_week_however_many_wait() -> None:
    gate = door(0, rate=0.001, others=1000)
    turns = [gate.turn() for _ in range(1000)]
    assert turns[-1] == datetime.fromtimestamp(NOW_S, UTC) + timedelta(days=7)
    assert turns == sorted(turns)
    assert door(0, rate=0.001, next_s=NOW_S + 1e12).turn() == turns[-1], "what an older release wrote is no trouble"


def test_lanes_that_wait_for_the_same_destination_share_its_rate() -> None:
    assert door(0, rate=2, others=3).turn() == datetime.fromtimestamp(NOW_S + 2, UTC)


def test_bulk_leaves_what_transactional_messages_wait_for() -> None:
    waited_for = door(
        20, rate=10, urgent_s=NOW_S + 1
    )  # ten have turns in the next second; five more may be on their way
    assert waited_for.free(lane("bulk")) == 5
    assert waited_for.free(lane("transactional")) == 20
    assert door(20, rate=10, urgent_s=NOW_S - 1).free(lane("bulk")) == 20


@pytest.mark.parametrize(
    ("channel", "address", "destination"),
    [
        ("email", "Ann@Gmail.COM", "gmail.com"),
        ("email", '"a@b"@example.org', "example.org"),
        ("sms", "+61412345678", "AU"),
        ("sms", "+4915112345678", "DE"),
        ("sms", "+870773123456", ""),
    ],
)
def test_addresses_belong_to_their_domain_and_numbers_to_their_country(
    channel: str, address: str, destination: str
) -> None:
    assert destination_of(channel, address) == destination


@pytest.mark.parametrize(
    ("channel", "given", "kept"),
    [
        ("email", " GMail.com. ", "gmail.com"),
        ("email", "bücher.example", "xn--bcher-kva.example"),
        ("sms", "au", "AU"),
    ],
)
def test_destinations_are_kept_as_addresses_show_them(channel: str, given: str, kept: str) -> None:
    assert destinations.clean(channel, given) == kept


@pytest.mark.parametrize(
    ("channel", "given", "code"),
    [
        ("email", "localhost", "invalid_destination"),
        ("email", "a@gmail.com", "invalid_destination"),
        ("email", "", "invalid_destination"),
        ("email", "-a.example", "invalid_destination"),
        ("email", "a..example", "invalid_destination"),
        ("email", "x" * 300 + ".com", "invalid_destination"),
        ("email", "gmail.com\n", "ok"),
        ("sms", "AUS", "invalid_destination"),
        ("sms", "61", "invalid_destination"),
        ("fax", "AU", "unknown_channel"),
    ],
)
def test_what_is_no_destination_is_refused(channel: str, given: str, code: str) -> None:
    if code == "ok":  # white space around it is what people paste
        assert destinations.clean(channel, given) == "gmail.com"
        return
    with pytest.raises(Refused) as caught:
        destinations.clean(channel, given)
    assert caught.value.code == code
