"""The links in what a campaign says, its variants included: looked at, and where somebody asked for it, dialled before.

Owns what a preflight says about them. Never dials: that is done with no transaction open (`data.link_dial`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from outrider.base.settings import Settings
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.data.link_dial import Dialled
from outrider.domain.campaigns import read, variants
from outrider.domain.campaigns.content import content_of
from outrider.domain.campaigns.views import CampaignView, Finding
from outrider.domain.contacts.channels import channel_of
from outrider.domain.templates import contents

_MOST_NOTES: Final = 20


async def of_campaign(uow: UnitOfWork, channels: Mapping[str, Channel], campaign_id: UUID) -> list[str]:
    """Every address that is the same for all recipients, each once, in the order in which they are read.

    Raises:  Refused(not_found).
    """
    campaign = await read.get(uow, campaign_id)
    said = [await content_of(uow, campaign)]
    known = await variants.listed(uow, campaign_id)
    others = await contents.load(uow, uow.tenant, [each.content_id for each in known])
    said += [others[each.content_id] for each in known]
    channel = channel_of(channels, campaign.channel)
    return list(dict.fromkeys(url for content in said for url in channel.links(content)))


async def findings(
    uow: UnitOfWork, settings: Settings, channels: Mapping[str, Channel], campaign: CampaignView
) -> list[Finding]:
    """Those that lead to the reader's own machine refuse the launch, others are told."""
    content = await content_of(uow, campaign)
    found = []
    for note in channel_of(channels, campaign.channel).review(content, is_bulk=True):
        where = f"{note.part}, line {note.line}: " if note.line else ""
        what = f"{where}{note.url} {note.detail}" if note.url else f"{where}{note.detail}"
        is_blocking = note.code == "local_link" and not settings.allow_localhost_links
        found.append(Finding(note.code, what, is_blocking=is_blocking))
    return _at_most(found)


def dialled_findings(dialled: Sequence[Dialled]) -> list[Finding]:
    """What did not answer as it should; none of it refuses the launch, the other side may be mended by then."""
    found = [
        Finding(f"link_{each.code}", f"{each.url[:300]} {each.detail}", is_blocking=False)
        for verdict in ("dead", "unsure")
        for each in dialled
        if each.verdict == verdict
    ]
    return _at_most(found)


def _at_most(found: list[Finding]) -> list[Finding]:
    rest = len(found) - _MOST_NOTES
    if rest <= 0:
        return found
    found.sort(key=lambda one: not one.is_blocking)
    more = Finding("more_links", f"{rest} more notes: see `outrider template links`", is_blocking=False)
    return [*found[:_MOST_NOTES], more]
