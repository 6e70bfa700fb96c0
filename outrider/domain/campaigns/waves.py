"""Waves: a canary or a test goes before the rest; what follows from it is decided once, by figures or by people.

Owns the plan of waves, their checkpoints, the looks at them and the verdicts. Each contact belongs to one of 10,000
buckets by its id and the campaign's; a wave is a range of buckets of the audience that was frozen at the launch. The
next wave is queued only after a verdict, in whose transaction it begins: a kill leaves none of both or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base import failpoint
from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.campaigns import judge, variants
from outrider.domain.campaigns.delivery import BUCKETS, Delivery, parts
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.campaigns.rows import SQL as CAMPAIGNS
from outrider.domain.campaigns.told import Kind, note, tell
from outrider.domain.campaigns.turn import Turn
from outrider.domain.limits import switches
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.messages import counts
from outrider.domain.messages.fan_out import Page

LOOKER = Actor("system", "campaign waves")
_LONGEST_WHY = 500


class Range(msgspec.Struct, frozen=True):
    """A wave as it is planned: buckets `begin` to before `end`, and how many members they hold."""

    kind: str
    begin: int
    end: int
    member_count: int


def ranges(wanted: Delivery, members: Sequence[int]) -> list[Range]:
    """Cut an audience into its waves; pure.

    Takes:   members  how many belong to each of the 10,000 buckets
    Gives:   ranges that follow one another and cover all; a wave that would be empty is left out. A canary has its
             share and its least count, a test its share, as exactly as whole buckets allow, never less.
    """
    total = sum(members)
    begin, found = 0, []
    steps: list[tuple[str, int]] = []
    if wanted.canary is not None:
        least = max(-(-total * parts(wanted.canary.share_percent) // BUCKETS), wanted.canary.minimum_count)
        steps.append(("canary", least))
    if wanted.ab_test is not None and wanted.ab_test.has_winner:
        steps.append(("test", -(-total * parts(wanted.ab_test.audience_percent) // BUCKETS)))
    for kind, least in steps:
        end, count = begin, 0
        while end < BUCKETS and (count < least or end == begin):
            count += members[end]
            end += 1
        if end > begin:
            found.append(Range(kind, begin, end, count))
        begin = end
    if begin < BUCKETS:
        found.append(Range("rest", begin, BUCKETS, sum(members[begin:])))
    return found


async def plan(uow: UnitOfWork, campaign_id: UUID, wanted: Delivery) -> None:
    """Plan the waves of an audience that was just found, in that transaction; without waves nothing is planned."""
    if not wanted.has_waves:
        return
    members = [0] * BUCKETS
    for row in await SQL.bucket_counts.many(uow.raw, uow.tenant, campaign_id):
        members[row["bucket"]] = row["n"]
    found = ranges(wanted, members)
    for n, each in enumerate(found, 1):
        await SQL.wave_add.run(
            uow.raw, uow.tenant, campaign_id, n, each.kind, each.begin, each.end, each.member_count
        )  # fmt: skip
    await SQL.wave_begin.run(uow.raw, uow.tenant, campaign_id, 1)


async def keep(raw: asyncpg.Connection, tenant_id: UUID, campaign_id: UUID, turn: Turn, page: Page) -> None:
    """The checkpoint of a page of a wave, in the page's transaction; nothing where there are no waves."""
    if turn.wave is None:
        return
    await SQL.wave_keep.run(raw, tenant_id, campaign_id, turn.wave, page.last, page.queued)
    if page.last is None and turn.has_more_waves:
        await SQL.wave_wait.run(raw, tenant_id, campaign_id)


async def look(db: Database, tenant_id: UUID, campaign_id: UUID) -> str | None:
    """Look at the wave of a campaign that waits for it, in one transaction; a kill half-way leaves it to be looked at.

    Gives:   `waiting` when it was set when to look, `by_hand` when people are to decide, else the verdict; None when
             all of it was not tried yet, it is not due, or another worker has it.
    """
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        row = await SQL.look_turn.one(uow.raw, tenant_id, campaign_id)
        if row is None:
            return None
        wanted = Delivery.read(row["delivery"])
        rule = wanted.canary if row["kind"] == "canary" else wanted.ab_test
        if rule is None:
            return None
        if row["look_at"] is None:
            if await SQL.has_untried.value(uow.raw, tenant_id, row["lane_id"]):
                return None
            await SQL.look_set.run(uow.raw, tenant_id, campaign_id, row["n"], rule.wait_minutes * 60)
            return "waiting"
        if not row["is_due"]:
            return None
        if failpoint.ARMED:
            failpoint.hit("waves.look")
        judgement, found = await _judged(uow, campaign_id, wanted, row)
        await SQL.look_keep.run(uow.raw, tenant_id, campaign_id, row["n"], msgspec.json.encode(found).decode())
        came = "by_hand"
        if rule.decision == "automatic":
            came = judgement.verdict
            await _decide(uow, LOOKER, campaign_id, row["n"], judgement)
        if failpoint.ARMED:
            failpoint.hit("waves.before_commit")
    if failpoint.ARMED:
        failpoint.hit("waves.committed")
    return came


async def _judged(
    uow: UnitOfWork, campaign_id: UUID, wanted: Delivery, row: asyncpg.Record
) -> tuple[judge.Judgement, judge.Figures | list[judge.Score]]:
    """What the figures say now."""
    if row["kind"] == "canary" and wanted.canary is not None:
        complained = await SQL.complained.value(uow.raw, uow.tenant, campaign_id, row["channel"], row["launched_at"])
        found = judge.figures(await counts.of_campaign(uow, uow.tenant, campaign_id), complained)
        return judge.canary(wanted.canary, found), found
    if wanted.ab_test is None:
        raise Refused("no_test", "the campaign compares nothing", field="/id", status=409)
    scores = [
        judge.Score(each.n, each.name, each.sent_count, each.opened_count, each.clicked_count)
        for each in await variants.fared(uow, campaign_id)
    ]
    return judge.winner(wanted.ab_test, scores), scores


async def go_on(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> None:
    """Let the rest go before anybody looked, or although the canary stopped it; what was stopped resumes.

    What was stopped while it was still being queued goes on with that wave, and is looked at as it would have been.

    Raises:  Refused(not_found; no_wave_waits, winner_needed, 409).
    """
    row = await _waiting(uow, campaign_id, may_be_stopped=True)
    if not row["waits_for_look"]:
        await SQL.wave_reopen.run(uow.raw, uow.tenant, campaign_id, row["n"])
        details = {"wave": row["n"], "why": "it was stopped before it was queued"}
        await note(uow, actor, campaign_id, "wave_go_on", "campaign_wave_released", reason=reason, details=details)
        await _resume(uow, actor, campaign_id, row, reason)
        return
    if row["kind"] == "test":
        raise Refused("winner_needed", "the rest waits for a winner: choose one", field="/id", status=409)
    judgement = judge.Judgement("go_on", clean_reason(reason)[:_LONGEST_WHY])
    await _decide(uow, actor, campaign_id, row["n"], judgement, reason=reason)
    await _resume(uow, actor, campaign_id, row, reason)


async def stop(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> None:
    """Stop a campaign before its next wave; after the commit call `switches.settle(db, "campaign", tenant, str(id))`.

    Raises:  Refused(not_found; no_wave_waits, 409).
    """
    row = await _waiting(uow, campaign_id, may_be_queued=True)
    if row["verdict"] == "stop":
        raise Refused("no_wave_waits", "the campaign is stopped already", field="/id", status=409)
    judgement = judge.Judgement("stop", clean_reason(reason)[:_LONGEST_WHY])
    await _decide(uow, actor, campaign_id, row["n"], judgement, reason=reason)


async def choose(uow: UnitOfWork, actor: Actor, campaign_id: UUID, name: str, *, reason: str) -> None:
    """Choose what the rest gets, before the figures do; once chosen, it stays.

    Raises:  Refused(not_found; unknown_variant naming /variant; no_wave_waits, winner_chosen, 409).
    """
    if await SQL.winner_of.value(uow.raw, uow.tenant, campaign_id) is not None:
        raise Refused("winner_chosen", "the winner is chosen already and stays", field="/id", status=409)
    row = await _waiting(uow, campaign_id)
    known = {each.name: each.n for each in await variants.listed(uow, campaign_id)}
    if row["kind"] != "test":
        raise Refused("no_wave_waits", "the test has not begun yet", field="/id", status=409)
    if name not in known:
        raise Refused("unknown_variant", f"must be one of {', '.join(known)}", field="/variant")
    judgement = judge.Judgement("go_on", clean_reason(reason)[:_LONGEST_WHY], known[name])
    await _decide(uow, actor, campaign_id, row["n"], judgement, reason=reason)
    await _resume(uow, actor, campaign_id, row, reason)


async def refuse_resume(uow: UnitOfWork, campaign_id: UUID) -> None:
    """What was stopped for a reason does not go on by a mere resume.

    Raises:  Refused(stopped_by_wave, 409).
    """
    row = await SQL.wave_now.one(uow.raw, uow.tenant, campaign_id)
    if row is not None and row["verdict"] == "stop":
        how = "choose a winner" if row["kind"] == "test" and row["waits_for_look"] else "say that it goes on"
        why = f"it was stopped before its next wave: {row['why']}; {how}, or cancel it"
        raise Refused("stopped_by_wave", why, field="/id", status=409)


async def _waiting(
    uow: UnitOfWork, campaign_id: UUID, *, may_be_queued: bool = False, may_be_stopped: bool = False
) -> asyncpg.Record:
    """The wave about which people may decide now, held; read under the lock, so that a look under way is seen."""
    await CAMPAIGNS.lock_campaign.value(uow.raw, uow.tenant, campaign_id)
    row = await SQL.wave_now.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    is_open = row["state"] in {"sending", "paused"} and row["n"] is not None and row["n"] < row["last_n"]
    may_wait_not = may_be_queued or (may_be_stopped and row["verdict"] == "stop")
    if not is_open or not (row["waits_for_look"] or may_wait_not):
        raise Refused("no_wave_waits", "nothing of it waits for a decision", field="/id", status=409)
    return row


async def _decide(
    uow: UnitOfWork, actor: Actor, campaign_id: UUID, n: int, judgement: judge.Judgement, *, reason: str = ""
) -> None:
    """Keep a verdict and do what follows from it, in the caller's transaction."""
    why = judgement.why[:_LONGEST_WHY]
    done = await SQL.wave_decide.value(
        uow.raw, uow.tenant, campaign_id, n, judgement.verdict, why, judgement.winner, actor.name
    )
    if done is None:
        raise Refused("no_wave_waits", "it was decided already", field="/id", status=409)
    if judgement.verdict == "go_on":
        await SQL.wave_begin.run(uow.raw, uow.tenant, campaign_id, n + 1)
    else:
        await CAMPAIGNS.set_state.run(uow.raw, uow.tenant, campaign_id, "paused")
        await tell(uow, actor, campaign_id, "campaign_paused", reason=why)
        await switches.pause(uow, actor, "campaign", str(campaign_id), why)
    details: dict[str, Any] = {"wave": n, "why": why} | ({"winner": judgement.winner} if judgement.winner else {})
    kind: Kind = "campaign_wave_released"
    if judgement.winner:
        kind = "campaign_winner_chosen"
        names = {each.n: each.name for each in await variants.listed(uow, campaign_id)}
        details["variant"] = names[judgement.winner]
    if judgement.verdict != "go_on":
        kind = "campaign_wave_stopped"
    await note(uow, actor, campaign_id, f"wave_{judgement.verdict}", kind, reason=reason, details=details)


async def _resume(uow: UnitOfWork, actor: Actor, campaign_id: UUID, row: asyncpg.Record, reason: str) -> None:
    """Lift the pause that a stop made; one that people made for other reasons stays."""
    if row["state"] == "paused" and row["verdict"] == "stop":
        await CAMPAIGNS.set_state.run(uow.raw, uow.tenant, campaign_id, "sending")
        await tell(uow, actor, campaign_id, "campaign_resumed", reason=clean_reason(reason))
        await switches.resume(uow, actor, "campaign", str(campaign_id), reason)
