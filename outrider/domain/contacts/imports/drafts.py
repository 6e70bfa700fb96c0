"""A contact while a batch is looked at: what is known, what rows say differently, and what is to be written. Pure.

Owns what counts as a change, and how changes of several batches become one. Never asks the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from outrider.base.errors import Refused
from outrider.domain.contacts.imports.people import Person
from outrider.domain.contacts.tags import MOST_PER_CONTACT

FIELDS = ("external_id", "name", "timezone", "locale")
ADDED = ("addresses", "tags", "lists")
"""What is only ever added: `after` names what came, `before` says nothing of it."""


_NOTHING: dict[str, Any] = {"external_id": None, "name": "", "timezone": None, "locale": None}


class Consent(NamedTuple):
    """The consent that holds for one channel and purpose."""

    status: str
    at: datetime | None
    source: str


class Asked(NamedTuple):
    """What holds for all rows of an import, in the words of a change."""

    channel: str
    purpose: str
    source: str
    list_id: UUID | None


@dataclass(slots=True)
class Draft:
    """One contact of a batch. `is_made` is to be inserted now; `is_new` was made by this import, now or before."""

    id: UUID
    line: int
    address: str
    fields: dict[str, Any] = field(default_factory=lambda: dict(_NOTHING))
    attributes: dict[str, Any] = field(default_factory=dict)
    updated_at: datetime | None = None
    is_new: bool = False
    is_made: bool = False
    is_member: bool = False
    tags: set[str] = field(default_factory=set)
    consent: Consent | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)

    @property
    def has_new_fields(self) -> bool:
        """Whether the contact's own row is to be written."""
        return self.is_made or "attributes" in self.after or any(name in self.after for name in FIELDS)

    def take(self, person: Person, asked: Asked, *, has_address: bool) -> bool:
        """Let a row say what it says; an empty cell says nothing.

        Gives:   whether anything is different now.
        Raises:  Refused(too_many) when the contact would have too many tags; nothing is different.
        """
        fresh = [tag for tag in person.tags if tag not in self.tags]
        if fresh and len(self.tags) + len(fresh) > MOST_PER_CONTACT:
            count = len(self.tags) + len(fresh)
            message = f"a contact has at most {MOST_PER_CONTACT} tags; with these it would have {count}"
            raise Refused("too_many", message)
        changed = self._take_fields(person)
        if fresh:
            self.tags.update(fresh)
            self._add("tags", fresh)
        if not has_address:
            self._add("addresses", [f"{asked.channel}:{person.address}"])
        joins = asked.list_id is not None and not self.is_member
        if joins:
            self.is_member = True
            self._add("lists", [str(asked.list_id)])
        says = self._take_consent(person.consent, asked)
        return changed or bool(fresh) or joins or says or not has_address

    def stays_withdrawn(self, person: Person) -> bool:
        """Whether a row says granted where the recipient has withdrawn: that stays."""
        return person.consent == "granted" and self.consent is not None and self.consent.status == "withdrawn"

    def _take_fields(self, person: Person) -> bool:
        changed = False
        for name in FIELDS:
            told = getattr(person, name)
            if told and told != self.fields[name] and not (name == "external_id" and self.fields[name]):
                self._change(name, self.fields[name], told)
                self.fields[name] = told
                changed = True
        for key, value in person.attributes.items():
            if key in self.attributes and is_same(self.attributes[key], value):
                continue
            nested = self.after.setdefault("attributes", {})
            if not self.is_new and key in self.attributes and key not in nested:
                self.before.setdefault("attributes", {})[key] = self.attributes[key]
            nested[key] = self.attributes[key] = value
            changed = True
        return changed

    def _change(self, name: str, before: Any, after: Any) -> None:
        if not self.is_new and name not in self.after:
            self.before[name] = before
        self.after[name] = after

    def _add(self, name: str, values: list[str]) -> None:
        self.after.setdefault(name, []).extend(values)

    def _take_consent(self, told: str | None, asked: Asked) -> bool:
        held = self.consent.status if self.consent else None
        if told is None or told == held or (held == "withdrawn" and told == "granted"):
            return False
        about = {"channel": asked.channel, "purpose": asked.purpose}
        was = None
        if self.consent is not None:
            was = {**about, "status": held, "at": self.consent.at, "source": self.consent.source}
        self._change("consent", was, {**about, "status": told, "source": asked.source})
        self.consent = Consent(told, None, asked.source)
        return True


def is_same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def overlay(draft: Draft, after: Mapping[str, Any], asked: Asked) -> None:
    """Let a draft be as a dry run has left the contact in an earlier batch."""
    for name in FIELDS:
        if name in after:
            draft.fields[name] = after[name]
    draft.attributes.update(after.get("attributes", {}))
    draft.tags.update(after.get("tags", ()))
    draft.is_member = draft.is_member or str(asked.list_id) in after.get("lists", ())
    if "consent" in after:
        draft.consent = Consent(after["consent"]["status"], None, after["consent"]["source"])


def joined(
    earlier_before: dict[str, Any], earlier_after: dict[str, Any], draft: Draft
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an import has done to a contact in all: `before` as it was first seen, `after` as it is now."""
    before, after = dict(earlier_before), dict(earlier_after)
    for name, value in draft.after.items():
        if name == "attributes":
            seen = after.get("attributes", {})
            was = {k: v for k, v in draft.before.get("attributes", {}).items() if k not in seen}
            if was:
                before["attributes"] = {**was, **before.get("attributes", {})}
            after["attributes"] = {**seen, **value}
        elif name in ADDED:
            after[name] = [*after.get(name, ()), *value]
        else:
            if name not in after and name in draft.before:
                before[name] = draft.before[name]
            after[name] = value
    return before, after
