"""Segments: rules about contacts under a name; counted before use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.domain.segments import rules, segments
from outrider.domain.segments.segments import NewSegment, SegmentChange, SegmentView
from outrider.interfaces.cli import named
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, readable_file
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import Work, changing, looking, note

APP = App(name="segments")

_LONGEST_FILE = 1_048_576
Rules = Annotated[Path, Parameter(name="--rules", help="File with the rules as JSON; docs/how-to/segments.md.")]
Which = Annotated[str, Parameter(help="The segment's name or id.")]


@APP.command
async def create(name: str, *, rules_: Rules, description: str = "", options: Changing = CHANGING) -> Answer:
    """Make a segment.

    Example: `outrider segments create gold --rules gold.json`

    Parameters
    ----------
    name
        What you call it.
    description
        What it is for.
    """
    wanted = _read(rules_)
    async with changing(options) as work:
        made = await segments.create(work.uow, work.actor, NewSegment(name, wanted, description))
        found = await segments.count_segment(work.uow, made.id)
    text = f"made segment {made.name} ({made.id}): {found.contact_count} contacts now"
    return Answer(
        {**msgspec.to_builtins(made), "contact_count": found.contact_count}, note(text, dry_run=options.dry_run)
    )


@APP.command
async def change(
    which: Which,
    *,
    name: str | None = None,
    rules_: Annotated[Path | None, Parameter(name="--rules")] = None,
    description: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a segment; campaigns that were launched keep what it said then.

    Example: `outrider segments change gold --rules gold.json`

    Parameters
    ----------
    name
        Another name.
    rules_
        File with other rules.
    description
        Another description.
    """
    given: dict[str, Any] = {"name": name, "description": description, "rules": _read(rules_) if rules_ else None}
    async with changing(options) as work:
        found = await _find(work, which)
        wanted = SegmentChange(**{key: value for key, value in given.items() if value is not None})
        changed = await segments.update(work.uow, work.actor, found.id, wanted)
    return Answer(msgspec.to_builtins(changed), note(f"changed segment {changed.name}", dry_run=options.dry_run))


@APP.command
async def count(
    which: Annotated[str | None, Parameter(help="The segment's name or id.")] = None,
    *,
    rules_: Annotated[Path | None, Parameter(name="--rules")] = None,
    channel: str | None = None,
    options: Common = COMMON,
) -> Answer:
    """Count the contacts of a segment now, or of rules that have no name yet.

    Example: `outrider segments count --rules gold.json`

    Parameters
    ----------
    rules_
        File with rules, in place of a segment.
    channel
        Also count who has an address in it; slower.
    """
    if (which is None) == (rules_ is None):
        raise Refused("one_of", "name a segment or give --rules", field="which")
    async with looking(options) as work:
        if rules_ is not None:
            found = await segments.count(work.uow, _read(rules_), channel=channel)
        else:
            found = await segments.count_segment(work.uow, (await _find(work, which or "")).id, channel=channel)
    return Answer(msgspec.to_builtins(found), facts(msgspec.to_builtins(found)))


@APP.command
async def show(which: Which, *, options: Common = COMMON) -> Answer:
    """Show a segment with its rules.

    Example: `outrider segments show gold`
    """
    async with looking(options) as work:
        found = await _find(work, which)
    data = msgspec.to_builtins(found)
    return Answer(data, facts({**data, "rules": msgspec.json.encode(found.rules).decode()}))


@APP.command
async def contacts(which: Which, *, limit: Limit = 100, after: str | None = None, options: Common = COMMON) -> Answer:
    """List the contacts that belong to a segment now.

    Example: `outrider segments contacts gold --limit 20`

    Parameters
    ----------
    after
        The id of the last contact seen.
    """
    async with looking(options) as work:
        found = await _find(work, which)
        last = parse_id(after, "--after") if after else None
        people = await segments.contacts(work.uow, rules.InSegment(found.id), limit=limit, after=last)
    rows = [msgspec.to_builtins(each) for each in people]
    shown = [{**row, "address": ", ".join(each["address"] for each in row["addresses"])} for row in rows]
    return Answer(rows, table(shown, ("id", "name", "address", "created_at"), empty="nobody"))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List segments with what was last counted.

    Example: `outrider segments list`
    """
    async with looking(options) as work:
        found = await segments.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("id", "name", "contact_count", "counted_at", "created_at"), empty="no segments"))


@APP.command
async def delete(which: Which, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Delete a segment that no campaign and no other segment names.

    Example: `outrider segments delete gold`
    """
    if not options.dry_run:
        confirm(f"segment {which} will be deleted", "delete", yes=yes)
    async with changing(options) as work:
        found = await _find(work, which)
        await segments.delete(work.uow, work.actor, found.id)
    return Answer({"id": str(found.id)}, note(f"deleted segment {found.name}", dry_run=options.dry_run))


async def _find(work: Work, which: str) -> SegmentView:
    async def page(after: UUID | None, limit: int) -> list[SegmentView]:
        return await segments.listed(work.uow, limit=limit, after=after)

    return await named.find(which, "segment", page, field="segment")


def _read(path: Path) -> rules.Rule:
    """The rules of a file.

    Raises:  Refused(bad_rules) with the place in the file's JSON.
    """
    raw = readable_file(path, "--rules").read_bytes()
    if len(raw) > _LONGEST_FILE:
        raise Refused("file_unusable", f"{path} has more than 1 MiB", field="--rules")
    try:
        found: rules.Rule = msgspec.json.decode(raw, type=rules.Rule)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("bad_rules", f"{path}: {str(error)[:300]}", field="--rules") from None
    return found
