"""`outrider campaign`: looking at one, changing and deleting drafts."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.domain.campaigns import draft
from outrider.domain.campaigns.draft import CampaignChange
from outrider.domain.campaigns.views import CampaignView, Exclusions
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import PRIORITY, ListName, Names, Which, moment
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, facts
from outrider.interfaces.cli.work import changing, looking, note

_NONE = "none"


async def show(which: Which, *, options: Common = COMMON) -> Answer:
    """Show one campaign.

    Example: `outrider campaign show spring`
    """
    async with looking(options) as work:
        found = await campaigns.find(work.uow, which)
    return Answer(campaigns.told(found), facts(_head(found)))


async def update(
    which: Which,
    *,
    name: str | None = None,
    sender: str | None = None,
    template: str | None = None,
    list_: ListName = None,
    segment: str | None = None,
    without_list: Names = None,
    without_segment: Names = None,
    without_campaign: Names = None,
    no_exclusions: Annotated[bool, Parameter(negative="")] = False,
    version: str | None = None,
    purpose: str | None = None,
    priority: Annotated[int | None, PRIORITY] = None,
    expires: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a draft; what is not named stays. Its preflight and approval have to be made again.

    Example: `outrider campaign update spring --template sale-2 --priority 5`

    Parameters
    ----------
    name
        What you call it.
    sender
        Name or id of the sender.
    template
        Name or id of the template.
    list_
        Name or id of the list it goes to.
    segment
        Name or id of the segment it goes to, in place of a list.
    without_list
        Not to members of this list; several times. The exclusions given take the place of all there were.
    without_segment
        Not to whom this segment holds for; several times.
    without_campaign
        Not to those who got this campaign, may have got it or are about to; several times.
    no_exclusions
        Exclude nobody any more.
    version
        Version of the template; `latest`: the latest at the launch.
    purpose
        What consent it needs.
    priority
        0 goes first, 9 last, among messages of the same lane.
    expires
        What is not sent by then is not sent: an RFC 3339 moment with its offset, or `none`.
    """
    excluded = any(each is not None for each in (without_list, without_segment, without_campaign))
    if excluded and no_exclusions:
        raise Refused("contradiction", "cannot go with --without-…", field="--no-exclusions")
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        told: dict[str, Any] = {"name": name, "purpose": purpose, "priority": priority}
        given = {field: value for field, value in told.items() if value is not None}
        given |= await campaigns.named_ids(work.uow, sender=sender, template=template, list_=list_, segment=segment)
        if excluded:
            given["exclusions"] = await campaigns.exclusions(
                work.uow, without_list or (), without_segment or (), without_campaign or ()
            )
        elif no_exclusions:
            given["exclusions"] = Exclusions()
        if version is not None:
            given["template_version"] = None if version == "latest" else _number(version)
        if expires is not None:
            given["expires_at"] = None if expires == _NONE else moment(expires)
        if not given:
            raise Refused("nothing_to_change", "name what shall be different")
        view = await draft.update(work.uow, work.actor, found.id, CampaignChange(**given))
    return Answer(campaigns.told(view), note(f"campaign {view.name} is changed", dry_run=options.dry_run))


async def delete(which: Which, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Delete a draft; launched campaigns stay.

    Example: `outrider campaign delete spring`
    """
    if not options.dry_run:
        confirm(f"the draft {which} is deleted for good", "delete", yes=yes)
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        await draft.delete(work.uow, work.actor, found.id)
    text = note(f"campaign {found.name} is deleted", dry_run=options.dry_run)
    return Answer({"id": str(found.id), "is_deleted": True}, text)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) <= 2**31 - 1):
        raise Refused("invalid_version", "must be a version's number or `latest`", field="--version")
    return int(text)


def _head(found: CampaignView) -> dict[str, Any]:
    data = msgspec.to_builtins(found)
    skipped = {"preflight", "lane_id", "delivery"}
    return {name: _plain(value) for name, value in data.items() if name not in skipped}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {' '.join(map(str, each))}" for key, each in value.items() if each) or None
    return ", ".join(map(str, value)) or None if isinstance(value, list) else value
