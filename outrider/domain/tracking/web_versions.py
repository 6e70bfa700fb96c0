"""Web versions: a message again for its recipient, and a campaign's content for anybody who has the address.

Owns who may see what: the first by a signed address in the message, the second by one that somebody published, with a
random code in it; withdrawing it makes the address dead for good.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.base.secret import Keyring
from outrider.base.signing import TrackingSigner
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tracking.choices import campaign_facts
from outrider.domain.tracking.rows import SQL

_CODE_BYTES = 8
_LONGEST_VARIABLES = 65_536


class Published(msgspec.Struct, frozen=True):
    """A campaign's public page. `variables` stand for a recipient's; `code` belongs to its address."""

    campaign_id: UUID
    variables: dict[str, Any]
    created_by: str
    created_at: datetime
    code: int


@dataclass(frozen=True, slots=True)
class Letter:
    """What is needed to make a message again."""

    id: UUID
    channel: str
    sender_id: UUID
    content_id: UUID
    address: str
    variables: str | None
    dated_at: datetime
    is_bulk: bool


def signer_of(keyring: Keyring) -> TrackingSigner:
    """What signs addresses of web versions."""
    return TrackingSigner(keyring.derive("tracking"))


def url_of(signer: TrackingSigner, public_url: str, tenant_id: UUID, found: Published) -> str:
    """Where a campaign's public page is."""
    (token,) = signer.signed(TrackingSigner.PUBLIC, tenant_id, found.campaign_id, (found.code,))
    return f"{public_url}/v/{token}"


async def letter_of(uow: UnitOfWork, message_id: UUID) -> Letter | None:
    """A message that was accepted before, or None when it is no longer kept."""
    row = await SQL.letter_of.one(uow.raw, uow.tenant, message_id)
    if row is None:
        return None
    return Letter(
        row["id"],
        row["channel"],
        row["sender_id"],
        row["content_id"],
        row["address"],
        row["variables"],
        row["attempted_at"] or row["due_at"],
        row["message_class"] == "bulk",
    )


async def published_letter(uow: UnitOfWork, campaign_id: UUID, code: int) -> Letter | None:
    """What a campaign's public page shows; None when it is not published, or no longer under this address."""
    row = await SQL.web_version_get.one(uow.raw, uow.tenant, campaign_id)
    if row is None or not secrets.compare_digest(row["code"], _code_bytes(code)):
        return None
    campaign = await campaign_facts(uow, campaign_id)
    return Letter(
        campaign_id,
        campaign["channel"],
        campaign["sender_id"],
        campaign["content_id"],
        "",
        row["variables"],
        row["created_at"],
        is_bulk=False,
    )


async def get(uow: UnitOfWork, campaign_id: UUID) -> Published:
    """A campaign's public page.

    Raises:  Refused(not_found; not_published, 404).
    """
    await campaign_facts(uow, campaign_id)
    row = await SQL.web_version_get.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_published", "the campaign has no public page", field="/id", status=404)
    return _view(campaign_id, row)


async def publish(uow: UnitOfWork, actor: Actor, campaign_id: UUID, variables: dict[str, Any]) -> Published:
    """Give a launched campaign a public page, or other values to the one it has.

    Raises:  Refused(not_found; not_launched, 409; too_large naming variables).
    """
    campaign = await campaign_facts(uow, campaign_id)
    if campaign["state"] in {"draft", "scheduled"}:
        raise Refused("not_launched", "only what was launched can be published", field="/id", status=409)
    text = msgspec.json.encode(variables).decode()
    if len(text) > _LONGEST_VARIABLES:
        raise Refused("too_large", f"may have {_LONGEST_VARIABLES} bytes as JSON", field="/variables")
    code = secrets.token_bytes(_CODE_BYTES)
    row = await SQL.web_version_keep.one(uow.raw, uow.tenant, campaign_id, code, text, actor.name)
    if row is None:
        raise Broken("no_row", "a row that was written is not there")
    details = {"variables": sorted(variables)}
    await append(uow, actor, action="web_version.publish", target=("campaign", str(campaign_id)), details=details)
    return _view(campaign_id, row)


async def withdraw(uow: UnitOfWork, actor: Actor, campaign_id: UUID) -> None:
    """Take a campaign's public page away; its address never leads anywhere again.

    Raises:  Refused(not_found; not_published, 404).
    """
    await get(uow, campaign_id)
    await SQL.web_version_drop.value(uow.raw, uow.tenant, campaign_id)
    await append(uow, actor, action="web_version.withdraw", target=("campaign", str(campaign_id)))


def _view(campaign_id: UUID, row: asyncpg.Record) -> Published:
    code = int.from_bytes(row["code"], "big", signed=True)
    return Published(campaign_id, msgspec.json.decode(row["variables"]), row["created_by"], row["created_at"], code)


def _code_bytes(code: int) -> bytes:
    return code.to_bytes(_CODE_BYTES, "big", signed=True)
