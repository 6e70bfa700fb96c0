"""The checker has teeth: each seeded defect is found by the drill that is there for it [faults.md 2.0]."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.kit.cluster import Cluster
from tests.kit.command import ROOT
from tests.kit.crooked import Bent
from tests.kit.defects import DEFECTS
from tests.kit.drill import Drill
from tests.kit.processes import say
from tests.kit.scenarios import (
    acceptance,
    accounts,
    afterwards,
    answers,
    callbacks,
    databases,
    fan_out,
    gates,
    hours,
    journals,
    leases,
    partitions,
    sessions,
    stops,
    switches,
    waves,
)  # fmt: skip

pytestmark = pytest.mark.timeout(900)


@dataclass(frozen=True, slots=True)
class Hunt:
    """The drill that finds a defect, and the invariants of which at least one must be violated.

    chances  how often it is looked for: where it is a race, another guard may be quicker on a machine so busy that
             processes stand still for a second
    """

    drill: Callable[[Drill], Awaitable[list[str]]]
    invariants: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    chances: int = 1


async def _some_gates(drill: Drill) -> list[str]:
    """A tenant that has money for everybody, whoever agreed and whoever did not, and whose campaigns have little."""
    bounds = gates.Bounds(cents=(500, 900))
    return await gates.random_tenants(drill, tenants=1, rounds=1, seed=_SEED_OF_GATES, bounds=bounds)


async def _asked_too_often(drill: Drill) -> list[str]:
    """Everybody who asks for texts may have one to each country, and money enough."""
    bounds = gates.Bounds(cents=(500, 900), asked=(1, 1))
    return await gates.random_tenants(drill, tenants=1, rounds=2, seed=_SEED_OF_GATES, bounds=bounds)


_SEED_OF_GATES = 5
SHORT = {"lease_s": leases.LEASE_S}
HUNTS: dict[str, Hunt] = {
    "idempotency key not kept": Hunt(
        lambda drill: acceptance.killed_around_the_commit(drill, "accept.committed", count=1), ("I1",)
    ),
    "lane lock removed": Hunt(switches.paused_during_a_claim, ("I5",)),
    "SKIP LOCKED removed": Hunt(leases.rows_locked_by_another, ("I2",)),
    "lease not looked at before the write": Hunt(
        lambda drill: leases.frozen_worker(drill, "at_least_once"), ("I4",), SHORT, chances=2
    ),
    "finished without token": Hunt(leases.stale_outcome, ("I3",), SHORT),
    "given back without token": Hunt(leases.stale_hand_back, ("I4",), SHORT),
    "journal trusted after another boot": Hunt(
        lambda drill: journals.machine_rebooted(drill, "at_most_once"), ("I4",), SHORT
    ),
    "begun after the bytes": Hunt(lambda drill: journals.killed_with_lines_in_flight(drill, "at_most_once"), ("I4",)),
    "begun is repeated": Hunt(lambda drill: journals.killed_with_lines_in_flight(drill, "at_most_once"), ("I4",)),
    "switches not looked at before the write": Hunt(switches.paused_in_the_middle_of_a_batch, ("I5",), chances=3),
    "do-not-contact not asked again": Hunt(switches.stop_said_after_the_claim, ("I5",), chances=3),
    "second thoughts too late": Hunt(
        lambda drill: stops.said_while_claimed(drill, slow_s=2.0),
        ("I5",),
        {"claim_batch": stops.CLAIM_BATCH},
        chances=2,
    ),
    "looking unsubscribes": Hunt(stops.only_looked_at, ("F84",)),
    "what comes too early belongs to nobody": Hunt(callbacks.told_before_our_commit, ("I9",)),
    "callbacks not known again": Hunt(callbacks.told_a_hundred_times, ("I9",)),
    "a repeat taken for new": Hunt(callbacks.told_again_days_later, ("I9",)),
    "the last report wins": Hunt(callbacks.told_in_every_order, ("I9",)),
    "signatures not looked at": Hunt(lambda drill: callbacks.forged(drill, count=20), ("I9",)),
    "callbacks answered before their commit": Hunt(
        lambda drill: callbacks.killed_around_the_commit(drill, "callbacks.before_commit"), ("I9",)
    ),
    "lost answers called sent": Hunt(lambda drill: journals.answers_lost(drill, "at_most_once"), ("I3",)),
    "outcomes not counted": Hunt(lambda drill: journals.answers_lost(drill, "at_least_once"), ("I8",)),
    "checkpoint moved before the rows": Hunt(
        lambda drill: fan_out.killed_while_expanding(
            drill, count=5000, kills=("fan_out.before_checkpoint:3",), sends=False
        ),
        ("I7",),
    ),
    "winner not looked at": Hunt(lambda drill: waves.killed_in_every_wave(drill, count=1_000), ("I7",)),
    "unique key of recipients dropped": Hunt(fan_out.address_moves_meanwhile, ("I7",)),
    "ended leases not swept": Hunt(
        lambda drill: journals.another_machine_takes_over(drill, "at_most_once"), ("I11",), SHORT
    ),
    "campaign finished early": Hunt(fan_out.restarted_when_all_is_queued, ("I2",)),
    "a refusal told to no other worker": Hunt(
        lambda drill: accounts.slowed_down(drill, 2.0), ("F55",), accounts.SETTINGS, chances=3
    ),
    "a refused account costs attempts": Hunt(
        accounts.account_refused, ("I2",), accounts.SETTINGS | {"retry_attempts": "1"}
    ),
    "any success taken for a yes": Hunt(
        lambda drill: answers.nonsense(drill, "at_most_once"), ("I3",), answers.SETTINGS
    ),
    "lost requests made again": Hunt(partitions.partition, ("I4",), partitions.SETTINGS),
    "one pool for all providers": Hunt(
        lambda drill: partitions.slow(drill, Bent(after_s=15.0)), ("F60",), partitions.SETTINGS, chances=2
    ),
    "consent not asked": Hunt(_some_gates, ("I5",)),
    "sources not counted": Hunt(_asked_too_often, ("I5",)),
    "campaigns pay nothing": Hunt(_some_gates, ("I5",)),
    "prices asked for once": Hunt(afterwards.settled_under_kills, ("I8",)),
    "soft bounces counted by report": Hunt(afterwards.bounced_under_kills, ("I9",)),
    "quiet hours not told to the provider": Hunt(lambda drill: hours.quiet_begins(drill, in_s=9), ("F83",), chances=2),
    "due by another clock": Hunt(hours.clock_leaps, ("F79",)),
    "what was undone is not done again": Hunt(
        lambda drill: sessions.statements_of_the_api_fail(drill, calls=12), ("F42",)
    ),
}
OF_THE_DATABASE = "synchronous_commit off"


def test_every_seeded_defect_has_its_drill() -> None:
    assert {*HUNTS, OF_THE_DATABASE} == DEFECTS.keys()


def test_the_page_about_drills_names_every_defect_and_every_point() -> None:
    page = (ROOT / "docs" / "how-to" / "drills.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([^|`]+) \| ([IF]\d+) \|$", page, re.MULTILINE))
    expected = {(name, invariant) for name, hunt in HUNTS.items() for invariant in hunt.invariants}
    assert rows == expected | {(OF_THE_DATABASE, "I1")}
    hits = re.compile(r'failpoint\.hit\("([a-z_.]+)"\)')
    points = {name for path in (ROOT / "outrider").rglob("*.py") for name in hits.findall(path.read_text("utf-8"))}
    missing = [name for name in points if f"`{name}`" not in page]
    assert not missing, f"docs/how-to/drills.md does not name {missing}"


@pytest.mark.parametrize("defect", HUNTS)
async def test_every_seeded_defect_is_found(defect: str, tmp_path: Path) -> None:
    hunt = HUNTS[defect]
    found: list[str] = []
    for chance in range(hunt.chances):
        folder = tmp_path / str(chance)
        folder.mkdir()
        async with Drill.open(folder, defect=defect, **hunt.settings) as drill:
            found += await hunt.drill(drill)
        if any(each.startswith(hunt.invariants) for each in found):
            return
        say(f"{defect}: not found at try {chance + 1}")
    pytest.fail(f"not found: {found}")


async def test_an_acknowledgement_that_a_crash_takes_back_is_found(tmp_path: Path) -> None:
    with Cluster.open(wal_writer_delay="10s") as cluster:
        async with Drill.open(tmp_path, url=cluster.url, defect=OF_THE_DATABASE) as drill:
            found = await databases.crash_after_the_answer(drill, cluster)
    assert any(each.startswith("I1") for each in found), found
