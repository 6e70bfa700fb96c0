"""`outrider campaign`: asking a second person for approval, and answering.

Owns the sign-in: whoever asks or answers is a user of the tenant with a password, because a login of this machine says
nothing about who approved what somebody else asked.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import approvals
from outrider.domain.campaigns import launch as running
from outrider.domain.campaigns.approvals import ApprovalView, Who
from outrider.domain.senders.connections import Vault
from outrider.domain.tenants import sessions, signing_in
from outrider.domain.tenants.roles import includes
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import Acknowledge, Which
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import Work, changing, looking, note, tenant_of, within

As = Annotated[str, Parameter(name="--as", help="Your email address, as you sign in with; asks for your password.")]
PasswordStdin = Annotated[bool, Parameter(negative="", help="Read the password from the first line of stdin.")]
_COLUMNS = ("campaign_name", "state", "member_count", "requested_by", "requested_at", "expires_at", "decided_by")


async def request_approval(
    which: Which,
    *,
    as_: As,
    password_stdin: PasswordStdin = False,
    acknowledge: Acknowledge = None,
    options: Changing = CHANGING,
) -> Answer:
    """Ask a second person to approve a draft as it is now.

    Example: `outrider campaign request-approval spring --as ann@example.org`
    """
    async with _signed_in(as_, options, from_stdin=password_stdin) as (runtime, work, who):
        found = await campaigns.find(work.uow, which)
        view = await running.ask_approval(
            work.uow,
            runtime.settings,
            Vault(runtime.providers, runtime.keyring, runtime.egress),
            who,
            found.id,
            channels=runtime.channels,
            acknowledged=acknowledge or (),
            reason=options.reason,
        )
    text = f"approval of {view.campaign_name} is asked for, until {view.expires_at:%Y-%m-%d %H:%M:%S%z}"
    return _answer(view, text, options)


async def approve(
    which: Which, *, as_: As, password_stdin: PasswordStdin = False, options: Changing = CHANGING
) -> Answer:
    """Approve what somebody else asked for, exactly as they asked for it; needs the role admin.

    Example: `outrider campaign approve spring --as bob@example.org`
    """
    return await _decided(which, as_, options, yes=True, from_stdin=password_stdin)


async def reject(
    which: Which, *, as_: As, password_stdin: PasswordStdin = False, options: Changing = CHANGING
) -> Answer:
    """Refuse to approve; give the reason. Needs the role admin.

    Example: `outrider campaign reject spring --as bob@example.org --reason "too early"`
    """
    return await _decided(which, as_, options, yes=False, from_stdin=password_stdin)


async def withdraw_approval(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Take a request for approval back, or an approval that is not wanted any more.

    Example: `outrider campaign withdraw-approval spring`
    """
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        view = await approvals.withdraw(work.uow, Who(work.actor), found.id, reason=options.reason)
    return _answer(view, f"the approval of {view.campaign_name} is withdrawn", options)


async def list_approvals(
    *,
    campaign: Annotated[str | None, Parameter(help="Only those of this campaign, by name or id.")] = None,
    state: Annotated[str | None, Parameter(help="Only those in this state, such as waiting.")] = None,
    limit: Limit = 100,
    options: Common = COMMON,
) -> Answer:
    """List requests for approval and their answers, newest first.

    Example: `outrider campaign approvals --state waiting`
    """
    async with looking(options) as work:
        campaign_id = (await campaigns.find(work.uow, campaign)).id if campaign is not None else None
        found = await approvals.listed(work.uow, limit=limit, campaign_id=campaign_id, state=state)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="nothing was asked for"))


async def _decided(which: str, email: str, options: Changing, *, yes: bool, from_stdin: bool) -> Answer:
    async with _signed_in(email, options, from_stdin=from_stdin) as (_, work, who):
        found = await campaigns.find(work.uow, which)
        view = await approvals.decide(work.uow, who, found.id, yes=yes, reason=options.reason)
    return _answer(view, f"{view.campaign_name} is {view.state}", options)


@asynccontextmanager
async def _signed_in(email: str, options: Changing, *, from_stdin: bool) -> AsyncIterator[tuple[Runtime, Work, Who]]:
    """A unit of work in the name of a person whose password was right; the session made for that ends at once.

    Raises:  Refused(invalid_credentials, too_many_attempts).
    """
    password = _password(from_stdin=from_stdin)
    async with doors().runtime() as runtime:
        tenant_id = await tenant_of(runtime.db, options.tenant)
        person = await signing_in.sign_in(
            runtime.db, runtime.settings, email=email, password=password, tenant=str(tenant_id), user_agent="outrider"
        )
        actor = Actor("user", person.email)
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await sessions.end(uow, actor, person.user_id, person.session.token_hash.hex())
        who = Who(actor, person.user_id, may_approve=includes(person.role, "admin"))
        async with within(runtime.db, tenant_id, dry_run=options.dry_run, reason=options.reason) as work:
            yield runtime, work, who


def _password(*, from_stdin: bool) -> str:
    if from_stdin:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line.strip("\r\n"):
            raise Refused("required", "stdin gave no password", field="--password-stdin")
        return line.rstrip("\r\n")
    if sys.stdin is None or not sys.stdin.isatty():
        raise Refused("required", "needs a password: give --password-stdin, as stdin is no terminal", field="--as")
    return getpass.getpass("Password: ")


def _answer(view: ApprovalView, text: str, options: Changing) -> Answer:
    return Answer(msgspec.to_builtins(view), note(text, dry_run=options.dry_run))
