"""Campaigns: make, check, launch, pause, resume, cancel, and see how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.data import link_dial
from outrider.data.db import Role
from outrider.domain.callbacks import examine
from outrider.domain.campaigns import draft, links, read
from outrider.domain.campaigns import launch as running
from outrider.domain.campaigns import preflight as checking
from outrider.domain.campaigns import schedule as waiting
from outrider.domain.campaigns.draft import NewCampaign
from outrider.domain.limits import switches
from outrider.domain.senders import connections, senders
from outrider.domain.tenants.policies import MOST_UNDO_S
from outrider.interfaces.cli import campaigns, exits
from outrider.interfaces.cli.campaigning import approving, editing, outcome, publishing, trying
from outrider.interfaces.cli.campaigns import PRIORITY, Acknowledge, ListName, Names, Which, moment
from outrider.interfaces.cli.commands.connection import vault_of
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.dialling import Dial
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, between, whole_number
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.progress import progress as bar
from outrider.interfaces.cli.work import actor, changing, looking, note, tenant_of, wired, within

APP = App(name="campaign")

_COLUMNS = ("id", "name", "state", "channel", "expanded_count", "created_at", "launched_at", "finished_at")
_POLL_S = 1.0


@APP.command
async def create(
    name: str,
    *,
    sender: str,
    template: str,
    list_: ListName = None,
    segment: str | None = None,
    without_list: Names = None,
    without_segment: Names = None,
    without_campaign: Names = None,
    version: int | None = None,
    purpose: str = "marketing",
    priority: Annotated[int, PRIORITY] = 5,
    expires: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Make a draft.

    Example: `outrider campaign create spring --sender shop --template sale --list customers`

    Parameters
    ----------
    name
        What you call it.
    sender
        Name or id of the sender.
    template
        Name or id of the template.
    list_
        Name or id of the list it goes to.
    segment
        Name or id of the segment it goes to, in place of a list.
    without_list
        Not to members of this list; several times.
    without_segment
        Not to whom this segment holds for; several times.
    without_campaign
        Not to those who got this campaign, may have got it or are about to; several times.
    version
        Version of the template; the latest at the launch when absent.
    purpose
        What consent it needs.
    priority
        0 goes first, 9 last, among messages of the same lane.
    expires
        What is not sent by then is not sent: an RFC 3339 moment with its offset.
    """
    async with changing(options) as work:
        new = NewCampaign(
            name=name,
            **await campaigns.named_ids(work.uow, sender=sender, template=template, list_=list_, segment=segment),
            exclusions=await campaigns.exclusions(
                work.uow, without_list or (), without_segment or (), without_campaign or ()
            ),
            template_version=version,
            purpose=purpose,
            priority=priority,
            expires_at=moment(expires) if expires is not None else None,
        )
        made = await draft.create(work.uow, work.actor, new)
    return Answer(campaigns.told(made), note(f"made campaign {made.name} ({made.id})", dry_run=options.dry_run))


@APP.command
async def preflight(
    which: Which,
    *,
    connection: Annotated[bool, Parameter(help="Also try the sender's connection.")] = True,
    dial: Dial = False,
    options: Common = COMMON,
) -> Answer:
    """Check a draft: whom it would reach and what stands in its way. Exit 1 when a launch would be refused.

    Example: `outrider campaign preflight spring`
    """
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        sender = await senders.get(work.uow, found.sender_id)
        account = await connections.opened(work.uow, vault_of(runtime), sender.connection_id) if connection else None
        urls = await links.of_campaign(work.uow, runtime.channels, found.id) if dial else []
    dialled = await link_dial.dial(urls, runtime.egress)
    stages = None
    if account is not None:
        stages = await examine.examined(runtime, account, work.tenant_id, sender.connection_id)
    async with wired(options) as (runtime, work):
        checked = await checking.preflight(
            work.uow,
            runtime.settings,
            vault_of(runtime),
            found.id,
            channels=runtime.channels,
            stages=stages,
            dialled=dialled,
        )
    code = exits.CHECK_FAILED if checked.is_blocked else exits.OK
    data = {**msgspec.to_builtins(checked), "is_blocked": checked.is_blocked}
    return Answer(data, campaigns.told_preflight(checked), code)


@APP.command
async def launch(
    which: Which,
    *,
    undo: Annotated[
        int | None, Parameter(converter=whole_number, validator=between(0, MOST_UNDO_S), n_tokens=1)
    ] = None,
    acknowledge: Acknowledge = None,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Start sending a draft.

    Example: `outrider campaign launch spring --undo 60`

    Parameters
    ----------
    undo
        For how many seconds the launch can be taken back, 0 to 3600; the tenant's setting undo_window_s when absent.
    """
    if not options.dry_run:
        confirm(f"campaign {which} will be sent to its list", "launch", yes=yes)
    wanted = running.Launch(reason=options.reason, undo_s=undo, acknowledge=acknowledge or [])
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        view = await running.launch(
            work.uow, runtime.settings, vault_of(runtime), work.actor, found.id, wanted, channels=runtime.channels
        )
    text = f"campaign {view.name} is launched"
    text += f"; `outrider campaign undo` takes it back until {view.undo_until:%H:%M:%S%z}" if view.undo_until else ""
    return Answer(campaigns.told(view), note(text, dry_run=options.dry_run))


@APP.command
async def undo(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Take a launch back before anything was queued: the campaign is the draft it was.

    Example: `outrider campaign undo spring`
    """
    async with changing(options, role=Role.ENGINE) as work:
        found = await campaigns.find(work.uow, which)
        view = await running.undo(work.uow, work.actor, found.id, reason=options.reason)
    return Answer(campaigns.told(view), note(f"campaign {view.name} is a draft again", dry_run=options.dry_run))


@APP.command
async def schedule(
    which: Which, at: str, *, acknowledge: Acknowledge = None, yes: Yes = False, options: Changing = CHANGING
) -> Answer:
    """Launch a draft by itself at a moment.

    Example: `outrider campaign schedule spring 2027-03-20T09:00:00+01:00`

    Parameters
    ----------
    at
        When: an RFC 3339 moment with its offset, at most 366 days ahead.
    """
    at_moment = moment(at, field="AT")
    if not options.dry_run:
        confirm(f"campaign {which} will be sent to its list at {at_moment.isoformat()}", "schedule", yes=yes)
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        view = await waiting.schedule(
            work.uow,
            runtime.settings,
            vault_of(runtime),
            work.actor,
            found.id,
            waiting.Schedule(at_moment, options.reason, acknowledge or []),
            channels=runtime.channels,
        )
    text = f"campaign {view.name} will be launched at {at_moment.isoformat()}"
    return Answer(campaigns.told(view), note(text, dry_run=options.dry_run))


@APP.command
async def unschedule(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Make a scheduled campaign a draft again.

    Example: `outrider campaign unschedule spring`
    """
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        view = await waiting.unschedule(work.uow, work.actor, found.id, reason=options.reason)
    return Answer(campaigns.told(view), note(f"campaign {view.name} is a draft again", dry_run=options.dry_run))


@APP.command
async def pause(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Stop a campaign where it is; returns when no claim begun before is still open.

    Example: `outrider campaign pause spring --reason "a wrong link"`
    """
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with within(db, tenant_id, dry_run=options.dry_run, reason=options.reason) as work:
            found = await campaigns.find(work.uow, which)
            view = await running.pause(work.uow, work.actor, found.id, reason=options.reason)
        if not options.dry_run:
            await switches.settle(db, "campaign", tenant_id, str(view.id))
    return Answer(campaigns.told(view), note(f"campaign {view.name} is paused", dry_run=options.dry_run))


@APP.command
async def resume(which: Which, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Let a paused campaign go on where it was.

    Example: `outrider campaign resume spring`
    """
    if not options.dry_run:
        confirm(f"campaign {which} goes on sending", "resume", yes=yes)
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        view = await running.resume(work.uow, work.actor, found.id, reason=options.reason)
    return Answer(campaigns.told(view), note(f"campaign {view.name} goes on", dry_run=options.dry_run))


@APP.command
async def cancel(which: Which, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """End a campaign for good: what waits is withdrawn, what is on the wire ends by itself.

    Example: `outrider campaign cancel spring --reason "wrong prices"`
    """
    if not options.dry_run:
        confirm(f"campaign {which} ends for good", "cancel", yes=yes)
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with within(db, tenant_id, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work:
            found = await campaigns.find(work.uow, which)
            view = await running.cancel(work.uow, work.actor, found.id, reason=options.reason)
        left = 0 if options.dry_run else await running.cancel_rest(db, tenant_id, actor(options.reason), view.id)
    text = f"campaign {view.name} is cancelled" + (f"; {left} message(s) are still on the wire" if left else "")
    return Answer({**campaigns.told(view), "open_count": left}, note(text, dry_run=options.dry_run))


@APP.command
async def progress(
    which: Which,
    *,
    follow: Annotated[bool, Parameter(negative="", help="Go on until it is finished.")] = False,
    options: Common = COMMON,
) -> Answer:
    """Show how far a campaign is, state by state.

    Example: `outrider campaign progress spring --follow`
    """
    async with looking(options) as work:
        found = await campaigns.find(work.uow, which)
        state = await read.progress(work.uow, found.id)
    if follow:
        with bar(f"campaign {found.name}", state.total_count) as advance:
            while state.state in {"sending", "paused"}:
                advance(state.ended_count)
                await asyncio.sleep(_POLL_S)
                async with looking(options) as work:
                    state = await read.progress(work.uow, found.id)
    return Answer(msgspec.to_builtins(state), campaigns.told_progress(state))


@APP.command(name="list")
async def list_(*, state: str | None = None, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List campaigns, newest first.

    Example: `outrider campaign list --state sending`

    Parameters
    ----------
    state
        Only those in this state.
    """
    async with looking(options) as work:
        found = await read.listed(work.uow, limit=limit, state=state)
    rows: list[dict[str, Any]] = [campaigns.told(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no campaigns"))


_VERBS: tuple[Callable[..., Any], ...] = (
    editing.show,
    editing.update,
    editing.delete,
    outcome.sheet,
    outcome.retry,
    trying.preview,
    publishing.publish,
    publishing.web_version,
    publishing.unpublish,
    approving.request_approval,
    approving.approve,
    approving.reject,
    approving.withdraw_approval,
)
for _verb in _VERBS:
    APP.command(_verb)
APP.command(trying.send_trial, name="test-send")
APP.command(approving.list_approvals, name="approvals")
