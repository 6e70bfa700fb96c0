"""Messages: send one, show one with its whole story, list by state, campaign or address, say how they stand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.domain.contacts.channels import stored_form
from outrider.domain.limits import charges
from outrider.domain.messages import causes, search, standing
from outrider.domain.messages.admit import Replay, check_key, keep, replay_of
from outrider.domain.messages.draft import Draft
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.submit import Submission
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.addressed import AnyChannel, channel_of
from outrider.interfaces.cli.attaching import Attach, attachments_of
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, between, text_of, whole_number
from outrider.interfaces.cli.output import Answer, facts, one_line, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import Work, looking, note, wired

APP = App(name="messages")

_ACCEPTED: Final = 202
_COLUMNS = (
    "id", "state", "address", "channel", "message_class", "attempts", "code", "title", "waiting_for", "finished_at",
)  # fmt: skip
_SHOWN = (
    "id", "state", "code", "detail", "address", "channel", "message_class", "purpose", "campaign_id", "contact_id",
    "attempts", "due_at", "next_at", "waiting_for", "expires_at", "finished_at", "provider_id",
)  # fmt: skip


Minutes = Annotated[int, Parameter(converter=whole_number, validator=between(1, standing.MOST_MINUTES), n_tokens=1)]
Last = Annotated[int, Parameter(converter=whole_number, validator=between(1, standing.MOST_MESSAGES), n_tokens=1)]


@APP.command
async def send(
    to: str,
    *,
    sender: str | None = None,
    template: str | None = None,
    subject: str | None = None,
    text: str | None = None,
    html: Path | None = None,
    attach: Attach = None,
    var: list[str] | None = None,
    class_: Annotated[Literal["transactional", "bulk"], Parameter(name="--class")] = "transactional",
    channel: AnyChannel = None,
    idempotency_key: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Accept one message for sending; it is durable when this command ends.

    Example: `outrider messages send ann@example.org --sender shop --subject "Your order" --text "It is on its way."`

    Parameters
    ----------
    to
        The address.
    sender
        The sender's name or id; may be left out when there is only one.
    template
        The template's name or id, instead of subject and text.
    subject
        The subject.
    text
        The text part.
    html
        File with the HTML part.
    var
        name=value for the template, several times.
    class_
        transactional goes before bulk and ignores marketing consent.
    idempotency_key
        A name of yours for this message: the same command again sends nothing more and gives the same id.
    """
    draft = Draft("", to, channel=channel_of(to, channel), sender=sender, template=template, subject=subject, text=text)
    draft.message_class = class_
    if html is not None:
        draft.html = text_of(html, "--html")
    draft.attachments = attachments_of(attach)
    if var:
        draft.variables = json.dumps(dict(_pair(each) for each in var))
    key = None if idempotency_key is None else check_key(idempotency_key, field="--idempotency-key")
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        message_id = None if key is None else await _sent_before(work, key, draft)
        is_replayed = message_id is not None
        if message_id is None:
            submission = Submission(work.uow, runtime.channels, runtime.renderer, utc_now())
            source = f"{work.actor.kind} {work.actor.name}"
            [message_id] = await submission.accept([dataclasses.replace(draft, source=source)])
            if key is not None:
                answer = Replay(_ACCEPTED, json.dumps({"id": str(message_id)}))
                await keep(work.uow.raw, work.tenant_id, key, _request(draft), answer)
            await SQL.tell_ready.run(work.uow.raw)
    text = f"was accepted before as {message_id}; nothing more is sent" if is_replayed else f"accepted as {message_id}"
    return Answer({"id": message_id, "is_replayed": is_replayed}, note(text, dry_run=options.dry_run))


@APP.command
async def show(message: str, *, options: Common = COMMON) -> Answer:
    """Show one message and everything that happened to it.

    Example: `outrider messages show ID`

    Parameters
    ----------
    message
        Its id.
    """
    async with looking(options, role=Role.ENGINE) as work:
        row, events = await search.get(work.uow.raw, work.tenant_id, parse_id(message, "message"))
        why = (await search.explained(work.uow.raw, work.tenant_id, [row]))[row["id"]]
        charged = await charges.of_message(work.uow.raw, work.tenant_id, row["id"])
    about: dict[str, Any] = {name: row[name] for name in _SHOWN} | {"waiting_for": why.waiting_for}
    story = [{"at": each.at, "kind": each.kind, "data": each.data} for each in events]
    meant = [causes.of_event(each.kind, each.data) for each in events]
    text = facts(_in_words(about, why.cause)) + "\n\n" + _timeline(story, meant)
    if charged:
        text += "\n\n" + table(charged, ("at", "micros", "segments", "day_on", "is_settled"), empty="")
    data = {**about, "cause": why.cause, "charges": charged}
    data["events"] = [{**each, "cause": cause} for each, cause in zip(story, meant, strict=True)]
    return Answer(data, text)


@APP.command(name="list")
async def list_(
    *,
    state: str | None = None,
    campaign: str | None = None,
    to: str | None = None,
    channel: str | None = None,
    before: str | None = None,
    limit: Limit = 100,
    options: Common = COMMON,
) -> Answer:
    """List messages, newest first.

    Example: `outrider messages list --state failed --limit 20`

    Parameters
    ----------
    state
        Only those in this state.
    campaign
        Only those of this campaign, by name or id.
    to
        Only those to this address, in any form.
    channel
        Only those of this channel.
    before
        Only older ones than this message id.
    """
    known = channels().get(channel_of(to or "", channel))
    last = parse_id(before, "--before") if before else None
    async with looking(options, role=Role.ENGINE) as work:
        if to is not None and known is not None:
            to = await stored_form(work.uow.raw, work.tenant_id, known, to, field="--to")
        campaign_id = (await campaigns.find(work.uow, campaign)).id if campaign else None
        wanted = search.Filter(state, campaign_id, to, channel)
        found = await search.find(work.uow.raw, work.tenant_id, wanted, limit=limit, before=last)
        why = await search.explained(work.uow.raw, work.tenant_id, found)
    rows = [{**row, "waiting_for": why[row["id"]].waiting_for, "cause": why[row["id"]].cause} for row in found]
    told = [{**row, "title": row["cause"].title if row["cause"] else None} for row in rows]
    return Answer(rows, table(told, _COLUMNS, empty="no messages"))


@APP.command
async def stats(*, minutes: Minutes | None = None, last: Last | None = None, options: Common = COMMON) -> Answer:
    """Say how messages stand by state, why some failed, and how many go a minute.

    Example: `outrider messages stats --minutes 15`

    Parameters
    ----------
    minutes
        Those accepted in the last minutes; an hour unless said otherwise.
    last
        The last so many instead.
    """
    async with looking(options, role=Role.ENGINE) as work:
        found = await standing.of_tenant(work.uow.raw, work.tenant_id, minutes=minutes, last=last)
    data = msgspec.to_builtins(found)
    head = {
        "messages": f"{found.message_count:,}" + (" (there were more in the time)" if found.is_capped else ""),
        "since": found.since,
        "delivered": _percent(found.delivered_percent, "of those handed over"),
        "bounced": _percent(found.bounced_percent, "of those handed over"),
        "failed": _percent(found.failed_percent, "of those that were tried"),
        "sent in the last minute": found.sent_per_minute,
    }
    parts = [facts(head), table(data["states"], ("channel", "state", "count", "percent"), empty="no messages")]
    if found.reasons:
        parts.append(table(data["reasons"], ("channel", "state", "code", "title", "count", "remedy")))
    return Answer(data, "\n\n".join(parts))


def _in_words(about: dict[str, Any], cause: causes.CauseView | None) -> dict[str, Any]:
    """The facts of a message, with what its cause means below the code that names it or the reason it waits for."""
    told: dict[str, Any] = {}
    for name, value in about.items():
        told[name] = value
        if cause is not None and name == ("detail" if about["code"] == cause.code else "waiting_for"):
            told |= {"cause": f"{cause.title}: {cause.why}", "remedy": cause.remedy}
    return told


def _timeline(story: list[dict[str, Any]], meant: list[causes.CauseView | None]) -> str:
    told = [
        {
            **each,
            "data": one_line(json.dumps(each["data"], default=str)) if each["data"] else "",
            "cause": f"{cause.title}: {cause.why}; remedy: {cause.remedy}" if cause else "",
        }
        for each, cause in zip(story, meant, strict=True)
    ]
    columns = ("at", "kind", "data", "cause") if any(meant) else ("at", "kind", "data")
    return table(told, columns, empty="nothing happened yet")


def _percent(value: float | None, of: str) -> str | None:
    return None if value is None else f"{value:g} % {of}"


async def _sent_before(work: Work, key: str, draft: Draft) -> UUID | None:
    """The message that was accepted under this key, if there was one.

    Raises:  Refused(idempotency_mismatch, idempotency_in_progress) in the command line's words.
    """
    try:
        found = await replay_of(work.uow.raw, work.tenant_id, key, _request(draft))
    except Refused as error:
        message = error.message.replace("with another body", "for another message")
        raise Refused(error.code, message, field="--idempotency-key", status=error.http_status) from None
    return None if found is None else UUID(json.loads(found.body)["id"])


def _request(draft: Draft) -> bytes:
    """The message as asked for: what makes two commands under one key the same."""
    return msgspec.json.encode(draft, order="deterministic")


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise Refused("invalid_variable", f"{text[:80]!r} is not name=value", field="--var")
    return name, value
