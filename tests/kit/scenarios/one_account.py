"""Drills about one account at a provider that two tenants have entered: refused, slowed down, too narrow for both.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from uuid import UUID

from tests.kit.crooked import STRAIGHT, Asked, Bent, Crooked
from tests.kit.drill import SCALE, Drill, boot_ns
from tests.kit.ledgers import Acceptance
from tests.kit.phones import Phones, people
from tests.kit.processes import until
from tests.kit.scenarios.accounts import (
    PROBE_S,
    UNASKED_PAUSE_S,
    WORKERS,
    Bend,
    asked_too_often,
    checked,
    refused,
    slowed,
)

_COUNT = 40
_FEW = 15
"""What a narrow account takes in a second."""
_STARVED_S = 60.0
_NS = 1_000_000_000
_NOWHERE = "http://127.0.0.1:9"


def narrow(per_s: int) -> Bend:
    """429 for whatever is beyond so many in a second, whoever asks."""
    taken: list[int] = []
    full = slowed(None)

    def bend(asked: Asked) -> Bent:
        taken[:] = [each for each in taken if asked.boot_ns - each < _NS]
        if len(taken) >= per_s:
            return full(asked)
        taken.append(asked.boot_ns)
        return STRAIGHT

    return bend


@asynccontextmanager
async def one_account(drill: Drill) -> AsyncIterator[tuple[Phones, Crooked, Phones]]:
    """An account over a line that can be bent, which two tenants have entered; it is known that it is the same."""
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Crooked.open(""))
        ours = await stack.enter_async_context(Phones.open(drill, _NOWHERE, base_url=line.url))
        line.target = ours.sandbox.url
        tenant_id = await drill.tenant("theirs")
        theirs = await stack.enter_async_context(
            Phones.open(drill, _NOWHERE, tenant_id=tenant_id, at=ours, base_url=line.url)
        )
        first = await drill.worker()  # who sends by a connection for the first time learns which account it is
        for at, each in enumerate((ours, theirs)):
            await each.admit(people(1, first=9000 + at))
        await drill.drained()
        first.ask_to_stop()
        await first.ended()
        line.asked.clear()
        yield ours, line, theirs


async def is_refused(drill: Drill) -> list[str]:
    """F53: it is tried by one message for both tenants, as rarely as if it were one's, and then goes on for both."""
    async with one_account(drill) as (ours, line, theirs):
        line.bend = refused
        found = await _asked_for_both(drill, "F53", ours, line, theirs, window_s=PROBE_S, is_renewed=False)
        return found + await checked(drill, ours)


async def is_slowed(drill: Drill, wish_s: float | None) -> list[str]:
    """F55: it rests for both tenants alike, with and without saying for how long."""
    async with one_account(drill) as (ours, line, theirs):
        line.bend = slowed(wish_s)
        window_s = UNASKED_PAUSE_S if wish_s is None else wish_s
        is_renewed = wish_s is not None
        found = await _asked_for_both(drill, "F55", ours, line, theirs, window_s=window_s, is_renewed=is_renewed)
        return found + await checked(drill, ours)


async def is_narrow(drill: Drill) -> list[str]:
    """F55: it takes a few in a second: neither tenant waits for the other to be through."""
    async with one_account(drill) as (ours, line, theirs):
        line.bend = narrow(_FEW)
        began_ns = boot_ns()
        tenants = [
            set(await each.admit(people(_COUNT * SCALE, first=first))) for each, first in ((ours, 2000), (theirs, 5000))
        ]
        for _ in range(WORKERS):
            await drill.worker()
        await drill.drained()
        taken = ours.acceptances()
        waits = [_longest_wait_s(taken, ids, began_ns) for ids in tenants]
        shown = ", ".join(f"{each:.1f} s" for each in waits)
        print(f"F55: {len(line.asked)} requests for {len(taken)} texts; the tenants waited at most {shown}")  # noqa: T201 - figures
        found = [f"F55: a tenant waited for {each:.0f} s" for each in waits if each > _STARVED_S]
        return found + await checked(drill, ours)


async def _asked_for_both(
    drill: Drill, row: str, ours: Phones, line: Crooked, theirs: Phones, *, window_s: float, is_renewed: bool
) -> list[str]:
    """Both tenants have texts that wait while it does not take any: how often it is asked; then all go."""
    await ours.admit(people(_COUNT))
    await theirs.admit(people(_COUNT, first=5000))
    for _ in range(WORKERS):
        await drill.worker()
    # so often that tenants who do not hear of each other must have asked in the same window
    await until(lambda: len(line.asked) >= 2 * WORKERS + 2, what="it is tried again now and then")
    found = asked_too_often(row, line.asked, first=WORKERS, window_s=window_s, is_renewed=is_renewed)
    line.bend = lambda _asked: STRAIGHT
    await drill.drained()
    return found


def _longest_wait_s(taken: Sequence[Acceptance], ids: Collection[UUID], began_ns: int) -> float:
    """The longest time in which nothing of a tenant's went although something waited."""
    times = sorted(each.boot_ns for each in taken if each.message_id in ids)
    return max(after - before for before, after in pairwise([began_ns, *times])) / _NS
