"""Retrying: what failed of a campaign by a passing cause is sent again, as a campaign of its own that names the first.

Owns who is due and the making of a retry; its messages are queued page by page by the loops (engine/fanout/retries.py).
The original's outcomes and counts stay as they are: a retry has recipients, messages and results of its own, so that
every person is in each retry once, and the sum over the family is every attempt there was.
Source:  docs/decisions/0024-retrying-failed-messages.md
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import pacing, read
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.told import note, tell
from outrider.domain.campaigns.views import CampaignView, Preflight
from outrider.domain.limits import gates
from outrider.domain.messages import counts
from outrider.domain.messages.again import PASSING
from outrider.domain.messages.lanes import lane_for

_MOST_RETRIES = 50
_LONGEST_NAME = 180


class Due(msgspec.Struct, frozen=True):
    """What a retry would send now.

    campaign_id       the campaign itself, also when one of its retries was named
    count             people whose last message of it failed by a passing cause: to be confirmed
    failed            failed messages by cause, those of its retries included: passing ones and for good
    retried_count     how many of the passing ones were sent again before
    uncertain_count   perhaps delivered, so never sent again here: see `outrider uncertain`
    retries           earlier retries, oldest first
    is_under_way      an earlier retry is still being queued
    """

    campaign_id: UUID
    count: int
    failed: dict[str, int]
    permanent_count: int
    retried_count: int
    uncertain_count: int
    retries: list[UUID]
    is_under_way: bool


class Retry(msgspec.Struct, forbid_unknown_fields=True):
    """Confirms a retry with the number of people it concerns."""

    count: int
    reason: str = "not given"


async def due(uow: UnitOfWork, campaign_id: UUID) -> Due:
    """Who is due for a retry of a campaign, counted from the rollups.

    Raises:  Refused(not_found).
    """
    root: UUID | None = await SQL.root_of.value(uow.raw, uow.tenant, campaign_id)
    if root is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    family = await SQL.family_of.many(uow.raw, uow.tenant, root)
    failed: dict[str, int] = {}
    uncertain = 0
    for member in family:
        for one in await counts.details(uow.raw, uow.tenant, member["id"]):
            if one.state == "failed":
                failed[one.code] = failed.get(one.code, 0) + one.count
            uncertain += one.count if one.state == "uncertain" else 0
    passing = sum(count for code, count in failed.items() if code in PASSING)
    # each recipient of a retry stands for one failed message of the family that was taken up
    retried = sum(member["expanded_count"] for member in family if member["id"] != root)
    return Due(
        campaign_id=root,
        count=passing - retried,
        failed=dict(sorted(failed.items())),
        permanent_count=sum(failed.values()) - passing,
        retried_count=retried,
        uncertain_count=uncertain,
        retries=[member["id"] for member in family if member["id"] != root],
        is_under_way=any(member["is_under_way"] for member in family if member["id"] != root),
    )


async def retry(uow: UnitOfWork, settings: Settings, actor: Actor, campaign_id: UUID, wanted: Retry) -> CampaignView:
    """Send a campaign again to those of its people whose last message failed by a passing cause; gates apply anew.

    Takes:   a unit of work of the engine role; wanted.count: as `due` counted.
    Gives:   the retry, a campaign in state `sending`.
    Raises:  Refused(not_found; not_running, expired, too_old, sender_archived, retry_under_way, too_many_retries,
             nothing_to_retry, count_differs, 409).
    """
    row = await SQL.retry_root.one(uow.raw, uow.tenant, campaign_id, settings.keep_messages_days)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    if row["state"] not in {"sending", "finished"}:
        raise Refused("not_running", f"the campaign is {row['state']}", field="/id", status=409, state=row["state"])
    found = await due(uow, row["id"])
    for is_so, code, why in (
        (row["is_expired"], "expired", "the campaign has expired: nothing of it is sent any more"),
        (row["is_forgotten"], "too_old", "its messages are no longer kept, so nobody knows whose failed"),
        (row["has_no_sender"], "sender_archived", "its sender is archived"),
        (found.is_under_way, "retry_under_way", "an earlier retry is still being queued: wait for it or cancel it"),
        (len(found.retries) >= _MOST_RETRIES, "too_many_retries", f"it was sent again {_MOST_RETRIES} times"),
        (found.count <= 0, "nothing_to_retry", "nobody's last message failed by a passing cause"),
    ):
        if is_so:
            raise Refused(code, why, field="/id", status=409)
    if found.count != wanted.count:
        why = f"{found.count} people are due now: repeat with count={found.count} to confirm"
        raise Refused("count_differs", why, field="/count", status=409, count=found.count)
    made = await _made(uow, actor, row["id"], row["name"], found)
    details = {"count": found.count, "retry": str(made.id)}
    await tell(uow, actor, made.id, "campaign_launched", data={"retry_of": str(row["id"]), "will_go": found.count})
    await note(uow, actor, row["id"], "retry", "campaign_retried", reason=wanted.reason, details=details)
    return made


async def _made(uow: UnitOfWork, actor: Actor, root: UUID, name: str, found: Due) -> CampaignView:
    """The retry as a row that the loops take; its promise is what was counted, gates and pace are the campaign's."""
    now = (await read.row_of(uow, root))["read_at"]
    promise = Preflight(
        member_count=found.count, no_address_count=0, suppressed_count=0, without_consent_count=0,
        will_go_count=found.count, rate_per_s=None, estimated_s=None, findings=[], checked_at=now,
    )  # fmt: skip
    told = msgspec.json.encode(promise).decode()
    for number in range(len(found.retries) + 1, len(found.retries) + 1 + _MOST_RETRIES):
        title = f"{name[:_LONGEST_NAME]} (retry {number})"
        made = await SQL.retry_make.value(uow.raw, uow.tenant, root, title, actor.name, told)
        if made is not None:
            break
    else:
        raise Refused("name_taken", "the names of its retries are taken by other campaigns", field="/id", status=409)
    view = await read.get(uow, made)
    lane_id = await lane_for(
        uow,
        tenant_id=uow.tenant,
        channel=view.channel,
        sender_id=view.sender_id,
        campaign_id=made,
        message_class="bulk",
    )
    await SQL.retry_lane.run(uow.raw, uow.tenant, made, lane_id)
    await gates.copy(uow, root, made)
    await pacing.begin(uow, made, (await read.get(uow, root)).delivery, found.count)
    return await read.get(uow, made)
