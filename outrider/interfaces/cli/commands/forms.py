"""Sign-up forms: public pages on which people ask for mail, and confirm by a link that they meant it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.contacts import lists
from outrider.domain.senders import senders
from outrider.domain.signup import forms
from outrider.domain.signup.forms import Form, FormChange, NewForm
from outrider.domain.signup.links import Links, embedded
from outrider.interfaces.cli import named
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import Work, changing, looking, note, wired

APP = App(name="forms")
_COLUMNS = ("id", "name", "title", "is_open", "version", "waiting_count", "confirmed_count")


@APP.command
async def create(
    name: str,
    *,
    title: str,
    consent: str,
    list_: Annotated[list[str], Parameter(name="--list")],
    intro: str = "",
    purpose: str = "marketing",
    sender: str | None = None,
    asks_name: Annotated[bool, Parameter(negative="")] = False,
    options: Changing = CHANGING,
) -> Answer:
    """Make a form, open at once.

    Example: `outrider forms create footer --title "Garden letters" --consent "Yes, write me." --list news`

    Parameters
    ----------
    name
        What you call it.
    title
        What people read above it.
    consent
        What people agree to; it stands in the proof of each consent.
    list_
        Name or id of a list that is on offer; several times for more.
    intro
        What people read below the title.
    purpose
        What the consent is for; campaigns name it.
    sender
        Who sends the confirmations, by name or id; left out when there is only one for mail.
    asks_name
        Ask for a name, too.
    """
    async with wired(options) as (runtime, work):
        list_ids = await _lists(work.uow, list_)
        new = NewForm(name, title, consent, list_ids, intro, purpose, sender, asks_name)
        with _lists_by_name(list_):
            made = await forms.create(work.uow, work.actor, new)
        url = await _url(runtime, work, made)
    return Answer(_built(made, url), note(f"made form {made.name} ({made.id}): {url}", dry_run=options.dry_run))


@APP.command
async def change(
    which: str,
    *,
    name: str | None = None,
    title: str | None = None,
    consent: str | None = None,
    list_: Annotated[list[str] | None, Parameter(name="--list")] = None,
    intro: str | None = None,
    purpose: str | None = None,
    sender: str | None = None,
    asks_name: Literal["yes", "no"] | None = None,
    open_: Annotated[Literal["yes", "no"] | None, Parameter(name="--open")] = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a form; what is not named stays. Its version rises when people see something else.

    Example: `outrider forms change footer --open no`

    Parameters
    ----------
    which
        Its exact name or id.
    name
        What you call it.
    title
        What people read above it.
    consent
        What people agree to.
    list_
        Name or id of a list that is on offer; several times for more. They take the place of those before.
    intro
        What people read below the title.
    purpose
        What the consent is for.
    sender
        Who sends the confirmations, by name or id.
    asks_name
        Whether it asks for a name, too.
    open_
        Whether people can sign up.
    """
    async with changing(options) as work:
        form = await _find(work.uow, which)
        wanted = FormChange(
            name, title, consent, await _lists(work.uow, list_) if list_ else None, intro, purpose, sender,
            None if asks_name is None else asks_name == "yes", None if open_ is None else open_ == "yes",
        )  # fmt: skip
        if wanted == FormChange():
            raise Refused("required", "name what to change", field="--title")
        with _lists_by_name(list_ or ()):
            after = await forms.update(work.uow, work.actor, form.id, wanted)
    text = f"form {after.name} is changed (version {after.version}, {'open' if after.is_open else 'closed'})"
    return Answer(msgspec.to_builtins(after), note(text, dry_run=options.dry_run))


@APP.command
async def show(
    which: str, *, html: Annotated[bool, Parameter(negative="")] = False, options: Common = COMMON
) -> Answer:
    """Show a form and the address of its page.

    Example: `outrider forms show footer --html`

    Parameters
    ----------
    which
        Its exact name or id.
    html
        Print the plain HTML of the form for a page elsewhere, and nothing else.
    """
    async with wired(options) as (runtime, work):
        form = await _find(work.uow, which)
        url = await _url(runtime, work, form)
    told = facts(
        {
            "id": form.id, "name": form.name, "address": url, "title": form.title, "agreed to": form.consent_text,
            "lists": ", ".join(each.title for each in form.lists) or "none is on offer any more",
            "open": form.is_open, "version": form.version, "purpose": form.purpose,
            "waiting for confirmation": form.waiting_count, "confirmed": form.confirmed_count,
        }
    )  # fmt: skip
    return Answer(_built(form, url), embedded(form, url) if html else told)


@APP.command
async def delete(which: str, *, options: Changing = CHANGING) -> Answer:
    """Delete a form and what waits for a confirmation of it; consent given by it stays.

    Example: `outrider forms delete footer`

    Parameters
    ----------
    which
        Its exact name or id.
    """
    async with changing(options, role=Role.ENGINE) as work:
        form = await _find(work.uow, which)
        await forms.delete(work.uow, work.actor, form.id)
    return Answer({"id": str(form.id)}, note(f"deleted form {form.name}", dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List forms with how many signed up by each.

    Example: `outrider forms list`
    """
    async with looking(options) as work:
        found = await forms.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no forms"))


async def _find(uow: UnitOfWork, which: str) -> Form:
    return await named.find(
        which, "form", lambda last, limit: forms.listed(uow, limit=limit, after=last), field="which"
    )


async def _lists(uow: UnitOfWork, given: list[str]) -> list[UUID]:
    """The ids of lists that were named."""

    async def one(text: str) -> UUID:
        found = await named.find(
            text, "list", lambda last, limit: lists.listed(uow, limit=limit, after=last), field="--list"
        )
        return found.id

    return [await one(each) for each in given]


@contextmanager
def _lists_by_name(given: Sequence[str]) -> Iterator[None]:
    """Tell what is wrong with one of several lists by what it was called, not by its place among ids."""
    try:
        yield
    except Refused as error:
        _, _, at = (error.field or "").partition("/list_ids/")
        if not at:
            raise
        told = f"{given[int(at)]} {error.message} (outrider lists offer)"
        raise Refused(error.code, told, field="--list", status=error.http_status) from None


async def _url(runtime: Runtime, work: Work, form: Form) -> str:
    base = (await senders.get(work.uow, form.sender_id)).public_url or runtime.settings.public_url
    return f"{base}{Links(runtime.keyring).path('form', work.tenant_id, form.id)}"


def _built(form: Form, url: str) -> dict[str, object]:
    return {**msgspec.to_builtins(form), "url": url, "html": embedded(form, url)}
