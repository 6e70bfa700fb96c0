"""Tags: words put on contacts, made by being used. What belongs to a campaign is a list; what describes is a tag."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import values
from outrider.domain.contacts.rows import AUDIENCE as SQL
from outrider.domain.contacts.rows import SQL as CONTACTS

MOST_AT_ONCE = 1_000
MOST_TAGS = 50
MOST_PER_CONTACT = 100
LONGEST_TAG = 80


class TagView(msgspec.Struct, frozen=True):
    """A tag and how many contacts have it."""

    tag: str
    contact_count: int


class Tagged(msgspec.Struct, frozen=True):
    """What became of the contacts named: changed, already so, or unknown."""

    changed_count: int
    unchanged_count: int
    unknown: list[UUID]


def check_tag(tag: str, *, field: str = "/tag") -> str:
    """A tag as it is stored: one line in lower case, single spaces, so that VIP and vip are one. Pure.

    Raises:  Refused(invalid_tag).
    """
    plain = " ".join(values.check_name(tag, field=field).casefold().split())
    if not 1 <= len(plain) <= LONGEST_TAG or "," in plain:
        raise Refused("invalid_tag", f"must have 1 to {LONGEST_TAG} characters and no comma", field=field)
    return plain


async def add(uow: UnitOfWork, actor: Actor, contact_ids: Sequence[UUID], tags: Sequence[str]) -> Tagged:
    """Put 1 to 50 tags on 1 to 1,000 contacts.

    Raises:  Refused(invalid_count, invalid_tag; too_many, 409) when a contact would have more than 100.
    """
    wanted, words = _checked(contact_ids, tags)
    known = {row["id"] for row in await CONTACTS.known_contacts.many(uow.raw, uow.tenant, wanted)}
    changed = {row["contact_id"] for row in await SQL.add_tags.many(uow.raw, uow.tenant, wanted, words)}
    if changed and await SQL.most_tags.value(uow.raw, uow.tenant, list(changed)) > MOST_PER_CONTACT:
        raise Refused("too_many", f"a contact has at most {MOST_PER_CONTACT} tags", field="/tags", status=409)
    return await _told(uow, actor, "contact.tag", wanted, words, known, changed)


async def remove(uow: UnitOfWork, actor: Actor, contact_ids: Sequence[UUID], tags: Sequence[str]) -> Tagged:
    """Take 1 to 50 tags from 1 to 1,000 contacts.

    Raises:  Refused(invalid_count, invalid_tag).
    """
    wanted, words = _checked(contact_ids, tags)
    known = {row["id"] for row in await CONTACTS.known_contacts.many(uow.raw, uow.tenant, wanted)}
    changed = {row["contact_id"] for row in await SQL.remove_tags.many(uow.raw, uow.tenant, wanted, words)}
    return await _told(uow, actor, "contact.untag", wanted, words, known, changed)


async def listed(uow: UnitOfWork, *, limit: int, after: str = "") -> list[TagView]:
    """Tags by name, `limit` (1..1000) of those after `after`."""
    return [TagView(**dict(row)) for row in await SQL.tags_page.many(uow.raw, uow.tenant, after, limit)]


async def delete(uow: UnitOfWork, actor: Actor, tag: str) -> int:
    """Take a tag from everybody who has it.

    Gives:   how many contacts had it.
    Raises:  Refused(not_found) when nobody has.
    """
    plain = check_tag(tag)
    count = await SQL.delete_tag.run(uow.raw, uow.tenant, plain)
    if not count:
        raise Refused("not_found", "nobody has this tag", field="/tag", status=404)
    await append(uow, actor, action="tag.delete", target=("tag", plain), details={"count": count})
    return count


def _checked(contact_ids: Sequence[UUID], tags: Sequence[str]) -> tuple[list[UUID], list[str]]:
    if not 1 <= len(contact_ids) <= MOST_AT_ONCE:
        raise Refused("invalid_count", f"must name 1 to {MOST_AT_ONCE} contacts", field="/contact_ids")
    if not 1 <= len(tags) <= MOST_TAGS:
        raise Refused("invalid_count", f"must name 1 to {MOST_TAGS} tags", field="/tags")
    words = {check_tag(tag, field=f"/tags/{position}") for position, tag in enumerate(tags)}
    return sorted(set(contact_ids)), sorted(words)  # one order for every transaction: no deadlocks


async def _told(
    uow: UnitOfWork,
    actor: Actor,
    action: str,
    wanted: list[UUID],
    words: list[str],
    known: set[UUID],
    changed: set[UUID],
) -> Tagged:
    if changed:
        target = ("contact", str(next(iter(changed)))) if len(changed) == 1 else ("contacts", str(len(changed)))
        await append(uow, actor, action=action, target=target, details={"tags": words, "count": len(changed)})
    return Tagged(len(changed), len(known) - len(changed), [one for one in wanted if one not in known])
