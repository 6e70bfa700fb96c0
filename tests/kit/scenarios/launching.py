"""Drills about launching, undoing and retrying: processes die at the worst moment, and everybody still gets it once.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

from uuid import UUID

from outrider.base.errors import Refused
from outrider.base.settings import load
from outrider.data.db import Role
from outrider.domain.campaigns import launch, retries
from outrider.domain.campaigns.retries import Retry
from tests.kit.drill import OPERATOR, Drill, Sender
from tests.kit.processes import until
from tests.kit.scenarios.fan_out import expanded

_PAGE = "100"
_KNOWN = "'[\"empty_suppressions\"]'"


async def drafted(drill: Drill, sender: Sender, count: int, **columns: str) -> UUID:
    """A campaign as `Drill.campaign` makes it, put back into another state before a worker runs."""
    campaign_id = await drill.campaign(sender, count)
    values = ", ".join(f"{column} = {value}" for column, value in columns.items())
    await drill.execute(f"UPDATE campaigns SET {values} WHERE id = $1", campaign_id)
    return campaign_id


async def killed_at_a_scheduled_launch(drill: Drill, *, at: str) -> list[str]:
    """A worker is killed before or after the commit that launches a scheduled campaign: it is launched once."""
    sender = await drill.sender("at_most_once", connections=4)
    columns = {"launched_at": "NULL", "launch_at": "now() - interval '1 s'", "acknowledged": _KNOWN}
    campaign_id = await drafted(drill, sender, 300, state="'scheduled'", **columns)
    await drill.start_worker(at=f"{at}:1:kill", expand_batch=_PAGE, allow_localhost_links="true").killed(at)
    is_launched = at == "launch.committed"
    state = await drill.value("SELECT state FROM campaigns WHERE id = $1", campaign_id)
    found = [] if state == ("sending" if is_launched else "scheduled") else [f"I2: killed at {at}, it is {state}"]
    await drill.worker(expand_batch=_PAGE, allow_localhost_links="true")
    await expanded(drill, campaign_id)
    await drill.drained()
    launches = await drill.value("SELECT count(*) FROM audit_log WHERE action = 'campaign.launch'")
    if launches != 1:
        found.append(f"I7: launched {launches} times")
    return found + await _everybody(drill, campaign_id, 300) + await drill.violations()


async def killed_when_the_undo_ends(drill: Drill, *, at: str) -> list[str]:
    """Workers die around the first page after the end of the undo time; one campaign is taken back, one is not."""
    sender = await drill.sender("at_most_once", connections=4)
    soon = "clock_timestamp() + interval '1.5 s'"
    kept = await drafted(drill, sender, 300, undo_until=soon)
    taken = await drafted(drill, sender, 300, undo_until="now() + interval '1 hour'")
    victim = drill.start_worker(at=f"{at}:1:kill", expand_batch=_PAGE)
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        await launch.undo(uow, OPERATOR, taken, reason="drill")
    await victim.killed(at)
    found: list[str] = []
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        try:
            await launch.undo(uow, OPERATOR, kept, reason="drill")
            found.append("I2: a launch was taken back after its fan-out had begun")
        except Refused as refused:
            if refused.code != "too_late_to_undo":
                found.append(f"I2: {refused.code}")
    early = await drill.value(
        "SELECT count(*) FROM messages m JOIN campaigns c ON c.id = m.campaign_id WHERE m.due_at < c.undo_until"
    )
    if early:
        found.append(f"I5: {early} messages were queued while the launch could be taken back")
    await drill.worker(expand_batch=_PAGE)
    await expanded(drill, kept)
    await drill.drained()
    found += await _everybody(drill, taken, 0)
    return found + await _everybody(drill, kept, 300) + await drill.violations()


async def killed_while_retrying(drill: Drill, *, at: str) -> list[str]:
    """Workers die between the pages of a retry: who failed gets it once, who got it before gets nothing more.

    The sender is held meanwhile: what a killed worker has on the wire is uncertain by right, and no part of this.
    """
    sender = await drill.sender("at_most_once", connections=4)
    drill.faults({"action": "defer", "stage": "rcpt", "every": 2})
    campaign_id = await drill.campaign(sender, 600)
    first = await drill.worker(expand_batch=_PAGE, retry_attempts="1")
    await until(
        lambda: drill.value("SELECT state = 'finished' FROM campaigns WHERE id = $1", campaign_id),
        what="the campaign is finished",
    )
    drill.faults()
    first.end()
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        due = await retries.due(uow, campaign_id)
        retry = await retries.retry(uow, load(), OPERATOR, campaign_id, Retry(due.count, "drill"))
    found = [] if due.count else ["I2: nothing failed, so the drill shows nothing"]
    await drill.pause("sender", str(sender.id))
    for nth in (1, 2):
        await drill.start_worker(at=f"{at}:{nth}:kill", expand_batch=_PAGE).killed(at)
    await drill.resume("sender", str(sender.id))
    await drill.worker(expand_batch=_PAGE)
    await expanded(drill, retry.id)
    await drill.drained()
    twice = await drill.value(
        "SELECT count(*) FROM (SELECT address FROM messages WHERE campaign_id = ANY ($1::uuid[]) AND state = 'sent' "
        "GROUP BY address HAVING count(*) > 1) t",
        [campaign_id, retry.id],
    )
    if twice:
        found.append(f"I7: {twice} addresses got the campaign and its retry")
    got = await drill.value(
        "SELECT count(DISTINCT address) FROM messages WHERE campaign_id = ANY ($1::uuid[]) AND state = 'sent'",
        [campaign_id, retry.id],
    )
    if got != 600:
        found.append(f"I2: {got} of 600 got it")
    return found + await _everybody(drill, retry.id, due.count) + await drill.violations()


async def _everybody(drill: Drill, campaign_id: UUID, count: int) -> list[str]:
    """As many messages as people, as the campaign says."""
    rows = await drill.value("SELECT count(*) FROM messages WHERE campaign_id = $1", campaign_id)
    told = await drill.value("SELECT expanded_count FROM campaigns WHERE id = $1", campaign_id)
    return [] if rows == told == count else [f"I8: {rows} messages, the campaign says {told}, expected {count}"]
