"""What undoing an import means for one contact: what is put back, what is left alone, and why. Pure.

Owns the rule: only what nobody has changed since is put back; a contact that the import made is deleted only when
nothing has come of it. Withdrawals, lists that were turned off and do-not-contact entries made since always stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from outrider.domain.contacts.imports.drafts import FIELDS, is_same


@dataclass(slots=True)
class Now:
    """A contact as it is now, with everything that could have come of it."""

    fields: dict[str, Any]
    attributes: dict[str, Any]
    addresses: set[str] = field(default_factory=set)
    tags: dict[str, datetime] = field(default_factory=dict)
    lists: dict[str, datetime] = field(default_factory=dict)
    consents: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    said_at: datetime | None = None
    suppressed: dict[str, datetime] = field(default_factory=dict)
    written_to: set[str] = field(default_factory=set)
    is_merged: bool = False
    has_refused: bool = False
    """Whether they turned a list off."""


@dataclass(slots=True)
class Step:
    """What is to be done to one contact."""

    contact_id: UUID
    delete: bool = False
    fields: dict[str, Any] | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    consent: tuple[str, str, str | None, Any, str | None] | None = None
    reasons: list[str] = field(default_factory=list)
    did: bool = False

    @property
    def outcome(self) -> str:
        """In one word."""
        if self.delete:
            return "deleted"
        if not self.reasons:
            return "restored"
        return "partly" if self.did else "left"


def step_of(
    contact_id: UUID, before: dict[str, Any], after: dict[str, Any], at: datetime, *, is_new: bool, now: Now | None
) -> Step:
    """What undoing does to one contact.

    Takes:   before, after, at  what the import changed, and when last; now  None when the contact is no more.
    """
    step = Step(contact_id)
    if now is None:
        step.reasons.append("gone")
    elif is_new:
        step.reasons.extend(_uses(after, at, now))
        step.delete = not step.reasons
    else:
        _fields(step, before, after, now)
        _added(step, after, at, now)
        _consent(step, before, after, at, now)
    return step


def _uses(after: dict[str, Any], at: datetime, now: Now) -> list[str]:
    """Why a contact that the import made must stay."""
    reasons = []
    made = {name: after.get(name) or ("" if name == "name" else None) for name in FIELDS}
    if made != now.fields or not _are_same(after.get("attributes", {}), now.attributes):
        reasons.append("changed_since")
    if now.addresses != set(after.get("addresses", ())):
        reasons.append("address_since")
    if set(now.tags) - set(after.get("tags", ())):
        reasons.append("tagged_since")
    if set(now.lists) - set(after.get("lists", ())):
        reasons.append("listed_since")
    # what was moved in from another system keeps its former time, so the time alone does not tell
    if (now.said_at is not None and now.said_at > at) or _has_other_consent(after.get("consent"), now):
        reasons.append("consent_since")
    if now.has_refused:
        reasons.append("refused_since")
    if any(moment > at for moment in now.suppressed.values()):
        reasons.append("suppressed_since")
    if now.written_to:
        reasons.append("written_to")
    if now.is_merged:
        reasons.append("merged_since")
    return reasons


def _has_other_consent(said: dict[str, Any] | None, now: Now) -> bool:
    """Whether consent is held that is not what the import said."""
    ours = {} if said is None else {(said["channel"], said["purpose"]): (said["status"], said["source"])}
    return any(ours.get(key) != (held["status"], held["source"]) for key, held in now.consents.items())


def _are_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)


def _fields(step: Step, before: dict[str, Any], after: dict[str, Any], now: Now) -> None:
    fields, attributes = dict(now.fields), dict(now.attributes)
    for name in FIELDS:
        if name not in after:
            continue
        if fields[name] == after[name]:
            fields[name] = before.get(name)
            step.fields = fields
        else:
            step.reasons.append(f"{name}: changed_since")
    was = before.get("attributes", {})
    for key, value in after.get("attributes", {}).items():
        if key not in attributes or not is_same(attributes[key], value):
            step.reasons.append(f"attributes.{key}: changed_since")
            continue
        step.fields = fields
        if key in was:
            attributes[key] = was[key]
        else:
            del attributes[key]
    step.attributes = attributes
    step.did = step.did or step.fields is not None


def _added(step: Step, after: dict[str, Any], at: datetime, now: Now) -> None:
    for address in after.get("addresses", ()):
        if address not in now.addresses:
            continue  # gone already, as it was before
        if address in now.written_to:
            step.reasons.append(f"{address}: written_to")
        elif address in now.suppressed and now.suppressed[address] > at:
            step.reasons.append(f"{address}: suppressed_since")
        else:
            step.addresses.append(address)
    step.tags = [tag for tag in after.get("tags", ()) if tag in now.tags and now.tags[tag] <= at]
    step.lists = [one for one in after.get("lists", ()) if one in now.lists and now.lists[one] <= at]
    step.did = step.did or bool(step.addresses or step.tags or step.lists)


def _consent(step: Step, before: dict[str, Any], after: dict[str, Any], at: datetime, now: Now) -> None:
    said = after.get("consent")
    if said is None:
        return
    key = (said["channel"], said["purpose"])
    held = now.consents.get(key)
    is_ours = held is not None and (held["status"], held["source"]) == (said["status"], said["source"])
    if not is_ours or (now.said_at is not None and now.said_at > at):
        step.reasons.append("consent: consent_since")
    elif said["status"] == "withdrawn" and any(moment > at for moment in now.suppressed.values()):
        step.reasons.append("consent: suppressed_since")
    else:
        was = before.get("consent")
        moment = datetime.fromisoformat(was["at"]) if was else None
        step.consent = (*key, was["status"] if was else None, moment, was["source"] if was else None)
        step.did = True
