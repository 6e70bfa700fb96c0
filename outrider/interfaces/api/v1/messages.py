"""Messages: submit one or up to 5,000, look them up with everything that happened to them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromHeader, FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from outrider.base import failpoint
from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.base.ids import parse_id, time_of
from outrider.data.again import again_if_undone
from outrider.data.db import Database, Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.channels import stored_form
from outrider.domain.limits import charges, sources
from outrider.domain.messages import causes, search
from outrider.domain.messages.admit import Replay, check_key, keep, replay_of, request_hash
from outrider.domain.messages.draft import Draft
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.singles import Single
from outrider.domain.messages.submit import MOST_MESSAGES, Submission
from outrider.domain.templates.attachments import decode
from outrider.interfaces.api.bodies import ApiRequest
from outrider.interfaces.api.gathering import Gathering
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

_PRINTABLE = r"^[ -~]+$(?!\n)"
_SHARED = (
    "channel", "sender", "template", "template_version", "subject", "html", "text", "preheader", "message_class",
    "purpose", "priority", "send_at", "expires_at", "source",
)  # fmt: skip
"""What stands beside `messages` for those that do not say otherwise."""
IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", description="1 to 256 characters; a repeat gets the same answer."),
]

StateFilter = Annotated[str | None, QueryParameter(name="state", description="Only messages in this state.")]


class AttachmentIn(msgspec.Struct, forbid_unknown_fields=True):
    """A file: its name, its type and its content in base64."""

    name: str
    content: str
    content_type: str = "application/octet-stream"


class MessageIn(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One message. What is left out is taken from the fields beside `messages`."""

    to: str | None = None
    channel: str | None = None
    sender: str | None = None
    template: str | None = None
    template_version: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    preheader: str | None = None
    attachments: Annotated[list[AttachmentIn], msgspec.Meta(max_length=50)] | None = None
    variables: dict[str, Any] | None = None
    message_class: Literal["transactional", "bulk"] | None = msgspec.field(default=None, name="class")
    purpose: Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=r"^[a-z0-9_-]+$(?!\n)")] | None = None
    priority: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=sources.LONGEST, pattern=_PRINTABLE)] | None = None


class SubmissionIn(MessageIn, forbid_unknown_fields=True, omit_defaults=True):
    """One message, or `messages` (1 to 5,000) with shared fields beside it. All are accepted, or none."""

    messages: Annotated[list[MessageIn], msgspec.Meta(min_length=1, max_length=MOST_MESSAGES)] | None = None


class AcceptedOut(msgspec.Struct):
    """An accepted message."""

    id: UUID


class BatchOut(msgspec.Struct):
    """Accepted messages, in the order of the request."""

    items: list[AcceptedOut]


class MessageOut(msgspec.Struct):
    """A message as it stands. `cause` says why it failed, is uncertain or waits, and what to do about it."""

    id: UUID
    channel: str
    sender_id: UUID
    message_class: str = msgspec.field(name="class")
    campaign_id: UUID | None
    contact_id: UUID | None
    to: str
    purpose: str
    state: str
    attempts: int
    accepted_at: datetime
    due_at: datetime
    next_at: datetime | None
    waiting_for: str | None
    finished_at: datetime | None
    provider_id: str | None
    code: str | None
    detail: str | None
    cause: causes.CauseView | None


class EventOut(msgspec.Struct):
    """Something that happened to a message; `cause` says in words what its data has as a code."""

    at: datetime
    kind: str
    data: dict[str, Any]
    cause: causes.CauseView | None


class ChargeOut(msgspec.Struct):
    """What one attempt was charged, in millionths of the tenant's currency; `is_settled`: that is the final price."""

    micros: int
    segments: int
    day_on: date
    is_settled: bool
    at: datetime


class MessageWithEvents(msgspec.Struct):
    """A message with its timeline: every attempt, every gate that stopped or delayed it; and what it was charged."""

    message: MessageOut
    events: list[EventOut]
    charges: list[ChargeOut]


async def tell_ready(db: Database) -> None:
    """Wake the workers; they would look by themselves within a quarter of a second."""
    async with db.uow(Role.ENGINE) as uow:
        await SQL.tell_ready.run(uow.raw)


@post("/messages", status_code=202, guards=[needs("operator", "messages:write")])
async def submit(
    data: JSONBody[SubmissionIn],
    request: ApiRequest,
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    gathering: NamedDependency[Gathering],
    idempotency_key: FromHeader[IdempotencyKey] = None,
) -> Response[bytes]:
    """Accept messages for sending: 202 means they are durable. With an Idempotency-Key a repeat is answered alike."""
    if idempotency_key is not None:
        check_key(idempotency_key)
    drafts = _drafts(data)
    for draft in drafts:
        draft.source = draft.source or f"{principal.actor.kind} {principal.actor.name}"
    body = await request.body()
    if data.messages is None and data.template is not None:
        call = Single(drafts[0], idempotency_key, request_hash(body))
        found = await gathering.accept(principal.tenant_id, call)
        is_replay = isinstance(found, Replay)
        answer = found if isinstance(found, Replay) else Replay(202, _answer([found], is_batch=False))
    else:
        wanted = _Wanted(drafts, is_batch=data.messages is not None, body=body, key=idempotency_key)
        is_replay, answer = await again_if_undone(partial(_accept, runtime, principal.tenant_id, wanted))
    runtime.bell.ring("ready", gathering.tell_ready)
    headers = {"Idempotent-Replayed": "true"} if is_replay else {}
    return Response(answer.body.encode(), status_code=answer.status, media_type="application/json", headers=headers)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One call, read."""

    drafts: list[Draft]
    is_batch: bool
    body: bytes
    key: str | None


async def _accept(runtime: Runtime, tenant_id: UUID, wanted: _Wanted) -> tuple[bool, Replay]:
    """Accept the messages of a call in a transaction of its own: whether it was answered before, and the answer."""
    async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        earlier: Replay | None = None
        if wanted.key is not None:
            earlier = await replay_of(uow.raw, tenant_id, wanted.key, wanted.body)
        if earlier is None:
            ids = await Submission(uow, runtime.channels, runtime.renderer, utc_now()).accept(wanted.drafts)
            answer = Replay(202, _answer(ids, is_batch=wanted.is_batch))
            if wanted.key is not None:
                await keep(uow.raw, tenant_id, wanted.key, wanted.body, answer)
        if failpoint.ARMED:
            failpoint.hit("accept.before_commit")
    if failpoint.ARMED:
        failpoint.hit("accept.committed")
    return (True, earlier) if earlier else (False, answer)


def _answer(ids: list[UUID], *, is_batch: bool) -> str:
    accepted = [AcceptedOut(message_id) for message_id in ids]
    return msgspec.json.encode(BatchOut(accepted) if is_batch else accepted[0]).decode()


def _drafts(data: SubmissionIn) -> list[Draft]:
    """The messages of a request with shared fields filled in."""
    if data.messages is None:
        return [_draft(data, data, "")]
    if data.to is not None:
        raise Refused("one_or_many", "give `to` in each message, not beside `messages`", field="/to")
    return [_draft(message, data, f"/messages/{index}") for index, message in enumerate(data.messages)]


def _draft(message: MessageIn, shared: MessageIn, field: str) -> Draft:
    if message.to is None:
        raise Refused("required", "is required", field=f"{field}/to")
    variables = message.variables if message.variables is not None else shared.variables
    files = message.attachments if message.attachments is not None else shared.attachments
    draft = Draft(field, message.to)
    for name in _SHARED:
        value = getattr(message, name)
        if value is None:
            value = getattr(shared, name)
        if value is not None:
            setattr(draft, name, value)
    if variables is not None:
        draft.variables = msgspec.json.encode(variables).decode()
    if files:
        draft.attachments = tuple(
            decode(file.name, file.content_type, file.content, field=f"{field}/attachments/{at}")
            for at, file in enumerate(files)
        )
    return draft


@get("/messages", guards=[needs("viewer", "messages:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    in_state: FromQuery[StateFilter] = None,
    campaign_id: FromQuery[UUID | None] = None,
    to: FromQuery[str | None] = None,
    channel: FromQuery[str | None] = None,
    limit: FromQuery[Limit] = 100,
    cursor: FromQuery[Cursor] = "",
) -> Page[MessageOut]:
    """Find messages by state, campaign, address or channel, newest first."""
    before = read_cursor(cursor, tuple[UUID])
    if to is not None:
        known = runtime.channels.get(channel or "email")
        if known is not None:
            async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
                to = await stored_form(uow.raw, principal.tenant_id, known, to, field="?to")
    wanted = search.Filter(in_state, campaign_id, to, channel)
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        rows = await search.find(
            uow.raw, principal.tenant_id, wanted, limit=limit, before=before[0] if before else None
        )
        why = await search.explained(uow.raw, principal.tenant_id, rows)
    items = [_message(row, why[row["id"]]) for row in rows]
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/messages/{message_id:str}", guards=[needs("viewer", "messages:read")])
async def shown(
    message_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> MessageWithEvents:
    """Show one message with its timeline."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        row, events = await search.get(uow.raw, principal.tenant_id, parse_id(message_id, "message_id"))
        why = await search.explained(uow.raw, principal.tenant_id, [row])
        charged = await charges.of_message(uow.raw, principal.tenant_id, row["id"])
    return MessageWithEvents(
        _message(row, why[row["id"]]),
        [EventOut(event.at, event.kind, event.data, causes.of_event(event.kind, event.data)) for event in events],
        [ChargeOut(**{name: each[name] for name in ChargeOut.__struct_fields__}) for each in charged],
    )


def _message(row: Any, why: search.Explained) -> MessageOut:
    return MessageOut(
        id=row["id"], channel=row["channel"], sender_id=row["sender_id"], message_class=row["message_class"],
        campaign_id=row["campaign_id"], contact_id=row["contact_id"], to=row["address"], purpose=row["purpose"],
        state=row["state"], attempts=row["attempts"], accepted_at=time_of(row["id"]), due_at=row["due_at"],
        next_at=row["next_at"] if row["state"] in {"scheduled", "held"} else None,
        waiting_for=why.waiting_for, finished_at=row["finished_at"], provider_id=row["provider_id"], code=row["code"],
        detail=row["detail"], cause=why.cause,
    )  # fmt: skip


ROUTES = [submit, listed, shown]
