"""What needs a person now, one line each: processes, connections, senders, messages set aside, queues, schedules.

Owns the wording for `outrider status`; what is wrong is found by the domain.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from outrider.contracts.outcome import CAUSES
from outrider.domain.callbacks.look import RepeatedId
from outrider.domain.jobs.stats import SILENT_S, Stranded, Worker
from outrider.domain.messages.poison import Standing as Poison
from outrider.domain.messages.stats import Unworkable
from outrider.domain.messages.workers import Seen
from outrider.domain.schedules.watch import Trouble
from outrider.domain.senders.circuits import OpenCircuit

_FORGOTTEN_S: Final = 86_400.0
_STALL_SHOWN_S: Final = 3600.0


def alarms(
    seen: Sequence[Seen],
    runners: Sequence[Worker],
    stranded: Sequence[Stranded],
    troubles: Sequence[Trouble],
    unreached: Sequence[OpenCircuit],
    unworkable: Sequence[Unworkable],
    poison: Poison,
    repeated: Sequence[RepeatedId],
) -> list[str]:
    """Every alarm, the gravest first; nothing when all is well."""
    return [
        *_schedulers(seen, runners),
        *_connections(unreached),
        *_senders(unworkable),
        *_repeated(repeated),
        *_poison(poison),
        *_stalls(seen),
        *_queues(stranded),
        *_schedules(troubles),
    ]


def _connections(unreached: Sequence[OpenCircuit]) -> Iterator[str]:
    for each in unreached:
        what = "cannot be reached" if each.state == "open" else "is being tried again"
        yield f"connection {each.name} (tenant {each.tenant_id}) {what} since {each.opened_at:%F %T}: {each.cause}"


def _senders(unworkable: Sequence[Unworkable]) -> Iterator[str]:
    for each in unworkable:
        where = f"sender {each.sender} (tenant {each.tenant_id})"
        yield f"{where}: {each.count} message(s) cannot be worked on since {each.since:%F %T}: {CAUSES[each.cause].why}"


def _repeated(repeated: Sequence[RepeatedId]) -> Iterator[str]:
    for each in repeated:
        where = f"connection {each.connection} (tenant {each.tenant_id})"
        what = f"gave two messages one id, {each.provider_id}, last at {each.at:%F %T}"
        yield f"{where} {what}: one of them may never have been taken"


def _poison(poison: Poison) -> Iterator[str]:
    if poison.count:
        since = f", the last since {poison.newest_at:%F %T}" if poison.newest_at else ""
        yield f"{poison.count} message(s) over which workers died are set aside{since}: see `outrider poison list`"


def _stalls(seen: Sequence[Seen]) -> Iterator[str]:
    for each in seen:
        if each.stalled_s is not None and (each.stalled_ago_s or 0.0) < _STALL_SHOWN_S:
            where = f"{each.process.role} {each.process.pid} on {each.process.host}"
            yield f"{where} stood still for {each.stalled_s:.1f} s: `loop_stalled` in its log says where"


def _schedulers(seen: Sequence[Seen], runners: Sequence[Worker]) -> Iterator[str]:
    if not any(each.is_alive for each in runners):
        yield "no scheduler is alive: schedules do not fire and jobs wait; start `outrider scheduler`"
    for each in seen:
        if each.process.role == "scheduler" and each.state != "stopped" and SILENT_S < each.silent_s < _FORGOTTEN_S:
            where = f"scheduler {each.process.pid} on {each.process.host}"
            yield f"{where} stopped without a word {each.silent_s:.0f} s ago; its jobs go on elsewhere"


def _queues(stranded: Sequence[Stranded]) -> Iterator[str]:
    for each in stranded:
        yield f"{each.count} {each.type} job(s) wait in queue {each.queue}: {each.cause}"


def _schedules(troubles: Sequence[Trouble]) -> Iterator[str]:
    for each in troubles:
        what = each.problem or f"should have fired {each.late_s:.0f} s ago and did not"
        yield f"schedule {each.name} (tenant {each.tenant_id}): {what}"
