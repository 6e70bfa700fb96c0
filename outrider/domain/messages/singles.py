"""Single calls, many at once: each asks for one message of a template, and each is accepted or refused for itself.

Owns what they share, so that a hundred cost as many round trips as one: keys, look-ups, admission. Calls of several
messages, and contents that stand in the request, are submit.py's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from outrider.base.errors import OutriderError, Refused
from outrider.contracts.channel import Channel
from outrider.domain.contacts.channels import needs_region
from outrider.domain.messages import quota
from outrider.domain.messages.admit import LaneKey, NewMessage, Replay, admit_to, in_progress, mismatch
from outrider.domain.messages.draft import (
    Draft,
    check_template_alone,
    check_variables,
    lane_key_of,
    sender_of,
    times_of,
    unknown_template,
)
from outrider.domain.messages.rows import SQL
from outrider.domain.tenants.regions import region_of


@dataclass(frozen=True, slots=True)
class Single:
    """One call: a draft that names a template, and the key it came under with the hash of its request."""

    draft: Draft
    key: str | None
    request_hash: bytes


Answer = UUID | Replay | OutriderError
"""The id of the accepted message, what was answered under this key before, or why the call is refused: the caller's
mistake, or no room."""


@dataclass(slots=True)
class _Facts:
    """What was looked up for a group of calls. Templates by their place among those asked for, from 0."""

    senders: list[asyncpg.Record] = field(default_factory=list)
    lanes: dict[tuple[str, UUID, str], int] = field(default_factory=dict)
    contents: dict[int, tuple[str, UUID]] = field(default_factory=dict)
    contacts: dict[tuple[str, str], UUID] = field(default_factory=dict)
    room: dict[str, int | None] | None = None


async def accept(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    channels: Mapping[str, Channel],
    calls: Sequence[Single],
    *,
    now: datetime,
) -> list[Answer]:
    """Accept what can be accepted of several calls.

    Takes:   a transaction of the engine role; calls whose keys differ.
    Gives:   an answer to each, in order. None holds unless the transaction commits.
    Raises:  asyncpg.UniqueViolationError when a call of another process was answered under one of the keys in this very
             moment: nothing holds then, and a repeat finds that answer. What the database refuses, as ever.
    """
    answers = await _earlier(raw, tenant_id, calls)
    addresses: dict[int, str] = {}
    region = await _region(raw, tenant_id, channels, calls)
    for at, call in enumerate(calls):
        if at not in answers:
            try:
                addresses[at] = _address(call.draft, channels, region)
            except Refused as error:
                answers[at] = error
    if addresses:
        facts = await _look_up(raw, tenant_id, {at: calls[at].draft for at in addresses}, addresses)
        has_bulk = any(calls[at].draft.message_class == "bulk" for at in addresses)
        room = await quota.near(raw, tenant_id, quota.read(facts.room), "bulk" if has_bulk else "transactional")
        groups: dict[LaneKey, list[tuple[int, NewMessage]]] = defaultdict(list)
        for at, address in addresses.items():
            try:
                key, message = _checked(calls[at].draft, at, address, facts, now)
            except Refused as error:
                answers[at] = error
                continue
            refusal = room.take(key.message_class)
            if refusal is None:
                groups[key].append((at, message))
            else:
                answers[at] = refusal
        for key, part in groups.items():
            answers |= await _admitted(raw, tenant_id, key, part, calls, facts)
    return [answers[at] for at in range(len(calls))]


async def _earlier(raw: asyncpg.Connection, tenant_id: UUID, calls: Sequence[Single]) -> dict[int, Answer]:
    """Seize the keys of the calls; gives the answers of those that were answered before, or may not run now."""
    keys = [call.key for call in calls if call.key is not None]
    if not keys:
        return {}
    rows = {row["key"]: row for row in await SQL.single_keys.many(raw, tenant_id, keys)}
    answers: dict[int, Answer] = {}
    for at, call in enumerate(calls):
        if call.key is None:
            continue
        found = rows[call.key]
        if not found["is_seized"]:
            answers[at] = in_progress()
        elif found["status"] is not None:
            is_same = bytes(found["request_hash"]) == call.request_hash
            answers[at] = Replay(found["status"], found["body"]) if is_same else mismatch()
    return answers


async def _region(
    raw: asyncpg.Connection, tenant_id: UUID, channels: Mapping[str, Channel], calls: Sequence[Single]
) -> str:
    """The tenant's country, when one of the addresses can only be read with it."""
    drafts = [call.draft for call in calls if call.draft.channel in channels]
    is_needed = any(needs_region(channels[draft.channel], draft.to) for draft in drafts)
    return await region_of(raw, tenant_id) if is_needed else ""


def _address(draft: Draft, channels: Mapping[str, Channel], region: str) -> str:
    channel = channels.get(draft.channel)
    if channel is None:
        raise Refused("unknown_channel", f"must be one of {', '.join(channels)}", field=f"{draft.field}/channel")
    return channel.normalise(draft.to, field=f"{draft.field}/to", region=region)


async def _look_up(
    raw: asyncpg.Connection, tenant_id: UUID, drafts: Mapping[int, Draft], addresses: Mapping[int, str]
) -> _Facts:
    names = [draft.sender for draft in drafts.values()]
    templates = list(dict.fromkeys((draft.template, draft.template_version) for draft in drafts.values()))
    places = list(dict.fromkeys((drafts[at].channel, address) for at, address in addresses.items()))
    rows = await SQL.single_facts.many(
        raw, tenant_id, None if None in names else list(set(names)),
        [name for name, _ in templates], [version for _, version in templates],
        [channel for channel, _ in places], [address for _, address in places],
    )  # fmt: skip
    facts = _Facts()
    found: dict[int, tuple[str, UUID]] = {}
    for row in rows:
        match row["kind"]:
            case "sender":
                facts.senders.append(row)
            case "lane":
                facts.lanes[row["channel"], row["id"], row["name"]] = row["number"]
            case "template":
                found[row["number"]] = (row["channel"], row["id"])
            case "contact":
                facts.contacts[row["channel"], row["name"]] = row["id"]
            case "room":
                facts.room = orjson.loads(row["name"])
    numbers = {template: number for number, template in enumerate(templates, 1)}
    for at, draft in drafts.items():
        content = found.get(numbers[draft.template, draft.template_version])
        if content is not None:
            facts.contents[at] = content
    return facts


def _checked(draft: Draft, at: int, address: str, facts: _Facts, now: datetime) -> tuple[LaneKey, NewMessage]:
    sender_id = sender_of(draft, facts.senders)
    check_variables(draft)
    due_at, expires_at = times_of(draft, now)
    check_template_alone(draft)
    channel, content_id = facts.contents.get(at, ("", None))
    if content_id is None or channel != draft.channel:
        raise unknown_template(draft)
    contact_id = facts.contacts.get((draft.channel, address))
    return lane_key_of(draft, sender_id), NewMessage(
        address, content_id, draft.variables, contact_id, due_at, expires_at, draft.source
    )


async def _admitted(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    key: LaneKey,
    part: Sequence[tuple[int, NewMessage]],
    calls: Sequence[Single],
    facts: _Facts,
) -> dict[int, Any]:
    lane_id = facts.lanes.get((key.channel, key.sender_id, key.message_class))
    if lane_id is None:
        lane_id = await SQL.lane_make.value(raw, tenant_id, key.channel, key.sender_id, None, key.message_class)
    kept = [(call.key, call.request_hash) if call.key is not None else None for call in (calls[at] for at, _ in part)]
    ids = await admit_to(raw, tenant_id, lane_id, key, [message for _, message in part], kept)
    return dict(zip((at for at, _ in part), ids, strict=True))
