"""The claim: one transaction of short statements that leases what may go now, and settles what may not.

Order of locks: lane, queue rows, destinations by name, the sender's warm-up, buckets of the campaign, of the sender, of
its connection, of the tenant, then money. Limits are asked late, after the gates (hotpath.md B). The number of
statements is the same for 1 and for 1,000 messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.contracts.gate import Block, Candidate, Fact, Gate, Hold, Lane, Pass, Verdict
from outrider.data.db import Database
from outrider.domain.limits import contacted
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch import pacing
from outrider.engine.dispatch.batch import Batch, Claimed, Money
from outrider.engine.dispatch.marks import FIRST, Marks
from outrider.engine.dispatch.pacing import STOPPED_S
from outrider.engine.dispatch.spending import Spending
from outrider.engine.dispatch.terms import Terms, TermsReader

_log = structlog.get_logger(__name__)
_RATE_LIMIT = "rate limit"
_ASKED_S = 0.01
"""So long a lane rests that met its rate while another claim of this worker asks it: that one says for how long."""
_LOST_FOR = timedelta(hours=1)


@dataclass(slots=True)
class Claim:
    """What a claim gave. `rest_s`: how long the lane need not be asked again; `why` it gave less than asked.

    is_drained  there was nothing more in the lane: whatever comes from now on is in the next directory of lanes
    """

    batch: Batch | None = None
    settled_count: int = 0
    rest_s: float = 0.0
    why: str = ""
    is_drained: bool = False


class Claimer:
    """Claims batches for one worker."""

    def __init__(self, database: Database, gates: Sequence[Gate], *, lease_s: float) -> None:
        self._database = database
        self._terms = TermsReader(gates)
        self.spending = Spending()
        self.stops: Counter[tuple[str, str]] = Counter()
        """How many messages each gate held or blocked: (gate, verdict) -> count."""
        self._lease_s = lease_s
        self._marks = Marks()
        self._throttled = pacing.Throttled()

    async def claim(self, lane: Lane, token: int, *, limit: int) -> Claim:
        """Lease up to `limit` messages of a lane.

        Takes:   limit 1..1000; token: unused so far, already in the journal.
        Gives:   a batch (or none and for how long the lane may rest).
        Raises:  Unavailable: nothing was claimed, or, when the commit itself was cut, what was claimed holds the token
                 and was not begun: the caller gives the token back.
        Source:  architecture.md section 4; hotpath.md
        """
        with self._throttled.alone(lane) as is_alone:
            if not is_alone:
                return Claim(rest_s=_ASKED_S, why=_RATE_LIMIT)
            return await self._claim(lane, token, limit)

    async def _claim(self, lane: Lane, token: int, limit: int) -> Claim:
        begin_s = boottime_s()
        async with self._database.transaction() as raw:
            now: datetime | None = await SQL.lane_lock.value(raw, lane.tenant_id, lane.id)
            if now is None:
                return Claim(rest_s=1.0, why="the lane is gone")
            # what gates are asked after this is true from here on: a claim that waited long for its lane is not stale
            asked_s = boottime_s()
            terms = await self._terms.read(raw, lane)
            is_paced = "campaign" in terms.paced
            allowed, why, rest_s = await self._allowed(raw, terms, lane, limit)
            if allowed < 1:
                return Claim(rest_s=rest_s, why=why)
            picked, is_drained, looked_s = await self._pick(raw, lane, allowed, begin_s)
            if not picked:
                await self._throttled.note(raw, lane, terms, limit, is_met=False)
                return Claim(rest_s=0.05, why="empty", is_drained=is_drained)
            rows = await self._read(raw, lane, picked, now)
            picked = [row for row in picked if row["message_id"] in rows]
            candidates = [_candidate(row, rows) for row in picked]
            passed, settled = await self._judge(raw, lane, terms.gates, candidates, now)
            if failpoint.ARMED:
                failpoint.hit("claim.judged")
            paces = await pacing.ask(raw, lane, terms, passed)
            await self._stop(raw, lane, paces.held)
            settled += len(paces.held)
            passed = [candidate for candidate in passed if candidate.id not in paces.held]
            granted, taken = await pacing.reserve(raw, lane, len(passed), terms)
            going, money = await self._charge(raw, lane, terms, token, passed[:granted], rows, now)
            settled += granted - len(going)
            await pacing.give_back(raw, lane, taken, len(going))
            await paces.close(raw, token, going)
            await self._take(raw, lane, terms, token, going)
            is_drained = is_drained and granted == len(passed)
            why = _RATE_LIMIT if granted < len(passed) else why
            is_throttled = why == _RATE_LIMIT and not (is_drained or settled)
            rest_s = await self._throttled.note(raw, lane, terms, limit, is_met=is_throttled)
            if failpoint.ARMED:
                failpoint.hit("claim.before_commit")
        if failpoint.ARMED:
            failpoint.hit("claim.committed")
        if not going:
            return Claim(settled_count=settled, rest_s=0.0 if settled else rest_s or 0.05, why=why if passed else "")
        if why != _RATE_LIMIT and not is_drained:
            last = picked[-1]
            mark = last["priority"], last["due_at"], last["message_id"]
            self._marks.put(lane.id, mark, begin_s, looked_s=looked_s)
        attempts = {row["message_id"]: row for row in picked}
        messages = {c.id: _claimed(c, attempts[c.id], rows[c.id], now, begin_s) for c in going}
        is_suspect = attempts[going[0].id]["crashes"] > 0
        batch = Batch(
            lane, token, begin_s + self._lease_s, begin_s, now, messages, is_suspect, asked_s=asked_s,
            unsettled=set(messages), money=money, connection_id=terms.connection_id,
            begin_by_s=paces.begin_by_s(now, begin_s), tracking=terms.tracking,
            unconcerned=frozenset(gate.key for gate in terms.gates if not gate.concerns(lane)),
        )  # fmt: skip
        batch.unrecorded = len(messages)
        if is_paced and allowed < limit:
            rest_s = max(rest_s, STOPPED_S)
        return Claim(batch, settled_count=settled, rest_s=rest_s, why=why, is_drained=is_drained)

    async def withdrawn(self, raw: asyncpg.Connection, batch: Batch, gates: Sequence[Gate]) -> dict[UUID, str]:
        """Ask gates that can change their mind again about what has no outcome yet.

        A message that was given leave counts as well: its connection may be lost before its bytes leave, and its
        provider then asks for leave again.
        """
        waiting = [batch.messages[message_id] for message_id in batch.unsettled]
        by_id = {m.id: Candidate(m.id, m.contact_id, m.address, m.purpose, None, m.attempt) for m in waiting}
        now = batch.claimed_at + timedelta(seconds=boottime_s() - batch.claimed_s)
        found: dict[UUID, str] = {}
        for gate in gates:
            if gate.key in batch.unconcerned:
                continue
            for fact in await _facts(raw, gate, batch.lane, list(by_id.values())):
                message_id = fact["message_id"]
                if not isinstance(gate.judge(fact, by_id[message_id], now), Pass):
                    found[message_id] = gate.key
        return found

    async def _allowed(self, raw: asyncpg.Connection, terms: Terms, lane: Lane, limit: int) -> tuple[int, str, float]:
        """Ask the gates that limit a lane as a whole, the campaign's pace, and the buckets of one that just met them.

        Gives:   how many may be picked, why not more, and how long the lane may rest when it is none.
        """
        allowed, why = limit, ""
        for gate in terms.gates:
            if gate.lane_facts is None or (gate.is_switch and not terms.is_switched):
                continue
            facts = await raw.fetch(gate.lane_facts, lane.tenant_id, lane.channel, lane.sender_id, lane.campaign_id)
            allowance = gate.allow(lane, facts, allowed)
            if allowance.count < allowed:
                allowed, why = max(allowance.count, 0), allowance.reason
        if "campaign" in terms.paced:
            pace = await pacing.of_campaign(raw, lane, allowed)
            if pace is not None and pace < allowed:
                allowed, why = pace, "pace of the campaign"
        if allowed < 1:
            return allowed, why, STOPPED_S
        there, rest_s = await self._throttled.ask(raw, lane, terms, allowed)
        return (there, _RATE_LIMIT, rest_s) if there < allowed else (allowed, why, STOPPED_S)

    async def _pick(
        self, raw: asyncpg.Connection, lane: Lane, limit: int, now_s: float
    ) -> tuple[list[asyncpg.Record], bool, float | None]:
        """The next ready messages in order, and whether they are all. One that was in dying hands goes alone.

        Gives:   further how long it took to look at the lane from its start; None: it was looked at from a mark.
        """
        mark = self._marks.get(lane.id, now_s)
        picked = await SQL.claim_pick.many(raw, lane.tenant_id, lane.id, limit, *mark)
        if not picked and self._marks.drop(lane.id):
            mark = FIRST
            picked = await SQL.claim_pick.many(raw, lane.tenant_id, lane.id, limit, *mark)
        looked_s = picked[-1]["looked_s"] if picked and mark == FIRST else None
        is_drained = len(picked) < limit and mark == FIRST  # before a mark there may be what came back
        suspect = next((at for at, row in enumerate(picked) if row["crashes"] > 0), None)
        if suspect is not None:
            is_drained = is_drained and len(picked) == 1
            picked = picked[: max(suspect, 1)]
        return picked, is_drained, looked_s

    async def _read(
        self, raw: asyncpg.Connection, lane: Lane, picked: Sequence[asyncpg.Record], now: datetime
    ) -> dict[UUID, asyncpg.Record]:
        """The ledger rows of a pick. What has none is held, for `data validate` and people: its lane goes on [F45]."""
        ids = [row["message_id"] for row in picked]
        rows = {row["id"]: row for row in await SQL.claim_read.many(raw, lane.tenant_id, ids, min(ids), max(ids))}
        lost = [message_id for message_id in ids if message_id not in rows]
        if lost:
            _log.error("ledger_gap", lane=lane.id, count=len(lost), first=str(lost[0]))
            until = [now + _LOST_FOR] * len(lost)
            await SQL.claim_hold.run(raw, lane.tenant_id, lost, until, ["it has no row in the ledger"] * len(lost))
        return rows

    async def _judge(
        self,
        raw: asyncpg.Connection,
        lane: Lane,
        gates: Sequence[Gate],
        candidates: list[Candidate],
        now: datetime,
    ) -> tuple[list[Candidate], int]:
        """Ask every gate once; settle what is held or blocked. Gives who passed, and how many did not."""
        verdicts: dict[UUID, tuple[str, Verdict]] = {}
        by_id = {candidate.id: candidate for candidate in candidates}
        for gate in gates:
            if not gate.concerns(lane):
                continue
            if gate.counts_contacts:  # what others stopped does not count
                await contacted.lock(raw, lane.tenant_id)
                candidates = [candidate for candidate in candidates if candidate.id not in verdicts]
            if gate.facts is None:
                if type(gate).judge is Gate.judge:
                    continue
                judged: list[tuple[Candidate, Fact]] = [(candidate, {}) for candidate in candidates]
            else:
                judged = [(by_id[fact["message_id"]], fact) for fact in await _facts(raw, gate, lane, candidates)]
            for candidate, fact in judged:
                if candidate.id not in verdicts:
                    verdict = gate.judge(fact, candidate, now)
                    if not isinstance(verdict, Pass):
                        verdicts[candidate.id] = (gate.key, verdict)
                    elif verdict.until is not None:
                        candidate.may_go_until = min(verdict.until, candidate.may_go_until or verdict.until)
        await self._stop(raw, lane, verdicts)
        return [candidate for candidate in candidates if candidate.id not in verdicts], len(verdicts)

    async def _take(
        self, raw: asyncpg.Connection, lane: Lane, terms: Terms, token: int, going: Sequence[Candidate]
    ) -> None:
        """Lease who goes, and note it where contacts are counted."""
        if not going:
            return
        await SQL.claim_take.run(raw, lane.tenant_id, [candidate.id for candidate in going], token, self._lease_s)
        if any(gate.counts_contacts and gate.concerns(lane) for gate in terms.gates):
            await contacted.note(raw, lane, token, going)

    async def _charge(
        self,
        raw: asyncpg.Connection,
        lane: Lane,
        terms: Terms,
        token: int,
        granted: list[Candidate],
        rows: dict[UUID, asyncpg.Record],
        now: datetime,
    ) -> tuple[list[Candidate], Money | None]:
        """Reserve what messages cost; those there is no money for are held. Gives who goes, and what was charged."""
        if not terms.is_counted or not granted:
            return granted, None
        priced = [(candidate, rows[candidate.id]["content_id"]) for candidate in granted]
        money, short = await self.spending.reserve(raw, lane, terms, token, priced, now)
        await self._stop(raw, lane, short)
        return [candidate for candidate in granted if candidate.id not in short], money

    async def _stop(self, raw: asyncpg.Connection, lane: Lane, verdicts: dict[UUID, tuple[str, Verdict]]) -> None:
        """Record and count what is held or blocked."""
        if not verdicts:
            return
        await _settle(raw, lane, verdicts)
        self.stops.update((key, type(verdict).__name__.lower()) for key, verdict in verdicts.values())


async def _facts(
    raw: asyncpg.Connection, gate: Gate, lane: Lane, candidates: Sequence[Candidate]
) -> list[asyncpg.Record]:
    """One look-up per gate and batch."""
    rows: list[asyncpg.Record] = await raw.fetch(
        gate.facts,
        lane.tenant_id,
        [candidate.id for candidate in candidates],
        [candidate.contact_id for candidate in candidates],
        [candidate.address for candidate in candidates],
        lane.channel,
        lane.message_class,
        [candidate.purpose for candidate in candidates],
    )
    return rows


async def _settle(raw: asyncpg.Connection, lane: Lane, verdicts: dict[UUID, tuple[str, Verdict]]) -> None:
    """Record what gates stopped or delayed: two statements, whatever the number."""
    held = [(mid, v.until, f"{key}: {v.reason}") for mid, (key, v) in verdicts.items() if isinstance(v, Hold)]
    closed = [(mid, v.state, key, v.reason) for mid, (key, v) in verdicts.items() if isinstance(v, Block)]
    if held:
        ids, untils, reasons = zip(*held, strict=True)
        await SQL.claim_hold.run(raw, lane.tenant_id, list(ids), list(untils), list(reasons))
    if closed:
        ids, states, keys, reasons = zip(*closed, strict=True)
        await SQL.claim_close.run(
            raw, lane.tenant_id, list(ids), list(states), list(keys), list(reasons), min(ids), max(ids)
        )


def _candidate(picked: asyncpg.Record, rows: dict[UUID, asyncpg.Record]) -> Candidate:
    row = rows[picked["message_id"]]
    return Candidate(
        row["id"], row["contact_id"], row["address"], row["purpose"], row["expires_at"],
        picked["attempt"],
    )  # fmt: skip


def _claimed(
    candidate: Candidate, picked: asyncpg.Record, row: asyncpg.Record, now: datetime, begin_s: float
) -> Claimed:
    ends = [end for end in (candidate.expires_at, candidate.may_go_until) if end is not None]
    return Claimed(
        candidate.id,
        candidate.contact_id,
        row["content_id"],
        candidate.address,
        candidate.purpose,
        row["variables"],
        candidate.attempt + 1,
        picked["attempted_at"] or now,
        begin_s + (min(ends) - now).total_seconds() if ends else None,
    )
