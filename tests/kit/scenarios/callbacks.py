"""Drills about what providers tell: too early, too often, in any order, long ago, and by somebody else.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.kit.drill import Drill, boot_ns
from tests.kit.phones import Phones, Request, people
from tests.kit.ports import free_port
from tests.kit.processes import Process, say, slowness, until
from tests.kit.standstills import stood_still_s

_APPLIED_WITHIN_S = 5.0
WORDS = ("queued", "sending", "sent", "delivered", "undelivered")
_WAITING = "SELECT count(*) FROM webhook_events WHERE state IN ('new', 'parked')"


@dataclass(frozen=True, slots=True)
class Standing:
    """All that callbacks may change, to be compared with how it stood before."""

    messages: list[tuple[Any, ...]]
    events: dict[str, int]
    counted: dict[str, int]
    suppressed: list[tuple[Any, ...]]
    written: int
    kept: int

    @classmethod
    async def read(cls, drill: Drill) -> Standing:
        """As it is now."""
        messages = await drill.rows("SELECT id, state, code, provider_id FROM messages ORDER BY id")
        events = await drill.rows("SELECT kind, count(*) AS n FROM message_events GROUP BY 1")
        counted = await drill.rows(
            "SELECT state, sum(n)::int AS n FROM (SELECT state, n FROM rollups UNION ALL SELECT state, n FROM"
            " rollup_deltas) t GROUP BY 1 HAVING sum(n) <> 0"
        )
        suppressed = await drill.rows("SELECT address, reason FROM suppressions ORDER BY address")
        return cls(
            [tuple(row) for row in messages],
            {row["kind"]: row["n"] for row in events},
            {row["state"]: row["n"] for row in counted},
            [tuple(row) for row in suppressed],
            await drill.value("SELECT count(*) FROM inbound_messages"),
            await drill.value("SELECT count(*) FROM webhook_events"),
        )


async def applied(drill: Drill) -> None:
    """Wait until nothing that was told waits any more."""

    async def is_through() -> bool:
        return not await drill.value(_WAITING)

    await until(is_through, what="every report is applied", poll_s=0.05)


async def two_nodes(drill: Drill) -> tuple[Process, Process]:
    """Two API processes of one installation."""
    first, second = drill.start("api"), drill.start("api")
    return await first.ready(), await second.ready()


async def told_before_our_commit(drill: Drill) -> list[str]:
    """F63: the provider reports while the worker that sent has not committed yet: it waits, then it counts."""
    api = await drill.start("api").ready()
    async with Phones.open(drill, api.where, statuses=("sent", "delivered")) as phones:
        # one that claims nothing looks at what was told; one that sends stands still in the middle of its commit
        onlooker = drill.start_worker(at="claim.judged:*:raise")
        await onlooker.ready()
        holder = drill.start_worker(at="record.before_commit:1:stop")
        await phones.admit(people(3))
        await holder.stands_still(what="outcomes wait for their commit")

        async def were_looked_at() -> bool:
            # the first commit may be that of one text, when the answers to the others come after it stood still, or
            # were not asked for yet: each that the provider took was told of twice
            seen = await drill.value("SELECT count(*) FROM webhook_events WHERE attempts > 0")
            return bool(seen == 2 * len(phones.acceptances()) > 0)

        await until(were_looked_at, what="somebody has seen what was told too early")
        found = [
            f"I9: {row['id']} is {row['state']} before its outcome was recorded"
            for row in await drill.rows("SELECT id, state FROM messages WHERE state <> 'queued'")
        ]
        slow, thawed_ns = await asyncio.to_thread(slowness), boot_ns()
        thawed_at = await drill.value("SELECT clock_timestamp()")  # until then it is the drill that keeps it waiting
        holder.thaw()
        await drill.drained()
        await applied(drill)
        stands = await Standing.read(drill)
        found += [f"I9: {row[0]} is {row[1]}, and was reported delivered" for row in stands.messages
                  if row[1] != "delivered"]  # fmt: skip
        late_s = await drill.value(
            "SELECT max(extract(epoch FROM e.applied_at - greatest(m.finished_at, $1)))::float8 FROM webhook_events e"
            " JOIN messages m ON m.id = e.message_id",
            thawed_at,
        )
        say(f"F63: applied at most {late_s or 0:.2f} s after our commit and the thaw")
        most_s = _APPLIED_WITHIN_S * max(slow, slowness()) + stood_still_s(thawed_ns)
        if late_s is None or late_s > most_s:
            found.append(f"F63: what came too early was applied {late_s} s after our commit and the thaw")
        return found + await phones.violations()


async def told_a_hundred_times(drill: Drill, *, times: int = 100) -> list[str]:
    """F64: a report and a STOP, each told a hundred times at once to two nodes: one change each, 200 every time."""
    nodes = await two_nodes(drill)
    async with Phones.open(drill, nodes[0].where) as phones:
        await drill.worker()
        (message_id,) = await phones.sent(people(1))
        report = await phones.report(message_id, "undelivered", error=30005)
        stop = phones.text(people(2)[1], "STOP")
        found: list[str] = []
        for what, request in (("report", report), ("STOP", stop)):
            answers = await asyncio.gather(*(phones.post(nodes[n % 2].where, request) for n in range(times)))
            statuses = Counter(status for status, _ in answers)
            if statuses != {200: times}:
                found.append(f"I9: a {what} told {times} times was answered {dict(statuses)}")
            replies = sum("<Message>" in body for _, body in answers)
            if replies != (what == "STOP"):
                found.append(f"I9: a {what} told {times} times had {replies} replies")
        await applied(drill)
        stands = await Standing.read(drill)
        expected = {
            "rows kept": (stands.kept, 2),
            "texts kept": (stands.written, 1),
            "bounces on the timeline": (stands.events.get("bounced"), 1),
            "bounces counted": (stands.counted.get("bounced"), 1),
            "people not to be contacted": (len(stands.suppressed), 2),
            "repeats": (await drill.value("SELECT sum(repeats)::int FROM webhook_events"), 2 * (times - 1)),
        }
        found += [f"I9: {seen} {what}, not {wanted}" for what, (seen, wanted) in expected.items() if seen != wanted]
        return found + await phones.violations()


async def told_in_every_order(drill: Drill, *, seed: int = 1) -> list[str]:
    """F65: five reports in all their 120 orders, over two nodes, while workers apply them: all end alike."""
    dice = random.Random(seed)  # noqa: S311 - which node is asked
    nodes = await two_nodes(drill)
    async with Phones.open(drill, nodes[0].where) as phones:
        await asyncio.gather(*(drill.worker() for _ in range(2)))
        orders = list(itertools.permutations(WORDS))
        ids = await phones.sent(people(len(orders)))
        sids = {row["id"]: row["provider_id"] for row in await drill.rows("SELECT id, provider_id FROM messages")}

        async def tell(message_id: UUID, word: str) -> None:
            error = 30003 if word == "undelivered" else None
            request = await phones.report(message_id, word, sid=sids[message_id], error=error)
            status, body = await phones.post(dice.choice(nodes).where, request)
            assert status == 200, body

        async def tell_all(message_id: UUID, words: Sequence[str]) -> None:
            for word in words:
                await tell(message_id, word)

        # four as fast as they go; the last when the others are applied, so that it could undo them
        await asyncio.gather(*(tell_all(m, order[:-1]) for m, order in zip(ids, orders, strict=True)))
        await applied(drill)
        await asyncio.gather(*(tell(m, order[-1]) for m, order in zip(ids, orders, strict=True)))
        await applied(drill)
        ends = Counter((row[1], row[2]) for row in (await Standing.read(drill)).messages)
        found = [
            f"I9: {count} of {len(orders)} orders end as {state} ({code})"
            for (state, code), count in ends.items()
            if (state, code) != ("bounced", "handset_unreachable")
        ]
        return found + await phones.violations()


async def told_again_days_later(drill: Drill) -> list[str]:
    """F66: genuine callbacks, caught by somebody and brought again three days later: answered, and nothing happens."""
    nodes = await two_nodes(drill)
    async with Phones.open(drill, nodes[0].where) as phones:
        await drill.worker()
        (message_id,) = await phones.sent(people(1))
        person = people(2)[1]
        caught = [
            await phones.report(message_id, "delivered"),
            await phones.report(message_id, "undelivered", error=30005),
            phones.text(person, "STOP"),
            phones.text(person, "START"),
        ]
        for request in caught:
            assert (await phones.post(nodes[0].where, request))[0] == 200
        await applied(drill)
        await phones.write(nodes[0].where, person, "Stop")
        await drill.execute("DELETE FROM suppressions WHERE address <> $1", person)  # somebody has looked into it
        for column in ("received_at", "applied_at", "due_at"):
            await drill.execute(f"UPDATE webhook_events SET {column} = {column} - interval '3 days'")
        before = await Standing.read(drill)
        found: list[str] = []
        for node, request in zip((*nodes, *nodes), caught, strict=True):
            status, body = await phones.post(node.where, request)
            if status != 200 or "<Message>" in body:
                found.append(f"I9: a callback of three days ago is answered {status}: {body}")
        await applied(drill)
        after = await Standing.read(drill)
        if after != before:
            found.append(f"I9: callbacks of three days ago changed {before} to {after}")
        return found + await phones.violations()


async def forged(drill: Drill, *, count: int = 1_000) -> list[str]:
    """F67: a thousand forged ones over two nodes, unsigned, signed wrongly, and by another tenant's account."""
    nodes = await two_nodes(drill)
    other = await drill.tenant("other")
    async with (
        Phones.open(drill, nodes[0].where) as phones,
        Phones.open(drill, nodes[0].where, tenant_id=other) as others,
    ):
        await drill.worker()
        (ours,) = await phones.sent(people(1))
        genuine = await phones.report(ours, "undelivered", error=30005)
        stop = phones.text(people(2)[1], "STOP")
        elsewhere = others.signed(genuine.form, f"?m={ours}")
        swapped = Request(elsewhere.target, genuine.form, genuine.signature)
        wrong = [genuine.forged(), genuine.unsigned(), stop.forged(), stop.unsigned(), elsewhere.forged(), swapped]
        before = await Standing.read(drill)
        spent_s = sum(map(_cpu_s, nodes))
        answers = await _all(phones, nodes, [wrong[n % len(wrong)] for n in range(count)])
        share = (sum(map(_cpu_s, nodes)) - spent_s) / count * 1_000
        say(f"F67: 1,000 forged ones a second cost {share:.0%} of a core")
        found = [] if answers == {403: count} else [f"I9: {count} forged ones were answered {dict(answers)}"]
        await applied(drill)
        after = await Standing.read(drill)
        if after != before:
            found.append(f"I9: forged callbacks changed {before} to {after}")

        async def are_counted() -> bool:
            return bool(await drill.value("SELECT sum(n) = $1 FROM webhook_refusals", count))

        if not found:
            await until(are_counted, what="every refusal is counted")
        # an account of another tenant that is genuine, and names our message
        assert (await others.post(nodes[1].where, elsewhere))[0] == 200
        await applied(drill)
        if (await Standing.read(drill)).messages != before.messages:
            found.append("I9: a tenant's account has moved another tenant's message")
        return found + await phones.violations()


def _cpu_s(process: Process) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _all(phones: Phones, nodes: Sequence[Process], requests: Sequence[Request]) -> Counter[int]:
    """Bring requests over 32 connections, in turn to every node; gives how often each status came."""
    numbered = iter(enumerate(requests))
    statuses: Counter[int] = Counter()

    async def bring() -> None:
        for number, request in numbered:
            status, _ = await phones.post(nodes[number % len(nodes)].where, request)
            statuses[status] += 1

    await asyncio.gather(*(bring() for _ in range(32)))
    return statuses


async def killed_around_the_commit(drill: Drill, point: str) -> list[str]:
    """F63-F65: the API is killed around the commit of callbacks; the provider tells again, and each counts once."""
    port = free_port()
    victim = await drill.start("api", at=f"{point}:2:kill", api_port=str(port)).ready()
    async with Phones.open(drill, victim.where, statuses=("queued", "sending", "sent", "delivered")) as phones:
        everybody = people(20)
        await phones.admit(everybody)
        await drill.worker()
        await victim.killed(point)
        await drill.start("api", api_port=str(port)).ready()
        await drill.drained()
        await asyncio.wait_for(phones.sandbox.settled(), 180)
        await applied(drill)
        stands = await Standing.read(drill)
        again = await drill.value("SELECT coalesce(sum(repeats), 0) FROM webhook_events")
        found = []
        if stands.kept != len(everybody) * len(phones.sandbox.options.statuses):
            found.append(f"I9: {stands.kept} of {len(everybody) * len(phones.sandbox.options.statuses)} reports kept")
        if stands.events.get("delivered") != len(everybody):
            found.append(f"I9: {stands.events.get('delivered')} of {len(everybody)} deliveries on the timelines")
        if (
            point == "callbacks.committed" and not again
        ):  # before the commit another one's answers may be cut off as well
            found.append(f"I9: no report was told again after {point}")
        return found + await phones.violations()
