"""Drills about time: quiet hours that begin under load, and a worker whose clock leaps and drifts.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import asyncio
import os
import struct
import zoneinfo
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from outrider.base.ids import DEFAULT_TENANT
from tests.kit.crooked import Bent, Crooked
from tests.kit.drill import Drill, boot_ns
from tests.kit.phones import Phones
from tests.kit.processes import slowness, until
from tests.kit.scenarios.accounts import checked
from tests.kit.shifted import leaping, set_clock
from tests.kit.standstills import stood_still_s

_ZONE = "Drill/Soon"
_QUIET_AT = 21 * 3600
"""The preset: quiet from 21:00."""
_NS = 1_000_000_000
_GRACE_S = 1.0
"""From the leave to write to the acceptance: the way of a request, on a machine that does nothing else."""
_AT_ONCE_S = 0.001
STOOD_STILL = "F83: the machine stood still when it got quiet, nothing was left to give up: this run proves nothing"


async def quiet_begins(drill: Drill, *, in_s: float, count: int = 500) -> list[str]:
    """F83: it gets quiet while `count` are queued here and while the provider has not handed over what it took.

    Takes:   in_s: until it gets quiet, on a machine that does nothing else; longer where others work, and of as many
             more messages: what answers slowly takes them at its own pace, however busy the machine is.
    """
    slow = await asyncio.to_thread(slowness)
    in_s, count, phone_s = in_s * slow, int(count * slow), 2.0 + slow  # as much longer as is excused below
    numbers = [f"+1415{2_000_000 + n}" for n in range(count)]
    zones = drill.folder / "zones"
    drill.command = drill.command.with_(PYTHONTZPATH=os.pathsep.join([str(zones), *zoneinfo.TZPATH]))
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Crooked.open(""))
        phones = await stack.enter_async_context(
            Phones.open(drill, "http://127.0.0.1:9", base_url=line.url, connections=4)
        )
        line.target, line.bend = phones.sandbox.url, lambda _asked: Bent(after_s=0.3)
        phones.rules(delivered_s=phone_s)
        await drill.execute("UPDATE tenants SET settings = settings || '{\"consent_required\": false}'::jsonb")
        await drill.execute(_PEOPLE, DEFAULT_TENANT, numbers, _ZONE)
        for _ in range(2):
            await drill.worker()
        quiet_at, quiet_ns = _moment(in_s)
        _zone(zones, quiet_at)  # workers read it when they meet it
        await phones.admit(numbers, message_class="bulk", purpose="marketing")
        await until(lambda: boot_ns() > quiet_ns, what="it is quiet")
        await until(lambda: _is_held(drill), what="what is left is held")
        await until(lambda: _has_ended(phones), what="the provider has delivered or given up what it took")
        found = []
        lag_s = await asyncio.to_thread(stood_still_s, quiet_ns - int((phone_s + 3) * _NS))
        grace_s = _GRACE_S * max(slow, await asyncio.to_thread(slowness)) + lag_s
        # a text is valid until shortly before it gets quiet, so that its way is covered on a machine like any
        delivered_ns = quiet_ns + int((grace_s - _GRACE_S) * _NS)
        handed = [each for each in phones.acceptances() if each.boot_ns > quiet_ns + grace_s * _NS]
        if handed:
            found.append(f"F83: {len(handed)} texts were handed over in quiet hours")
        if not phones.acceptances():
            found.append("F83: nothing had gone before it got quiet: the drill proves nothing")
        if late := [each for each in phones.times_of("delivered") if each > delivered_ns]:
            found.append(f"F83: {len(late)} texts reached somebody in quiet hours")
        if not phones.times_of("given_up"):
            nothing = "F83: the provider had nothing left to give up: the drill proves nothing"
            found.append(STOOD_STILL if lag_s > 1 else nothing)
        return found + await checked(drill, phones)


async def clock_leaps(drill: Drill) -> list[str]:
    """F79: a worker's clock leaps two hours forwards and back and drifts, while texts wait for their time."""
    clock = drill.folder / "clock"
    set_clock(clock, leap_s=0, drift=0)
    right = drill.command
    drill.command = leaping(right, clock)
    sender = await drill.sender("at_most_once")
    soon = await drill.admit(sender, 40, name="soon")
    later = await drill.admit(sender, 40, name="later")
    for ids, seconds in ((soon, 6), (later, 7200)):
        await drill.execute(_DUE, ids, seconds)
    due_ns = boot_ns() + int(1e9 * float(await drill.value(_WAITS, soon)))
    await drill.worker()
    drill.command = right
    for leap_s, drift in ((7200, 0.0), (-7200, 0.0), (0, 500e-6), (0, -500e-6)):
        set_clock(clock, leap_s=leap_s, drift=drift)
        now = await drill.admit(sender, 10, name=f"now{leap_s}")
        await until(lambda ids=now: _has_gone(drill, ids), what="what is due now goes whatever the clock says")  # type: ignore[misc]  # bound now
    await until(lambda: _has_gone(drill, soon), what="what was due soon goes at its time")
    taken = {each.message_id: each.boot_ns for each in drill.acceptances()}
    found = [f"F79: {sum(each in taken for each in later)} went two hours early"] if taken.keys() & set(later) else []
    if any(taken[each] < due_ns - 0.2 * _NS for each in soon):
        found.append("F79: some went before their time")
    await drill.execute(_DUE, later, 0)
    await drill.drained()
    return found + await drill.violations()


def _moment(in_s: float) -> tuple[datetime, int]:
    """The moment so many seconds from now, by the clock on the wall and by the ledger's, read at once."""
    while True:
        before_ns, now = boot_ns(), datetime.now(UTC)
        if boot_ns() - before_ns < _AT_ONCE_S * _NS:
            return now + timedelta(seconds=in_s), before_ns + int(in_s * _NS)


def _zone(place: Path, quiet_at: datetime) -> None:
    """A time zone in which it is 21:00 at that moment."""
    seconds = quiet_at.hour * 3600 + quiet_at.minute * 60 + quiet_at.second
    offset = (_QUIET_AT - seconds + 43200) % 86400 - 43200
    head = struct.pack(">4s1s15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4)
    block = head + struct.pack(">lbb", offset, 0, 0) + b"DRL\0"
    target = place / _ZONE
    target.parent.mkdir(parents=True)
    target.write_bytes(block + block + b"\n\n")


def _has_ended(phones: Phones) -> bool:
    ended = len(phones.times_of("delivered")) + len(phones.times_of("given_up"))
    return ended == len(phones.acceptances())


async def _is_held(drill: Drill) -> bool:
    """Whether nothing is on its way any more, and what is left is held because it is quiet."""
    left = await drill.rows("SELECT state, reason FROM queue")
    return bool(left) and all(row["state"] == 5 and "quiet in" in (row["reason"] or "") for row in left)


async def _has_gone(drill: Drill, ids: Sequence[UUID]) -> bool:
    count = await drill.value("SELECT count(*) FROM messages WHERE id = ANY ($1::uuid[]) AND state = 'sent'", list(ids))
    return bool(count == len(ids))


_PEOPLE = """
WITH people AS (
  INSERT INTO contacts (tenant_id, name, timezone) SELECT $1, n, $3 FROM unnest($2::text[]) n RETURNING id, name
)
INSERT INTO addresses (tenant_id, channel, address, contact_id) SELECT $1, 'sms', name, id FROM people
"""
_DUE = """
UPDATE queue SET state = 4, due_at = now() + $2::int * interval '1 second' WHERE message_id = ANY ($1::uuid[])
"""
_WAITS = """
SELECT extract(epoch FROM min(due_at) - clock_timestamp()) FROM queue WHERE message_id = ANY ($1::uuid[])
"""
