"""Seeded defects: the product with one part broken, so that drills prove that they would notice [faults.md 2.0].

API
    DEFECTS                       name -> what is broken, in the order of the documentation
    broken(command, name)         the same command with that part broken, from outside: the product has no flags for it
    await break_database(…)       for defects of the schema: breaks this database

Run as a module, `python -m tests.kit.defects NAME -m outrider worker …`, it breaks the part in this process and goes on
as `outrider`. A defect that finds nothing to break ends the process with a trace: a seed must not rot.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from outrider.app import main
from outrider.base import failpoint
from outrider.contracts.gate import PASS, Lane
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Uncertain, Unsent
from outrider.contracts.provider import Outgoing
from outrider.data.db import Role, UnitOfWork
from outrider.data.http_out import Trouble
from outrider.data.runtime import Runtime
from outrider.data.sql import Statements
from outrider.domain.callbacks import take
from outrider.domain.callbacks.rows import SQL as CALLBACKS
from outrider.domain.campaigns.rows import DELIVERY
from outrider.domain.campaigns.rows import SQL as CAMPAIGNS
from outrider.domain.campaigns.unsubscribe import Subject, unsubscribe
from outrider.domain.limits import charges
from outrider.domain.limits.rows import SPENDING
from outrider.domain.messages.fan_out import Plan, fan_out
from outrider.domain.messages.lanes import lane_for
from outrider.domain.messages.rows import BOUNCES, SQL
from outrider.domain.senders import circuits
from outrider.engine.dispatch import batch, claim, journal, lease, pipeline, record, recovery, second_thoughts, shares
from outrider.engine.fanout import expand
from outrider.engine.inbound import desk, reports
from outrider.plugins.gates.consent import Consent
from outrider.plugins.gates.source_limit import SourceLimit
from outrider.plugins.providers.twilio.callbacks import TwilioCallbacks
from tests.kit.command import Command


@dataclass(frozen=True, slots=True)
class Defect:
    """One broken part. `patch` runs in the worker, `sql` on the database; `client` is added to the client's URL."""

    what: str
    patch: Callable[[], None] = lambda: None
    sql: tuple[str, ...] = ()
    client: str = ""


def broken(command: Command, name: str) -> Command:
    """The same command with a part broken."""
    return dataclasses.replace(command, python=("-m", "tests.kit.defects", name))


async def break_database(name: str, url: str) -> None:
    """Apply what a defect changes in the database."""
    if not DEFECTS[name].sql:
        return
    connection = await asyncpg.connect(url)
    try:
        for statement in DEFECTS[name].sql:
            await connection.execute(statement)
    finally:
        await connection.close()


def _rewrite(name: str, old: str, new: str, statements: Statements = SQL) -> Callable[[], None]:
    """A defect that changes the text of a named statement."""

    def patch() -> None:
        statement = getattr(statements, name)
        if old not in statement.sql:
            raise LookupError(f"{name} has no {old!r} any more: mend the seeded defect")
        statements._by_name[name] = dataclasses.replace(statement, sql=statement.sql.replace(old, new))

    return patch


def _whole(name: str, sql: str, statements: Statements) -> Callable[[], None]:
    """A defect that puts another statement in the place of a named one."""

    def patch() -> None:
        statements._by_name[name] = dataclasses.replace(getattr(statements, name), sql=sql)

    return patch


def _replace(owner: Any, name: str, other: Any) -> Callable[[], None]:
    """A defect that puts something else in the place of a function or constant; `owner` may be a module's name."""

    def patch() -> None:
        place = import_module(owner) if isinstance(owner, str) else owner
        if not hasattr(place, name):
            raise LookupError(f"{place} has no {name} any more: mend the seeded defect")
        setattr(place, name, other)

    return patch


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    """Two patches that are one defect."""

    def patch() -> None:
        first()
        second()

    return patch


def _ignores_switches(self: batch.BatchWatch, message: Outgoing) -> str | None:
    """`BatchWatch.begin` that does not look at the switchboard."""
    self._verdict_version, self._verdict = self._board.version, None
    return _begin(self, message)


def _bytes_before_journal(self: batch.BatchWatch, message: Outgoing) -> str | None:
    """`BatchWatch.begin` that notes the attempt when the outcome is known."""
    journal_of_worker, self._journal = self._journal, _Nowhere()  # type: ignore[assignment]  # only `begun` is called
    try:
        return _begin(self, message)
    finally:
        self._journal = journal_of_worker


class _Nowhere:
    """A journal that forgets."""

    def begun(self, token: int, message_id: UUID) -> None:
        """Forget it."""


def _calls_uncertain_sent(message_id: UUID, token: int, outcome: Outcome, **more: Any) -> record.Row:
    """`row_for` that takes a lost answer for a good one."""
    if isinstance(outcome, Uncertain):
        return record.Row("finish", message_id, token, "sent")
    return _row_for(message_id, token, outcome, **more)


def _begun_goes_back(leased: asyncpg.Record, *, may_repeat: bool, is_keyed: bool = False) -> record.Row:
    """`_begun` of recovery that repeats what may have been sent, whatever the sender promises."""
    del may_repeat
    return record.Row("try_again", leased["message_id"], leased["token"])


async def _nothing_withdrawn(*_arguments: Any) -> dict[UUID, str]:
    """`Claimer.withdrawn` that never asks a gate again."""
    return {}


async def _once(work: Callable[[], Awaitable[Any]]) -> Any:
    """`again_if_undone` that does it once."""
    return await work()


def _nothing_old(*_arguments: Any) -> list[batch.Batch]:
    """`Renewer._old` that finds nothing to renew, so that nobody notices what was swept meanwhile."""
    return []


async def _sweeps_nothing(*_arguments: Any) -> bool:
    """`Recovery._from_leases` that leaves ended leases alone."""
    return False


async def _not_kept(*_arguments: Any) -> None:
    """`keep` that forgets the answer under its key."""


async def _checkpoint_first(self: expand._FanOut, tenant_id: UUID, campaign_id: UUID) -> bool:
    """A page whose checkpoint is committed when it was fetched, as others do it (style.md: listmonk re-sends)."""
    uow_of, limit = self._runtime.db.uow, self._runtime.settings.expand_batch
    async with uow_of(Role.ENGINE, tenant_id) as uow:
        row = await CAMPAIGNS.fan_out_lock.one(uow.raw, tenant_id, campaign_id)
        if row is None:
            return False
        lane_id = row["lane_id"] or await lane_for(
            uow, tenant_id=tenant_id, channel=row["channel"], sender_id=row["sender_id"], campaign_id=campaign_id,
            message_class="bulk",
        )  # fmt: skip
        page = await uow.raw.fetch(
            "SELECT contact_id FROM list_members WHERE tenant_id = $1 AND list_id = $2 AND contact_id > $3"
            " ORDER BY contact_id LIMIT $4",
            tenant_id, row["list_id"], row["expanded_to"] or UUID(int=0), limit,
        )  # fmt: skip
        last = page[-1]["contact_id"] if page else None
        further = {"late": 0, "has_more_waves": False, "joined": 0}
        await CAMPAIGNS.fan_out_keep.run(
            uow.raw, tenant_id, campaign_id, lane_id, last, len(page), 0, *further.values()
        )
    failpoint.hit("fan_out.before_checkpoint")
    plan = Plan(campaign_id, row["list_id"], lane_id, row["channel"], row["content_id"], row["purpose"],
                row["priority"], row["expires_at"])  # fmt: skip
    async with uow_of(Role.ENGINE, tenant_id) as uow:
        await fan_out(uow.raw, tenant_id, plan, after=row["expanded_to"], limit=limit)
    return last is not None


async def _unsubscribes_who_looks(uow: UnitOfWork, subject: Subject, runtime: Runtime) -> bool:
    """`_has_asked` of the page behind an unsubscribe link that takes looking for asking."""
    async with runtime.db.uow(Role.ENGINE, uow.tenant) as writing:
        await unsubscribe(writing, subject, ip=None, how="page")
    return True


def _deaf(*_arguments: Any) -> None:
    """`SecondThoughts.heed` that does not hear."""


def _never_too_early(row: asyncpg.Record, message: asyncpg.Record | None) -> tuple[str, str]:
    """`_end` of a report that belongs to nothing when it comes before our own commit."""
    state, note = _end(row, message)
    return ("orphan", note) if state == "parked" else (state, note)


async def _always_new(raw: asyncpg.Connection, tenant_id: UUID, came: Sequence[take.Came]) -> list[take.Kept]:
    """`take_in` that never knows a callback again."""
    apart = [dataclasses.replace(each, told=dataclasses.replace(each.told, key=str(uuid4()))) for each in came]
    return await _take_in(raw, tenant_id, apart)


async def _not_awaited(self: desk.Desk, tenant_id: UUID, channel: str, came: take.Came) -> str:
    """`Desk.take` that answers before anything is committed."""
    task = asyncio.ensure_future(_take(self, tenant_id, channel, came))
    _unwatched.add(task)
    task.add_done_callback(_unwatched.discard)
    return ""


def _believes(*_arguments: Any) -> str | None:
    """`verify` that takes everything."""
    return None


async def _never_opens(*_arguments: Any, **_more: Any) -> circuits.State:
    """`circuits.failed` that writes nothing down."""
    return "closed"


def _yes(*_what: Any) -> Outcome:
    """`_taken` of Twilio's answers that believes every success."""
    return Accepted("SM" + "0" * 32)


def _not_lost(trouble: Trouble) -> Outcome:
    """`outcome_of_trouble` that takes every broken line for one by which nothing went."""
    return Unsent(trouble.detail) if trouble.kind == "withheld" else Deferred("api_unreachable", trouble.detail)


def _own_pool(self: pipeline.Pipeline, lane: Lane) -> shares.Pool:
    """`Pipeline._pool` that gives every batch a pool of its own, so that only the end of all places is an end."""
    del self
    return lane.tenant_id, str(uuid4())


def _without_campaign(raw: asyncpg.Connection, payer: charges.Payer) -> Any:
    """`charges._accounts` that asks the tenant's account alone."""
    return _accounts(raw, dataclasses.replace(payer, campaign_id=None))


_unwatched: set[asyncio.Future[str]] = set()
_accounts = charges._accounts
_end = reports._end
_take_in = take.take_in
_take = desk.Desk.take
ANOTHER_BOOT = "00000000-0000-4000-8000-000000000000"
"""What a drill writes into a journal that is to be another boot's."""
_begin = batch.BatchWatch.begin
_row_for = record.row_for
_TOKEN = "AND q.token = d.token"

DEFECTS: dict[str, Defect] = {
    "idempotency key not kept": Defect(
        "a request that is repeated is accepted again",
        _replace("outrider.interfaces.api.v1.messages", "keep", _not_kept),
    ),
    "lane lock removed": Defect(
        "a claim does not lock its lane, so that a pause cannot wait for it",
        _rewrite("lane_lock", "FOR UPDATE", ""),
    ),
    "SKIP LOCKED removed": Defect(
        "a claim waits for rows that others have locked", _rewrite("claim_pick", "FOR UPDATE SKIP LOCKED", "FOR UPDATE")
    ),
    "lease not looked at before the write": Defect(
        "a worker that was stopped goes on with what has been another's since",
        _both(
            # the gates' second thoughts stop a batch too that was stopped for a second, as on a busy machine
            _both(_replace(batch, "LEASE_MARGIN_S", -1e9), _replace(batch, "LONGEST_UNASKED_S", 1e9)),
            _replace(lease.Renewer, "_old", _nothing_old),
        ),
    ),
    "finished without token": Defect(
        "whoever has an outcome records it, also when the message is another's",
        _both(_rewrite("finish", _TOKEN, ""), _rewrite("finish_sent", _TOKEN, "")),
    ),
    "given back without token": Defect(
        "a worker gives back what another has in hand", _rewrite("hand_back", _TOKEN, "")
    ),
    "journal trusted after another boot": Defect(
        "a journal whose end was lost in a power cut decides what was not begun",
        _replace(journal, "boot_id", lambda: ANOTHER_BOOT),
    ),
    "begun after the bytes": Defect(
        "the journal hears of an attempt only when it is over",
        _replace(batch.BatchWatch, "begin", _bytes_before_journal),
    ),
    "begun is repeated": Defect(
        "recovery repeats a begun message although its sender promised at most once",
        _replace(recovery, "_begun", _begun_goes_back),
    ),
    "switches not looked at before the write": Defect(
        "what was claimed before a pause is sent to its end",
        # see above: a late worker claims anew what it had, and the gates know of the pause
        _both(_replace(batch.BatchWatch, "begin", _ignores_switches), _replace(batch, "LONGEST_UNASKED_S", 1e9)),
    ),
    "do-not-contact not asked again": Defect(
        "who says stop after the claim is written to all the same",
        _both(_replace(claim.Claimer, "withdrawn", _nothing_withdrawn), _replace(batch, "LONGEST_UNASKED_S", 1e9)),
    ),
    "second thoughts too late": Defect(
        "workers do not hear who says stop, and ask again when it is too late",
        _both(
            _both(_replace(batch, "LONGEST_UNASKED_S", 60.0), _replace(second_thoughts, "ASK_AGAIN_S", 30.0)),
            _replace(second_thoughts.SecondThoughts, "heed", _deaf),
        ),
    ),
    "looking unsubscribes": Defect(
        "the page behind an unsubscribe link withdraws as soon as it is opened, by whomever",
        _replace("outrider.interfaces.api.unsubscribe", "_has_asked", _unsubscribes_who_looks),
    ),
    "what comes too early belongs to nobody": Defect(
        "a report that comes before our own commit does not wait for it",
        _replace(reports, "_end", _never_too_early),
    ),
    "callbacks not known again": Defect(
        "what a provider tells twice is kept twice", _replace(take, "take_in", _always_new)
    ),
    "a repeat taken for new": Defect(
        "what somebody wrote is obeyed again when it is told again",
        _rewrite("take_in", "xmax = 0 AS is_new", "true AS is_new", CALLBACKS),
    ),
    "the last report wins": Defect(
        "a message is what was said of it last",
        _rewrite("reported", "h.state) > array_position", "h.state) > 0 * array_position"),
    ),
    "signatures not looked at": Defect(
        "whoever knows an address may report", _replace(TwilioCallbacks, "verify", _believes)
    ),
    "callbacks answered before their commit": Defect(
        "a provider is told that we have what a crash takes back", _replace(desk.Desk, "take", _not_awaited)
    ),
    "lost answers called sent": Defect(
        "an answer that was lost counts as a good one", _replace(record, "row_for", _calls_uncertain_sent)
    ),
    "outcomes not counted": Defect(
        "finishing writes no rollup",
        _rewrite("finish_sent", "count(*) FROM gone GROUP BY 1, 2", "0 FROM gone WHERE false"),
    ),
    "checkpoint moved before the rows": Defect(
        "the fan-out's checkpoint is committed before its page", _replace(expand._FanOut, "_page", _checkpoint_first)
    ),
    "winner not looked at": Defect(
        "the rest of a campaign draws lots although a winner was chosen",
        _rewrite("winner_of", "WHERE w.tenant_id = $1", "WHERE false AND w.tenant_id = $1", DELIVERY),
    ),
    "unique key of recipients dropped": Defect(
        "nothing keeps a contact or an address from getting a campaign twice",
        sql=(
            "SET ROLE outrider_owner",
            "ALTER TABLE campaign_recipients DROP CONSTRAINT campaign_recipients_pkey",
            "ALTER TABLE campaign_recipients DROP CONSTRAINT campaign_recipients_tenant_id_campaign_id_address_key",
        ),
    ),
    "campaign finished early": Defect(
        "a campaign is finished when its list is through, whatever is still open",
        _both(
            _whole(
                "campaigns_to_finish",
                "SELECT tenant_id, id FROM campaigns WHERE state = 'sending' AND expanded_at IS NOT NULL",
                CAMPAIGNS,
            ),
            _whole(
                "campaign_finish",
                "UPDATE campaigns SET state = 'finished', finished_at = now() WHERE tenant_id = $1 AND id = $2"
                " AND state = 'sending' AND expanded_at IS NOT NULL RETURNING id",
                CAMPAIGNS,
            ),
        ),
    ),
    "ended leases not swept": Defect(
        "what a worker of another machine held when it died stays leased",
        _replace(recovery.Recovery, "_from_leases", _sweeps_nothing),
    ),
    "a refusal told to no other worker": Defect(
        "what one worker learns of an account stays with it", _replace(circuits, "failed", _never_opens)
    ),
    "a refused account costs attempts": Defect(
        "a wrong password is held against the message that met it", _replace(record, "REFUSED", frozenset())
    ),
    "any success taken for a yes": Defect(
        "an answer with 200 or 201 is a yes, whatever it says",
        _replace("outrider.plugins.providers.twilio.answers", "_taken", _yes),
    ),
    "lost requests made again": Defect(
        "a request whose answer is lost counts as not sent",
        _replace("outrider.plugins.providers.twilio.transport", "outcome_of_trouble", _not_lost),
    ),
    "one pool for all providers": Defect(
        "a provider that hangs may take every place of a worker", _replace(pipeline.Pipeline, "_pool", _own_pool)
    ),
    "consent not asked": Defect(
        "who never agreed is written to as well", _replace(Consent, "judge", lambda *_asked: PASS)
    ),
    "sources not counted": Defect(
        "whoever asks for texts gets as many as they like", _replace(SourceLimit, "judge", lambda *_asked: PASS)
    ),
    "campaigns pay nothing": Defect(
        "what a campaign sends is taken from its tenant's budget alone",
        _replace(charges, "_accounts", _without_campaign),
    ),
    "prices asked for once": Defect(
        "a provider is asked what a message cost once, whatever becomes of its answer",
        _both(
            _rewrite("charges_due", "THEN now() + greatest(", "AND false THEN now() + greatest(", SPENDING),
            _rewrite("charges_due", "c.ask_at IS NULL AS is_over", "false AS is_over", SPENDING),
        ),
    ),
    "soft bounces counted by report": Defect(
        "a message that came back counts as often as somebody says so",
        _rewrite("soft_bounces_add", "SELECT $1, t.message_id,", "SELECT $1, outrider_id(),", BOUNCES),
    ),
    "quiet hours not told to the provider": Defect(
        "a text is valid for hours, however soon it gets quiet",
        _both(
            _replace("outrider.plugins.providers.twilio.form", "left_s", lambda _message: 1e6),
            _replace("outrider.plugins.providers.twilio.transport", "left_s", lambda _message: 1e6),
        ),
    ),
    "due by another clock": Defect(
        "what is due is not judged by the database's clock alone",
        _both(
            _rewrite("promote", "due_at <= now()", "due_at <= now() + interval '3 hours'"),
            _rewrite("tenants_with_due", "due_at <= now()", "due_at <= now() + interval '3 hours'"),
        ),
    ),
    "what was undone is not done again": Defect(
        "a caller hears of every deadlock",
        _both(
            _replace("outrider.interfaces.api.gathering", "again_if_undone", _once),
            _replace("outrider.interfaces.api.v1.messages", "again_if_undone", _once),
        ),
    ),
    "synchronous_commit off": Defect(
        "the database acknowledges what it has not written down",
        client="&synchronous_commit=off",
    ),
}


if __name__ == "__main__":
    DEFECTS[sys.argv[1]].patch()
    sys.exit(main(sys.argv[4:]))
