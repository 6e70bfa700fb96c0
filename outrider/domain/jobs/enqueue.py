"""Enqueueing: a job is written in the caller's transaction and exists when that commits, or never did.

Owns the checks of what is asked for; the run itself is added by the door of the migration, in the same statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson

from outrider.base.errors import Broken, Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import FIRST_PRIORITY, LAST_PRIORITY, Enqueued, JobType
from outrider.data.db import UnitOfWork
from outrider.domain.jobs.rows import SQL

LARGEST_ARGUMENTS_BYTES = 64 * 1024
LONGEST_DEDUP_KEY = 200
_TRIES = 5
"""For a job that stood in the way when this one was written, and had ended when it was looked for."""


async def enqueue(
    uow: UnitOfWork,
    actor: Actor,
    job: JobType,
    arguments: Mapping[str, Any] | msgspec.Struct | None = None,
    *,
    queue: str | None = None,
    priority: int | None = None,
    dedup_key: str | None = None,
    run_at: datetime | None = None,
    schedule_id: UUID | None = None,
    planned_at: datetime | None = None,
    reason: str = "",
) -> Enqueued:
    """Enqueue one job for the unit of work's tenant (NIL: the installation's own).

    Takes:   arguments  as the type's Struct or what converts to it; kept and shown, so never secrets
             queue, priority (0 first … 9 last): the type's own unless given
             dedup_key  at most one open job of this type has it; run_at: not before, with a time zone
             schedule_id with planned_at: at most one job ever
    Gives:   the job; or the one that was there, `is_new` False.
    Raises:  Refused(invalid_arguments, invalid_priority, invalid_dedup_key, unknown_queue, queue_closed);
             Refused(unknown_job_type) for a tenant's job of a type that is the installation's.
    """
    text = encode(job, arguments)
    for _ in range(_TRIES):
        found = await _add(
            uow, actor, job, [text], [dedup_key], queue=queue, priority=priority, run_at=run_at,
            schedule_id=schedule_id, planned_at=planned_at, reason=reason,
        )  # fmt: skip
        if found:
            return Enqueued(found[0]["id"], is_new=True, state=found[0]["state"])
        same = await SQL.job_same.one(uow.raw, uow.tenant, job.key, dedup_key, schedule_id, planned_at)
        if same is not None:
            return Enqueued(same["id"], is_new=False, state=same["state"])
        await _refuse_closed(uow, queue or job.queue)
    raise Broken("job_not_added", f"a job of type {job.key} was not added, and nothing stands in its way")


async def enqueue_many(
    uow: UnitOfWork,
    actor: Actor,
    job: JobType,
    arguments: Sequence[Mapping[str, Any] | msgspec.Struct],
    *,
    dedup_keys: Sequence[str | None] | None = None,
    queue: str | None = None,
    priority: int | None = None,
    run_at: datetime | None = None,
) -> list[UUID]:
    """Enqueue many jobs of one type in one statement. Gives the ids of those that are new."""
    texts = [encode(job, each) for each in arguments]
    keys: list[str | None] = [None] * len(texts) if dedup_keys is None else list(dedup_keys)
    if len(keys) != len(texts):
        raise Broken("dedup_keys", "there must be one dedup key per job")
    found = await _add(uow, actor, job, texts, keys, queue=queue, priority=priority, run_at=run_at)
    if texts and not found:
        await _refuse_closed(uow, queue or job.queue)
    return [row["id"] for row in found]


def encode(job: JobType, arguments: Mapping[str, Any] | msgspec.Struct | None) -> str:
    """The arguments as they are kept: checked against the type, as JSON.

    Raises:  Refused(invalid_arguments) naming the field.
    """
    try:
        checked = (
            arguments
            if isinstance(arguments, job.arguments)
            else msgspec.convert(dict(arguments) if isinstance(arguments, Mapping) else {}, job.arguments)
        )
        # orjson reads them again: a whole number too large for it would come back as another one
        text = orjson.dumps(msgspec.to_builtins(checked, str_keys=True)).decode()
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        raise Refused("invalid_arguments", message, field="/arguments" + _pointer(path.rstrip("`"))) from None
    except (TypeError, ValueError, RecursionError):
        why = "must be plain JSON values, whole numbers of at most 64 bits"
        raise Refused("invalid_arguments", why, field="/arguments") from None
    if len(text) > LARGEST_ARGUMENTS_BYTES or "\\u0000" in text:
        raise Refused(
            "invalid_arguments", f"at most {LARGEST_ARGUMENTS_BYTES} bytes without NUL characters", field="/arguments"
        )
    return text


def _pointer(path: str) -> str:
    return path.replace("[", ".").replace("]", "").replace(".", "/")


async def _add(
    uow: UnitOfWork,
    actor: Actor,
    job: JobType,
    arguments: list[str],
    dedup_keys: list[str | None],
    *,
    queue: str | None,
    priority: int | None,
    run_at: datetime | None,
    schedule_id: UUID | None = None,
    planned_at: datetime | None = None,
    reason: str = "",
) -> list[Any]:
    if job.is_installation and uow.tenant != NIL:
        raise Refused("unknown_job_type", f"{job.key} concerns every tenant: the installation's own", field="/type")
    urgency = job.priority if priority is None else priority
    if not FIRST_PRIORITY <= urgency <= LAST_PRIORITY:
        raise Refused("invalid_priority", f"must be {FIRST_PRIORITY} (first) to {LAST_PRIORITY}", field="/priority")
    for key in dedup_keys:
        if key is not None and not (0 < len(key) <= LONGEST_DEDUP_KEY and key.isprintable()):
            raise Refused(
                "invalid_dedup_key", f"must be 1 to {LONGEST_DEDUP_KEY} printable characters", field="/dedup_key"
            )
    if run_at is not None and run_at.tzinfo is None:
        raise Refused("invalid_time", "must have a time zone", field="/run_at")
    return await SQL.job_add.many(
        uow.raw, uow.tenant, job.key, arguments, dedup_keys, urgency, job.timeout_s, job.max_attempts, run_at,
        actor.name, schedule_id, planned_at, reason, queue or job.queue,
    )  # fmt: skip


async def _refuse_closed(uow: UnitOfWork, queue: str) -> None:
    row = await SQL.queue_intake.one(uow.raw, queue)
    if row is None:
        raise Refused("unknown_queue", f"there is no queue {queue[:40]!r}", field="/queue")
    if row["is_closed"]:
        raise Refused(
            "queue_closed", f"the queue {queue} takes no jobs: {row['close_reason']}", field="/queue", status=409
        )
