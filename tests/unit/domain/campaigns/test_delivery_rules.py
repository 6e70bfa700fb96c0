"""What can be said of how a campaign goes out: each mistake names its field; verdicts follow from figures."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest

from outrider.base.errors import RefusedMany
from outrider.domain.campaigns import delivery, judge, pacing, shown, waves
from outrider.domain.campaigns.delivery import BUCKETS, AbTest, Canary, Delivery, LocalTime, NewVariant, Pacing
from outrider.domain.campaigns.judge import Score
from outrider.domain.campaigns.variants import LOT, WAVE, bucket

AT = datetime(2027, 3, 1, 9, 0)  # noqa: DTZ001 - a local time has no zone
NOW = datetime(2027, 2, 28, tzinfo=UTC)
TWO = [NewVariant("a", 50), NewVariant("b", 50, subject="B")]


def refused(wanted: Delivery) -> set[tuple[str, str | None]]:
    with pytest.raises(RefusedMany) as caught:
        delivery.check(wanted)
    return {(each.code, each.field) for each in caught.value.errors}


# what can be said


@pytest.mark.parametrize(
    "wanted",
    [
        Delivery(),
        Delivery(local_time=LocalTime(AT), pacing=Pacing(per_hour=1), ab_test=AbTest(TWO, audience_percent=100)),
        Delivery(pacing=Pacing(spread_hours=2), canary=Canary(), ab_test=AbTest(TWO)),
        Delivery(ab_test=AbTest([NewVariant(n, 20) for n in "abcde"])),
    ],
)
def test_what_goes_together_is_taken_and_stored_as_it_is(wanted: Delivery) -> None:
    delivery.check(wanted)
    assert Delivery.read(msgspec.json.encode(wanted).decode()) == wanted


def test_waves_and_local_times_are_refused_together() -> None:
    local = LocalTime(AT)
    assert refused(Delivery(local_time=local, canary=Canary())) == {("cannot_combine", "/canary")}
    both = Delivery(local_time=local, ab_test=AbTest(TWO))
    assert refused(both) == {("cannot_combine", "/ab_test/audience_percent")}


@pytest.mark.parametrize("pace", [Pacing(), Pacing(per_hour=1, per_minute=1), Pacing(spread_hours=1, per_hour=1)])
def test_a_pace_is_said_in_one_way(pace: Pacing) -> None:
    assert refused(Delivery(pacing=pace)) == {("one_pace", "/pacing")}


def test_every_mistake_about_variants_is_told_at_once() -> None:
    three = [NewVariant("a", 50), NewVariant("a", 20), NewVariant(" b", 20)]
    assert refused(Delivery(ab_test=AbTest(three))) == {
        ("shares", "/ab_test/variants"),
        ("name_taken", "/ab_test/variants/1/name"),
        ("invalid_name", "/ab_test/variants/2/name"),
    }


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"local_time": {"at": "2027-03-01T09:00:00Z"}}, "$.local_time.at"),
        ({"local_time": {"at": "2027-03-01T09:00:00", "late": "never"}}, "$.local_time.late"),
        ({"pacing": {"per_hour": 0}}, "$.pacing.per_hour"),
        ({"canary": {"share_percent": 51}}, "$.canary.share_percent"),
        ({"canary": {"wait_minutes": 10_081}}, "$.canary.wait_minutes"),
        ({"ab_test": {"variants": [{"name": "a", "share_percent": 100}]}}, "$.ab_test.variants"),
        ({"cannary": {}}, "cannary"),
    ],
)
def test_what_is_out_of_bounds_names_its_place(said: dict[str, object], field: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(said, Delivery)
    assert field in str(caught.value)


# buckets and waves


def test_a_bucket_is_the_same_for_ever() -> None:
    campaign, contact = UUID(int=1), UUID(int=2)
    assert [bucket(campaign, contact, place) for place in (WAVE, LOT)] == [9239, 9707]


def test_buckets_are_even_and_waves_know_nothing_of_lots() -> None:
    campaign = uuid4()
    people = [uuid4() for _ in range(40_000)]
    found = Counter((bucket(campaign, each, WAVE) // 2_500, bucket(campaign, each, LOT) // 2_500) for each in people)
    assert set(found) == {(x, y) for x in range(4) for y in range(4)}
    assert all(abs(n - 2_500) < 400 for n in found.values()), "eight standard deviations"


@pytest.mark.parametrize("seed", range(40))
def test_waves_cover_everybody_once_in_order_with_at_least_their_share(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    members = [0] * BUCKETS
    for _ in range(chance.choice([0, 1, 50, 999, 20_000])):
        members[chance.randrange(BUCKETS)] += 1
    total = sum(members)
    share, least, test = chance.uniform(0.01, 50), chance.choice([1, 100, 5_000]), chance.uniform(0.01, 99.9)
    wanted = Delivery(
        canary=Canary(share_percent=share, minimum_count=least) if chance.random() < 0.7 else None,
        ab_test=AbTest(TWO, audience_percent=test) if chance.random() < 0.7 else None,
    )
    found = waves.ranges(wanted, members)
    assert [each.begin for each in found] == [0, *(each.end for each in found[:-1])]
    assert found[-1].end == BUCKETS
    assert sum(each.member_count for each in found) == total
    assert all(each.member_count == sum(members[each.begin : each.end]) for each in found)
    by_kind = {each.kind: each.member_count for each in found}
    if wanted.canary is not None:
        assert by_kind["canary"] >= min(total, max(least, total * share / 100 - 0.5 * total / BUCKETS))
    if "test" in by_kind and "rest" in by_kind:
        assert by_kind["test"] >= total * test / 100 - 0.5 * total / BUCKETS


def test_a_canary_of_everybody_is_the_only_wave() -> None:
    members = [1] * 50 + [0] * (BUCKETS - 50)
    (only,) = waves.ranges(Delivery(canary=Canary(minimum_count=51), ab_test=AbTest(TWO)), members)
    assert (only.kind, only.member_count) == ("canary", 50)


# canaries


def verdict(counts: dict[str, int], complained: int = 0, rule: Canary | None = None) -> tuple[str, str]:
    found = judge.canary(rule or Canary(), judge.figures(counts, complained))
    return found.verdict, found.why


def test_a_canary_within_its_bounds_goes_on_and_one_above_stops_with_the_figure() -> None:
    assert verdict({"sent": 95, "failed": 5})[0] == "go_on"
    stopped = verdict({"sent": 94, "failed": 6, "blocked": 900})
    assert stopped == ("stop", "failed 6 of 100 (6.00 %), at most 5 % were allowed")


@pytest.mark.parametrize(
    ("counts", "complained", "what"),
    [
        ({"sent": 94, "bounced": 6}, 0, "bounced"),
        ({"sent": 97, "uncertain": 3}, 0, "uncertain"),
        ({"sent": 100}, 1, "complained"),
        ({"sent": 49, "scheduled": 51}, 0, "waiting"),
    ],
)
def test_each_figure_alone_stops(counts: dict[str, int], complained: int, what: str) -> None:
    came, why = verdict(counts, complained)
    assert came == "stop"
    assert why.startswith(what)
    assert ";" not in why


def test_a_canary_of_which_nothing_went_out_stops() -> None:
    assert verdict({}) == ("stop", "nothing of it went out; gates stopped 0")
    assert verdict({"blocked": 7, "expired": 1}) == ("stop", "nothing of it went out; gates stopped 8")


def test_bounds_of_a_hundred_percent_stop_nothing() -> None:
    lax = Canary(max_failed_percent=100, max_waiting_percent=100)
    assert verdict({"failed": 9, "queued": 1}, rule=lax)[0] == "go_on"


# winners


def chosen(*scores: tuple[int, int, int], metric: str = "clicks", minimum: int = 10) -> tuple[int | None, str]:
    rule = msgspec.convert({"variants": TWO, "metric": metric, "minimum_count": minimum}, AbTest)
    found = [Score(n, f"v{n}", *facts) for n, facts in enumerate(scores, 1)]
    judgement = judge.winner(rule, found)
    return judgement.winner, judgement.why


def test_the_largest_share_of_people_wins_not_the_largest_number() -> None:
    assert chosen((1_000, 90, 30), (100, 5, 4)) == (2, "most clicks: 4 of 100")
    assert chosen((1_000, 90, 30), (100, 5, 4), metric="opens") == (1, "most opens: 90 of 1000")


def test_among_equals_the_earlier_wins() -> None:
    assert chosen((100, 0, 1), (200, 0, 4), (100, 0, 2)) == (
        2,
        "2 variants had the same share of clicks (4 of 200): the earlier",
    )


def test_too_small_a_sample_or_no_response_lets_the_first_one_go_on() -> None:
    assert chosen((9, 9, 9), (100, 50, 50)) == (1, "sent to too few to tell (v1 9): the first variant")
    assert chosen((100, 9, 0), (100, 50, 0)) == (1, "no clicks by people: the first variant")
    assert chosen((0, 0, 0), (0, 0, 0), minimum=0)[0] == 1


# how long it takes


def test_paces_are_what_they_say() -> None:
    assert delivery.rate_per_s(Pacing(per_hour=3_600), 5) == 1
    assert delivery.rate_per_s(Pacing(per_minute=6), 5) == 0.1
    assert delivery.rate_per_s(Pacing(spread_hours=2), 7_200) == 1
    assert delivery.rate_per_s(Pacing(spread_hours=1), 0) > 0


def test_a_wait_may_be_a_part_of_a_minute_and_is_kept_as_it_was_said() -> None:
    said = {"canary": {"wait_minutes": 0.25}, "ab_test": {"variants": msgspec.to_builtins(TWO), "wait_minutes": 2}}
    wanted = msgspec.convert(said, Delivery)
    assert delivery.waits_s(wanted) == 135
    stored = wanted.stored()
    assert Delivery.read(stored) == wanted
    assert stored is not None
    assert '"wait_minutes":2,' in stored, "a digest of it stays what it was"


def test_a_draft_says_how_long_it_takes_by_its_pace_its_waits_and_the_last_zone() -> None:
    slow = Delivery(pacing=Pacing(per_hour=3_600), canary=Canary(wait_minutes=1), ab_test=AbTest(TWO, wait_minutes=2))
    assert pacing.narrowed(slow, 100, None, None) == (1, "pace")
    assert pacing.narrowed(slow, 100, 0.5, "limit") == (0.5, "limit")
    assert pacing.estimated_s(slow, 100, 1, NOW) == 280
    local = Delivery(local_time=LocalTime(AT))
    assert pacing.estimated_s(local, 100, 100, NOW) == 45 * 3600, "the hour comes last in UTC-12"
    assert pacing.estimated_s(local, 100, None, NOW) is None


def view(
    wanted: Delivery, *found: shown.WaveView, waits_for: str | None = None, pace: float | None = None
) -> shown.DeliveryView:
    return shown.DeliveryView(UUID(int=1), wanted, [], list(found), waits_for, pace, 0)


def wave(kind: str, **facts: object) -> shown.WaveView:
    bare = dict.fromkeys(shown.WaveView.__struct_fields__)
    return shown.WaveView(**{**bare, "n": 1, "kind": kind, **facts})  # type: ignore[arg-type]  # the rest is not looked at


def test_a_running_campaign_is_expected_by_its_pace_and_what_it_still_waits_for() -> None:
    wanted = Delivery(canary=Canary(wait_minutes=10))
    assert shown.estimated_at(view(Delivery(), pace=2), NOW, 20, 5) == NOW + timedelta(seconds=10)
    assert shown.estimated_at(view(Delivery()), NOW, 20, 0) is None
    waiting = view(wanted, wave("canary"), wave("rest"))
    assert shown.estimated_at(waiting, NOW, 20, 2) == NOW + timedelta(minutes=10, seconds=10)
    soon = view(wanted, wave("canary", look_at=NOW + timedelta(minutes=1)), wave("rest"))
    assert shown.estimated_at(soon, NOW, 20, 2) == NOW + timedelta(minutes=1, seconds=10)
    through = view(wanted, wave("canary", verdict="go_on"), wave("rest"))
    assert shown.estimated_at(through, NOW, 20, 2) == NOW + timedelta(seconds=10)
    assert shown.estimated_at(view(wanted, waits_for="decision"), NOW, 20, 2) is None
    by_hand = Delivery(canary=Canary(decision="by_hand"))
    assert shown.estimated_at(view(by_hand, wave("canary"), wave("rest")), NOW, 20, 2) is None
