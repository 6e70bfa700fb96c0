"""The tags of a batch's rows: added to what the contacts have, never beyond what one may have."""

from __future__ import annotations

from uuid import UUID

from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports.csv_rows import Problem, echo
from outrider.domain.contacts.imports.resolve import Resolved
from outrider.domain.contacts.rows import IMPORTS as SQL
from outrider.domain.contacts.tags import MOST_PER_CONTACT


async def within_limit(uow: UnitOfWork, resolved: list[Resolved]) -> tuple[list[Resolved], list[Problem]]:
    """The rows whose contacts may have their tags, and those refused because there would be too many."""
    concerned = {row.contact_id for row in resolved if row.person.tags}
    if not concerned:
        return resolved, []
    held: dict[UUID, set[str]] = {contact_id: set() for contact_id in concerned}
    for row in await SQL.tags_held.many(uow.raw, uow.tenant, sorted(concerned)):
        held[row["contact_id"]].add(row["tag"])
    kept: list[Resolved] = []
    problems: list[Problem] = []
    for one in resolved:
        together = held.get(one.contact_id, set()).union(one.person.tags)
        if one.person.tags and len(together) > MOST_PER_CONTACT:
            message = f"a contact has at most {MOST_PER_CONTACT} tags; with these it would have {len(together)}"
            problems.append(Problem(one.person.line, "tags", "too_many", message, echo(", ".join(one.person.tags))))
            continue
        if one.person.tags:
            held[one.contact_id] = together
        kept.append(one)
    return kept, problems


async def store(uow: UnitOfWork, resolved: list[Resolved]) -> set[UUID]:
    """Give the contacts their tags, in one order for every transaction; gives whose are new."""
    pairs = sorted({(row.contact_id, tag) for row in resolved for tag in row.person.tags})
    if not pairs:
        return set()
    ids, words = zip(*pairs, strict=True)
    rows = await SQL.merge_tags.many(uow.raw, uow.tenant, list(ids), list(words))
    return {row["contact_id"] for row in rows}
