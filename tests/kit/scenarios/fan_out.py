"""Drills about the fan-out of campaigns: every contact once, whatever is killed and whatever moves meanwhile.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from tests.kit.drill import Drill
from tests.kit.processes import BOUND_S, until

PAGE = 1000


async def expanded(drill: Drill, campaign_id: UUID, *, bound_s: float = BOUND_S) -> None:
    """Wait until a campaign's list is through."""
    await until(
        lambda: drill.value("SELECT expanded_at IS NOT NULL FROM campaigns WHERE id = $1", campaign_id),
        what="the list is through",
        bound_s=bound_s,
    )


async def killed_while_expanding(drill: Drill, *, count: int, kills: Sequence[str], sends: bool) -> list[str]:
    """F22: worker after worker is killed between pages; the last one finishes the list and, if told to, sends it."""
    bound_s = BOUND_S * (1 + count / 20_000)
    sender = await drill.sender("at_most_once", connections=8)
    campaign_id = await drill.campaign(sender, count)
    await drill.pause("campaign", str(campaign_id))
    for at in kills:
        await drill.start_worker(at=f"{at}:kill", expand_batch=str(PAGE)).killed(at.partition(":")[0], bound_s=bound_s)
    await drill.worker(expand_batch=str(PAGE), claim_batch="500")
    await expanded(drill, campaign_id, bound_s=bound_s)
    found = await _complete(drill, campaign_id, count)
    if not sends:
        return found
    await drill.resume("campaign", str(campaign_id))
    await drill.drained(bound_s=240 + bound_s)
    return found + await drill.violations()


async def _complete(drill: Drill, campaign_id: UUID, count: int) -> list[str]:
    """I7 in numbers: as many recipients and messages as the list has members, and the campaign says so."""
    found = []
    for table in ("campaign_recipients", "messages"):
        rows = await drill.value(f"SELECT count(*) FROM {table} WHERE campaign_id = $1", campaign_id)
        if rows != count:
            found.append(f"I7: {rows} rows in {table} for {count} contacts")
    told = await drill.value("SELECT expanded_count FROM campaigns WHERE id = $1", campaign_id)
    if told != count:
        found.append(f"I8: the campaign says {told} for {count} contacts")
    return found


async def address_moves_meanwhile(drill: Drill) -> list[str]:
    """I7: an address goes over to a contact that comes later, and the checkpoint goes back, as after a restore.

    Who has the campaign already is passed over the second time, as contact and as address.
    """
    page, count = 100, 400
    sender = await drill.sender("at_most_once")
    campaign_id = await drill.campaign(sender, count)
    await drill.pause("campaign", str(campaign_id))
    await drill.start_worker(at="fan_out.committed:2:kill", expand_batch=str(page)).killed("fan_out.committed")
    members = await drill.rows(
        "SELECT m.contact_id FROM list_members m JOIN campaigns c ON c.list_id = m.list_id WHERE c.id = $1 ORDER BY 1",
        campaign_id,
    )
    served, later = members[0][0], members[-1][0]
    await drill.execute("DELETE FROM addresses WHERE contact_id = $1", later)
    await drill.execute("UPDATE addresses SET contact_id = $2 WHERE contact_id = $1", served, later)
    await drill.execute("UPDATE campaigns SET expanded_to = $2 WHERE id = $1", campaign_id, members[page][0])
    await drill.worker(expand_batch=str(page))
    await expanded(drill, campaign_id)
    found = await _complete(drill, campaign_id, count - 1)
    await drill.resume("campaign", str(campaign_id))
    await drill.drained()
    return found + await drill.violations()


async def restarted_when_all_is_queued(drill: Drill) -> list[str]:
    """F24: a worker is killed when the whole list is queued and little of it is sent: not finished before its time."""
    sender = await drill.sender("at_most_once", connections=2)
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 20})
    campaign_id = await drill.campaign(sender, 300)
    victim = await drill.worker()
    await expanded(drill, campaign_id)
    await drill.accepted(10)
    victim.kill()
    await drill.worker()
    early: list[str] = []

    async def is_finished() -> bool:
        row = await drill.rows(
            "SELECT state = 'finished', (SELECT count(*) FROM queue) FROM campaigns WHERE id = $1", campaign_id
        )
        if row[0][0] and row[0][1]:
            early.append(f"I2: the campaign is called finished with {row[0][1]} of its messages open")
        return bool(row[0][0])

    await until(is_finished, what="the campaign is finished")
    return early or await drill.violations(uncertain=2)
