"""Sign-up forms: what people read and agree to, which lists they may choose, who sends them the confirmation.

Owns the version of a form: it rises whenever people see something else, and stands in the proof of each consent.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
import orjson

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import values
from outrider.domain.contacts.offers import check_text
from outrider.domain.signup.rows import SQL

CHANNEL = "email"
"""Forms ask for mail addresses: a confirmation is a link."""

MOST_LISTS = 20
_LONGEST_TITLE, _LONGEST_INTRO, _LONGEST_CONSENT = 120, 2_000, 2_000


class NewForm(msgspec.Struct, forbid_unknown_fields=True):
    """A form to be made; `sender` by name or id, left out when there is only one for mail."""

    name: str
    title: str
    consent_text: str
    list_ids: list[UUID]
    intro: str = ""
    purpose: str = "marketing"
    sender: str | None = None
    asks_name: bool = False


class FormChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays."""

    name: str | None = None
    title: str | None = None
    consent_text: str | None = None
    list_ids: list[UUID] | None = None
    intro: str | None = None
    purpose: str | None = None
    sender: str | None = None
    asks_name: bool | None = None
    is_open: bool | None = None


class FormList(msgspec.Struct, frozen=True):
    """A list on a form, as people read it."""

    list_id: UUID
    title: str
    description: str


class Form(msgspec.Struct, frozen=True):
    """A form. The counts are of the sign-ups that are still kept."""

    id: UUID
    name: str
    title: str
    intro: str
    consent_text: str
    purpose: str
    sender_id: UUID
    asks_name: bool
    is_open: bool
    version: int
    lists: list[FormList]
    waiting_count: int
    confirmed_count: int
    created_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def takes_people(self) -> bool:
        """Whether anybody can sign up: it is open and there is something to sign up for."""
        return self.is_open and bool(self.lists)


async def create(uow: UnitOfWork, actor: Actor, new: NewForm) -> Form:
    """Make a form, open at once.

    Raises:  Refused(name_taken, 409; not_offered naming a list that is not on offer; sender_required, unknown_sender).
    """
    name, title, intro, text, purpose = _texts(new.name, new.title, new.intro, new.consent_text, new.purpose)
    sender_id = await _sender(uow, new.sender)
    form_id = await SQL.insert_form.value(
        uow.raw, uow.tenant, name, title, intro, text, purpose, sender_id, new.asks_name, actor.name
    )
    if form_id is None:
        raise _name_taken()
    await _put_lists(uow, form_id, new.list_ids)
    await append(uow, actor, action="form.create", target=("form", str(form_id)), details={"name": name})
    return await get(uow, form_id)


async def update(uow: UnitOfWork, actor: Actor, form_id: UUID, change: FormChange) -> Form:
    """Change what is given; who signed up before agreed to the version of then.

    Raises:  as `create`; Refused(not_found).
    """
    await SQL.form_lock.value(uow.raw, uow.tenant, form_id)
    before = await get(uow, form_id)
    texts = _texts(
        _new(change.name, before.name),
        _new(change.title, before.title),
        _new(change.intro, before.intro),
        _new(change.consent_text, before.consent_text),
        _new(change.purpose, before.purpose),
    )
    sender_id = before.sender_id if change.sender is None else await _sender(uow, change.sender)
    asks_name = before.asks_name if change.asks_name is None else change.asks_name
    is_open = before.is_open if change.is_open is None else change.is_open
    seen = (before.title, before.intro, before.consent_text, before.purpose, before.asks_name)
    had = {each.list_id for each in before.lists}
    is_new = (*texts[1:], asks_name) != seen or (change.list_ids is not None and set(change.list_ids) != had)
    try:
        await SQL.update_form.value(uow.raw, uow.tenant, form_id, *texts, sender_id, asks_name, is_open, int(is_new))
    except asyncpg.UniqueViolationError:
        raise _name_taken() from None
    if change.list_ids is not None:
        await SQL.form_clear_lists.run(uow.raw, uow.tenant, form_id)
        await _put_lists(uow, form_id, change.list_ids)
    fields = [each for each in change.__struct_fields__ if getattr(change, each) is not None]
    await append(uow, actor, action="form.change", target=("form", str(form_id)), details={"fields": fields})
    return await get(uow, form_id)


async def delete(uow: UnitOfWork, actor: Actor, form_id: UUID) -> None:
    """Delete a form: its address and the links of those who have not confirmed lead nowhere then (engine role).

    Raises:  Refused(not_found).
    """
    name = await SQL.delete_form.value(uow.raw, uow.tenant, form_id)
    if name is None:
        raise _not_found()
    await append(uow, actor, action="form.delete", target=("form", str(form_id)), details={"name": name})


async def get(uow: UnitOfWork, form_id: UUID) -> Form:
    """One form.

    Raises:  Refused(not_found).
    """
    found = await _page(uow, NIL, 1, [form_id])
    if not found:
        raise _not_found()
    return found[0]


async def listed(uow: UnitOfWork, *, limit: int, after: UUID | None = None) -> list[Form]:
    """Forms in the order they were made, `limit` (1..1000) of those after `after`."""
    return await _page(uow, after or NIL, limit, None)


async def _page(uow: UnitOfWork, after: UUID, limit: int, among: Sequence[UUID] | None) -> list[Form]:
    rows = await SQL.forms_page.many(uow.raw, uow.tenant, after, limit, among)
    return [Form(**{**dict(row), "lists": msgspec.json.decode(row["lists"], type=list[FormList])}) for row in rows]


def encoded(list_ids: Sequence[UUID]) -> str:
    """Ids of lists as they are stored with a sign-up."""
    return orjson.dumps([str(each) for each in list_ids]).decode()


async def _put_lists(uow: UnitOfWork, form_id: UUID, list_ids: Sequence[UUID]) -> None:
    wanted = set(list_ids)
    if not 1 <= len(wanted) <= MOST_LISTS:
        raise Refused("invalid_count", f"must name 1 to {MOST_LISTS} lists", field="/list_ids")
    found = await SQL.form_put_lists.many(uow.raw, uow.tenant, form_id, sorted(wanted))
    missing = wanted - {row["list_id"] for row in found}
    if missing:
        at = min(list_ids.index(each) for each in missing)
        raise Refused("not_offered", "is not on offer: offer the list publicly first", field=f"/list_ids/{at}")


async def _sender(uow: UnitOfWork, named: str | None) -> UUID:
    rows = await SQL.sender_named.many(uow.raw, uow.tenant, named, CHANNEL)
    if named is None and len(rows) != 1:
        what = "several senders: name one" if rows else "there is no sender for mail yet"
        raise Refused("sender_required", what, field="/sender")
    if not rows:
        raise Refused("unknown_sender", "no such sender for mail", field="/sender")
    found: UUID = rows[0]["id"]
    return found


def _texts(name: str, title: str, intro: str, consent_text: str, purpose: str) -> tuple[str, str, str, str, str]:
    plain = values.check_label(title, field="/title")
    if len(plain) > _LONGEST_TITLE:
        raise Refused("field_too_long", f"must have at most {_LONGEST_TITLE} characters", field="/title")
    consent = check_text(consent_text, _LONGEST_CONSENT, "/consent_text")
    if not consent:
        raise Refused("required", "say what people agree to", field="/consent_text")
    return (
        values.check_label(name),
        plain,
        check_text(intro, _LONGEST_INTRO, "/intro"),
        consent,
        values.check_purpose(purpose),
    )


def _new(given: str | None, old: str) -> str:
    return old if given is None else given


def _name_taken() -> Refused:
    return Refused("name_taken", "another form has this name", field="/name", status=409)


def _not_found() -> Refused:
    return Refused("not_found", "no such form", field="/id", status=404)
