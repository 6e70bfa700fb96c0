"""What a campaign says as it stands: its own content, or the latest version of its template.

Owns the choice of the version; reads only.
"""

from __future__ import annotations

from outrider.contracts.channel import Content
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.templates import contents, templates


async def content_of(uow: UnitOfWork, campaign: CampaignView) -> Content:
    """The content that would be sent if it were launched now."""
    content_id = campaign.content_id
    if campaign.template_id is not None and campaign.template_version is None:
        content_id = (await templates.version_of(uow, campaign.template_id)).content_id
    return (await contents.load(uow, uow.tenant, [content_id]))[content_id]
