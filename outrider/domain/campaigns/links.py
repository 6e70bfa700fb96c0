"""The links in what a campaign says, its variants included: looked at, and where somebody asked for it, dialled before.

Owns what a preflight says about them. Never dials: that is done with no transaction open (`data.link_dial`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

from outrider.base.settings import Settings
from outrider.contracts.channel import Channel, Content
from outrider.data.db import UnitOfWork
from outrider.data.link_dial import Dialled
from outrider.domain.campaigns import content, read
from outrider.domain.campaigns.content import Said
from outrider.domain.campaigns.views import CampaignView, Finding
from outrider.domain.contacts.channels import channel_of

_MOST_NOTES: Final = 20


async def of_campaign(uow: UnitOfWork, channels: Mapping[str, Channel], campaign_id: UUID) -> list[str]:
    """Every address that is the same for all recipients, each once, in the order in which they are read.

    Raises:  Refused(not_found).
    """
    said = await _reviewable(uow, await read.get(uow, campaign_id))
    return list(dict.fromkeys(url for each, what in said for url in channel_of(channels, each.channel).links(what)))


async def findings(
    uow: UnitOfWork, settings: Settings, channels: Mapping[str, Channel], campaign: CampaignView
) -> list[Finding]:
    """Those that lead to the reader's own machine refuse the launch, others are told, each with its variants."""
    said = await _reviewable(uow, campaign)
    noted: dict[tuple[str, str], list[str]] = {}
    for each, what in said:
        for note in channel_of(channels, each.channel).review(what, is_bulk=True):
            where = f"{note.part}, line {note.line}: " if note.line else ""
            told = f"{note.url} {note.detail}" if note.url else note.detail
            names = noted.setdefault((note.code, f"{where}{told}"), [])
            if each.variant is not None and each.variant not in names:
                names.append(each.variant)
    found = []
    for (code, told), names in noted.items():
        whose = f"variant {', '.join(names)}: " if names and len(names) < len(said) else ""
        is_blocking = code == "local_link" and not settings.allow_localhost_links
        found.append(Finding(code, f"{whose}{told}", is_blocking=is_blocking))
    return _at_most(found)


async def _reviewable(uow: UnitOfWork, campaign: CampaignView) -> list[tuple[Said, Content]]:
    """What recipients may get; not a variant that is another channel's since the sender was changed (a finding)."""
    said = await content.all_said(uow, campaign)
    return await content.loaded(uow, [each for each in said if each.channel == campaign.channel])


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
