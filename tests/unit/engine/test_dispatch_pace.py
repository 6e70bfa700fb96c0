from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts.gate import Lane
from outrider.contracts.provider import Outgoing, Watch
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.pace import Pace, least_of
from outrider.engine.dispatch.routes import Account, Route

LANE = Lane(UUID(int=1), 7, "email", UUID(int=2), None, "bulk")


def test_the_first_claim_is_a_modest_one() -> None:
    assert Pace().limit(500) == 200
    assert Pace().limit(20) == 20


def test_the_first_claim_is_a_larger_one_where_the_servers_of_others_are_quick() -> None:
    usual = Pace()
    assert usual.of_a_newcomer().limit(500) == 200, "nothing was seen of anybody"
    usual.learn(500, 0.5)
    assert usual.of_a_newcomer().limit(1000) == 500
    assert usual.of_a_newcomer().limit(300) == 300, "never more than the most"


def test_slow_servers_of_others_make_no_first_claim_smaller_and_prove_nothing_of_a_new_one() -> None:
    usual = Pace(rate=4.0)
    fresh = usual.of_a_newcomer()
    assert fresh.limit(500) == 200
    fresh.learn(10, 0.5)
    assert fresh.limit(500) == 10


def test_a_claim_is_half_a_second_of_work_at_the_pace_seen() -> None:
    pace = Pace()
    pace.learn(100, 0.5)
    assert pace.limit(1000) == 100
    for _ in range(30):
        pace.learn(1000, 0.5)
    assert 950 <= pace.limit(1000) <= 1000
    assert pace.limit(500) == 500


def test_what_was_fast_counts_for_more_than_what_may_have_waited_for_others() -> None:
    rising, falling = Pace(rate=100.0), Pace(rate=900.0)
    rising.learn(900, 1.0)
    falling.learn(100, 1.0)
    assert rising.rate - 100.0 > 900.0 - falling.rate


def test_what_was_handed_back_untried_makes_the_next_claims_smaller() -> None:
    pace, batch = Pace(rate=1_000.0), Batch(LANE, 5, 1030.0, 1000.0, datetime(2026, 1, 1, tzinfo=UTC), {})
    batch.begun |= {UUID(int=each) for each in range(50)}
    for _ in range(20):
        pace.learn_of(batch, 1.0)
    assert 20 <= pace.limit(1000) <= 30
    batch.begun.clear()
    for _ in range(20):
        pace.learn_of(batch, 1.0)
    assert pace.limit(1000) == 1


def test_a_slow_server_still_gets_one_message() -> None:
    pace = Pace()
    pace.learn(1, 60.0)
    assert pace.limit(500) == 1


class Wire:
    def __init__(self, line_count: int) -> None:
        self.line_count = line_count

    async def send(self, batch: Sequence[Outgoing], watch: Watch) -> None: ...

    async def close(self) -> None: ...


def test_however_slow_a_server_every_line_to_it_has_the_next_message_at_hand() -> None:
    route = Route(UUID(int=3), Account(Wire(8), 0.0))
    pace = Pace(least=least_of(route, 4))
    pace.learn(1, 0.6)
    assert pace.limit(500) == 4, "four batches in flight hold twice what eight lines carry"
    assert pace.limit(3) == 3
    pace.failures = 1
    assert pace.limit(500) == 1, "one message probes all the same"
    assert least_of(Route(UUID(int=3), Account(Wire(1), 0.0)), 4) == 1
    assert least_of(Route(UUID(int=3), Account(Wire(64), 0.0)), 1) == 128


def test_while_a_server_is_away_one_message_probes() -> None:
    pace = Pace(rate=10_000.0, failures=1)
    assert pace.limit(500) == 1
    pace.failures = 0
    assert pace.limit(500) == 500


def test_no_more_is_claimed_than_the_circuits_of_a_sender_let_go() -> None:
    assert Pace(rate=10_000.0, left=6).limit(500) == 6
    assert Pace(rate=10_000.0, left=0).limit(500) == 1, "one looks whether it may again"


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1e4)), max_size=30), st.integers(1, 1000))
def test_a_claim_is_never_nothing_and_never_more_than_the_most(seen: list[tuple[int, float]], most: int) -> None:
    pace = Pace()
    for count, took_s in seen:
        pace.learn(count, took_s)
    assert 1 <= pace.limit(most) <= most
