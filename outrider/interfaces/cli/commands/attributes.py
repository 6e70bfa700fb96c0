"""What the tenant's attributes hold: define, forget, list, and see the values there are."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.domain.contacts import attributes
from outrider.domain.contacts.attributes import NewDefinition, Type
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="attributes")


@APP.command
async def define(
    key: str,
    kind: Type,
    *,
    label: str = "",
    choice: Annotated[list[str] | None, Parameter(negative="")] = None,
    options: Changing = CHANGING,
) -> Answer:
    """Say what an attribute holds from now on; values that contacts have already stay.

    Example: `outrider attributes define plan choice --choice free --choice gold`

    Parameters
    ----------
    key
        Its name in templates and rules.
    kind
        text, number, boolean, date, moment or choice.
    label
        What people call it.
    choice
        One of its choices; several times, for kind choice.
    """
    async with changing(options) as work:
        wanted = NewDefinition(kind, label, choice or [])
        made = await attributes.define(work.uow, work.actor, key, wanted)
    return Answer(msgspec.to_builtins(made), note(f"{key} is {made.type}", dry_run=options.dry_run))


@APP.command
async def forget(key: str, *, options: Changing = CHANGING) -> Answer:
    """Take a definition away; the values stay and may be anything from now on.

    Example: `outrider attributes forget plan`
    """
    async with changing(options) as work:
        await attributes.forget(work.uow, work.actor, key)
    return Answer({"key": key}, note(f"{key} may be anything", dry_run=options.dry_run))


@APP.command
async def values(key: str, *, options: Common = COMMON) -> Answer:
    """List the most frequent values of an attribute: what does not fit its type shows here.

    Example: `outrider attributes values plan`
    """
    async with looking(options) as work:
        found = await attributes.used_values(work.uow, key)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("value", "type", "contact_count"), empty="nobody has it"))


@APP.command(name="list")
async def list_(*, options: Common = COMMON) -> Answer:
    """List what is defined.

    Example: `outrider attributes list`
    """
    async with looking(options) as work:
        found = list((await attributes.listed(work.uow)).values())
    rows = [msgspec.to_builtins(each) for each in found]
    shown = [{**row, "choices": ", ".join(row["choices"])} for row in rows]
    return Answer(rows, table(shown, ("key", "type", "label", "choices"), empty="no attribute is defined"))
