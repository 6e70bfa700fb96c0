"""The arithmetic of the sheet: whatever happened, each row's explanations make its difference."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from outrider.domain.campaigns.audience import Reach
from outrider.domain.campaigns.delivery import Delivery
from outrider.domain.campaigns.price import Tariff
from outrider.domain.campaigns.sheet import filled
from outrider.domain.campaigns.views import CampaignView, Cost, Exclusions, Preflight
from outrider.domain.messages.counts import Count

_NOW = datetime(2027, 1, 1, tzinfo=UTC)
_ID = UUID(int=1)
_ENDS = [
    ("sent", ""),
    ("delivered", ""),
    ("bounced", ""),
    ("failed", "server_busy"),
    ("failed", "mailbox_unavailable"),
    ("blocked", "do_not_contact"),
    ("blocked", "consent"),
    ("blocked", "quiet"),
    ("uncertain", "answer_lost"),
    ("expired", ""),
    ("cancelled", ""),
]


def promise(*, members: int = 100, no_address: int = 5, suppressed: int = 3, silent: int = 2) -> Preflight:
    will_go = members - no_address - suppressed - silent
    return Preflight(
        member_count=members,
        no_address_count=no_address,
        suppressed_count=suppressed,
        without_consent_count=silent,
        will_go_count=will_go,
        rate_per_s=10.0,
        estimated_s=will_go / 10,
        findings=[],
        checked_at=_NOW,
        estimated_at=_NOW + timedelta(seconds=will_go / 10),
        cost=Cost("EUR", 400, will_go * 400),
    )


def campaign(promised: Preflight | None, **fields: object) -> CampaignView:
    given = dict.fromkeys(CampaignView.__struct_fields__) | {
        "id": _ID,
        "state": "finished",
        "exclusions": Exclusions(),
        "delivery": Delivery(),
        "acknowledged": [],
        "preflight": promised,
        "launched_at": _NOW,
        "expanded_at": _NOW,
        "finished_at": _NOW + timedelta(seconds=30),
        "expanded_count": 0,
        "no_address_count": 0,
        "joined_count": 0,
        **fields,
    }
    return CampaignView(**given)  # type: ignore[arg-type] # of every field something


@pytest.mark.parametrize("seed", range(50))
def test_every_difference_is_explained_whatever_happened(seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - numbers for a test
    found = [Count(state, code, dice.randrange(20)) for state, code in _ENDS]
    found += [Count("queued", "", dice.randrange(20)), Count("held", "", dice.randrange(5))]
    made = campaign(
        promise(no_address=dice.randrange(20), suppressed=dice.randrange(20), silent=dice.randrange(20)),
        expanded_count=sum(one.count for one in found),
        no_address_count=dice.randrange(20),
        joined_count=dice.randrange(10),
        expanded_at=dice.choice([_NOW, None]),
        state=dice.choice(["sending", "cancelled", "finished"]),
    )
    sheet = filled(made, found, late_count=dice.randrange(5))
    for row in sheet.rows:
        assert row.is_explained, row
        assert row.actual is not None
        assert sum(why.count for why in row.why) == row.actual - row.promised
    went = sum(one.count for one in found if one.state in {"sent", "delivered", "bounced"})
    assert {row.name: row.actual for row in sheet.rows}["will_go"] == went


def test_a_count_that_does_not_add_up_shows() -> None:
    """Ninety sent of ninety promised, but the fan-out says that it queued ninety-five."""
    sheet = filled(campaign(promise(), expanded_count=95, no_address_count=5), [Count("sent", "", 90)])
    rows = {row.name: row for row in sheet.rows}
    assert not rows["will_go"].is_explained


def test_the_end_is_estimated_from_when_it_could_begin() -> None:
    sheet = filled(campaign(promise(), undo_until=_NOW + timedelta(seconds=10)), [])
    assert sheet.estimated_at == _NOW + timedelta(seconds=19)
    assert sheet.late_s == 11.0


def test_it_is_final_only_when_nothing_is_open() -> None:
    assert filled(campaign(promise()), []).is_final
    assert not filled(campaign(promise(), state="cancelled"), [Count("sending", "", 1)]).is_final


def test_where_parts_decide_the_sheet_says_what_was_charged_and_explains_the_rest() -> None:
    promised = msgspec.structs.replace(promise(), cost=Cost("EUR", 80_000, 90 * 80_000, parts=1, is_estimate=True))
    found = [Count("sent", "", 88), Count("failed", "number_invalid", 2)]
    made = campaign(promised, expanded_count=90, no_address_count=5)
    sheet = filled(made, found, charged_micros=9_000_000)
    row = {one.name: one for one in sheet.rows}["cost_micros"]
    assert (row.promised, row.actual, row.is_explained) == (7_200_000, 9_000_000, True)
    assert {why.code: why.count for why in row.why}["charged"] > 0
    assert {why.code: why.count for why in row.why}["failed:number_invalid"] == -160_000


def reach(**countries: int) -> Reach:
    return Reach(sum(countries.values()), 0, 0, 0, 0, countries={name.strip("_"): n for name, n in countries.items()})


def test_what_it_costs_goes_by_country_and_parts_and_an_unknown_price_is_never_guessed() -> None:
    tariff = Tariff("sms", "AUD", {"AU": 79_000, "": 100_000}, parts=2, is_in_parts=True)
    cost = tariff.cost(reach(AU=10, NZ=5))
    assert cost is not None
    assert (cost.total_micros, cost.unpriced_count, cost.parts) == (10 * 2 * 79_000 + 5 * 2 * 100_000, 0, 2)
    only = Tariff("sms", "AUD", {"AU": 79_000}, is_in_parts=True)
    known = only.cost(reach(AU=10, NZ=5))
    assert known is not None
    assert (known.total_micros, known.unpriced_count, known.per_message_micros) == (790_000, 5, 79_000)
    assert [(each.country, each.total_micros) for each in known.countries] == [("AU", 790_000), ("NZ", None)]
    assert only.cost(reach(NZ=5)) is None
    assert Tariff("sms", "AUD", {}, is_in_parts=True).cost(reach()) is None


def test_one_price_for_all_needs_nobodys_country() -> None:
    tariff = Tariff("email", "USD", {"": 400})
    assert not tariff.is_by_country
    assert tariff.cost(Reach(1000, 0, 0, 0, 0)) == Cost("USD", 400, 400_000)
    assert Tariff("email", "USD", {"": 0}).cost(Reach(5, 0, 0, 0, 0)) == Cost("USD", 0, 0)
