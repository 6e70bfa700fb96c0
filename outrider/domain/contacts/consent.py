"""Consent: what holds now, and the append-only proof of how it came about.

Owns the rule that what a recipient withdrew is not granted again by anybody else's word [S1-52].
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Literal
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import values
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.rows import SQL

Status = Literal["granted", "withdrawn"]
STATUSES: tuple[Status, ...] = ("granted", "withdrawn")
_IS_OWN_WORD = True
"""Said by the recipient, with which anything may change."""
_LONGEST_SOURCE = 200
_LONGEST_PROOF = 5_000


class ConsentStatement(msgspec.Struct, forbid_unknown_fields=True):
    """What is said about consent; `text_shown` and `form_version` are the proof: what the recipient agreed to."""

    channel: str
    purpose: str
    status: Status
    source: str
    ip: str | None = None
    text_shown: str | None = None
    form_version: str | None = None


async def set_consent(
    uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, contact_id: UUID, said: ConsentStatement
) -> bool:
    """Record that a contact grants or withdraws consent for a channel and purpose.

    Takes:   a grant after a withdrawal must carry its proof (`text_shown`): what the recipient saw and agreed to.
    Gives:   whether what holds has changed. The proof is appended every time, also when it had held already.
    Raises:  Refused(not_found); Refused(withdrawn_by_recipient, 409) for a grant without proof after a withdrawal.
    """
    channel_of(channels, said.channel)
    purpose = values.check_purpose(said.purpose)
    source, text_shown, form_version = _checked(said)
    if await SQL.lock_contact.one(uow.raw, uow.tenant, contact_id) is None:
        raise Refused("not_found", "no such contact", field="/id", status=404)
    key = (uow.tenant, contact_id, said.channel, purpose)
    is_proved = bool(text_shown)
    changed = await SQL.set_consent.value(uow.raw, *key, said.status, source, is_proved) is not None
    if not changed:
        held = await SQL.consent_now.one(uow.raw, *key)
        if held is not None and held["status"] != said.status:
            raise Refused(
                "withdrawn_by_recipient",
                f"withdrawn on {held['at']:%Y-%m-%d}; a new grant needs text_shown: what the recipient agreed to",
                field="/status",
                status=409,
            )
    await SQL.add_consent_event.run(uow.raw, *key, said.status, source, said.ip, text_shown, form_version)
    await append(
        uow,
        actor,
        action=f"consent.{said.status}",
        target=("contact", str(contact_id)),
        details={"channel": said.channel, "purpose": purpose, "source": source},
    )
    return changed


async def withdraw(
    uow: UnitOfWork, contact_id: UUID, channel: str, purpose: str, *, source: str, ip: str | None
) -> bool:
    """A recipient's own withdrawal (link, reply): always taken, recorded once per source while it holds.

    Where somebody else's word had withdrawn before, such as a file's, it is theirs from now on: undoing that other word
    does not undo this one.

    Gives:   whether what holds has changed.
    """
    key = (uow.tenant, contact_id, channel, purpose)
    if await SQL.lock_contact.one(uow.raw, uow.tenant, contact_id) is None:
        return False
    changed = await SQL.set_consent.value(uow.raw, *key, "withdrawn", source, _IS_OWN_WORD) is not None
    if changed or await SQL.own_withdrawal.value(uow.raw, *key, source) is not None:
        await SQL.add_consent_event.run(uow.raw, *key, "withdrawn", source, ip, None, None)
    return changed


def check_ip(text: str | None) -> str | None:
    """Where somebody agreed from, by a caller's word, as it stands in the proof. Raises Refused(invalid_ip)."""
    try:
        return None if text is None else str(ip_address(text))
    except ValueError:
        raise Refused("invalid_ip", "must be an IP address", field="/ip") from None


def _checked(said: ConsentStatement) -> tuple[str, str | None, str | None]:
    source = said.source.strip()
    if not source or len(source) > _LONGEST_SOURCE or not source.isprintable():
        raise Refused(
            "invalid_source", f"says where this is known from, 1 to {_LONGEST_SOURCE} characters", field="/source"
        )
    proof: list[str | None] = []
    for name in ("text_shown", "form_version"):
        text = (getattr(said, name) or "").strip()
        if len(text) > _LONGEST_PROOF:
            raise Refused("field_too_long", f"must have at most {_LONGEST_PROOF} characters", field=f"/{name}")
        proof.append(values.check_attribute_text(text, field=f"/{name}") or None)
    return source, proof[0], proof[1]
