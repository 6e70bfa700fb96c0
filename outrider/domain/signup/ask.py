"""Filling a form in: kept until it is confirmed, and a mail with a link to whoever has the address.

Owns how often an address is asked, and that whatever is known about an address, whoever fills the form in learns
nothing of it: the answer is the same. No contact is made and no list joined before the confirmation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from outrider.base.errors import Refused, Unavailable
from outrider.base.settings import Settings
from outrider.contracts.channel import Channel, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import values
from outrider.domain.contacts.channels import channel_of
from outrider.domain.messages import quota
from outrider.domain.senders import senders
from outrider.domain.signup import mail, standing
from outrider.domain.signup.forms import CHANNEL, Form, encoded
from outrider.domain.signup.rows import SQL
from outrider.domain.tenants import looks

AGAIN_AFTER_MINUTES = 5
"""How long an address is left alone after a confirmation was asked for."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What somebody filled in; `list_ids` may be empty on a form with one list."""

    address: str
    name: str
    list_ids: Sequence[UUID]
    ip: str | None
    source: Literal["page", "api"]


async def ask(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    settings: Settings,
    form: Form,
    filled: Filled,
    link: Callable[[UUID], str],
) -> None:
    """Keep what was filled in and mail the link, both in the caller's transaction (engine role).

    Takes:   link: from the id of the sign-up to the address of its confirmation, below the sender's base.
    Gives:   nothing: whether a mail goes is nobody's business but the addressee's.
    Raises:  Refused(invalid_address …, required, unknown_list, form_closed) for what is wrong with what was filled in;
             Refused(rate_limited, tenant_queue_full, 429) when the tenant asked for too many confirmations, or its
             queue is full; Unavailable.
    """
    channel = channel_of(channels, CHANNEL)
    address, name, wanted = _checked(channel, form, filled)
    sender = await senders.get(uow, form.sender_id)
    if sender.archived_at is not None:
        raise Unavailable("form_without_sender", "the sender of this form's confirmations is archived")
    digest = hashlib.sha256(address.encode()).digest()
    await SQL.address_turn.run(uow.raw, uow.tenant, digest)
    if await SQL.mails_of_hour.value(uow.raw, uow.tenant) >= settings.signup_mails_per_hour:
        raise Refused("rate_limited", "too many sign-ups just now", status=429, retry_after_s=600)
    await quota.require(uow.raw, uow.tenant, "transactional", 1)  # of everybody alike, whoever gets a mail
    if await standing.of(uow, CHANNEL, address) == "blocked":
        return
    await SQL.expire_waiting.run(uow.raw, uow.tenant, form.id, digest)
    sent = await SQL.mails_to.one(uow.raw, uow.tenant, digest, AGAIN_AFTER_MINUTES)
    kept = await SQL.keep_waiting.one(
        uow.raw, uow.tenant, form.id, form.version, digest, address, name, encoded(wanted), form.consent_text,
        filled.source, filled.ip, settings.signup_confirm_hours,
    )  # fmt: skip
    if kept is None or sent is None or sent["is_recent"] or sent["mails"] >= settings.signup_mails_per_address:
        return
    titles = [each.title for each in form.lists if each.list_id in wanted]
    look = await looks.of(uow)
    url = f"{sender.public_url or settings.public_url}{link(kept['id'])}"
    hours = settings.signup_confirm_hours
    await mail.ask(uow, channel, renderer, form, look, address=address, titles=titles, url=url, hours=hours)
    await SQL.mailed.run(uow.raw, uow.tenant, kept["id"], hours)


async def forget(uow: UnitOfWork, hashes: Sequence[bytes]) -> None:
    """Delete what was filled in under a person's addresses (engine role)."""
    await SQL.forget_signups.run(uow.raw, uow.tenant, list(hashes))


def _checked(channel: Channel, form: Form, filled: Filled) -> tuple[str, str, list[UUID]]:
    """Address in its stored form, name, and the lists in the form's order."""
    if not form.takes_people:
        raise Refused("form_closed", "nobody can sign up here at the moment", field="/", status=409)
    address = channel.normalise(filled.address, field="/address")
    name = values.check_name(filled.name) if form.asks_name else ""
    known = [each.list_id for each in form.lists]
    strange = next((at for at, each in enumerate(filled.list_ids) if each not in known), None)
    if strange is not None:
        raise Refused("unknown_list", "is not on this form", field=f"/list_ids/{strange}")
    chosen = set(filled.list_ids) or (set(known) if len(known) == 1 else set())
    if not chosen:
        raise Refused("required", "choose what you want to get", field="/list_ids")
    return address, name, [each for each in known if each in chosen]
