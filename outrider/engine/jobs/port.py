"""The port of jobs as every process gets it: the known types, and enqueueing by the key of one. Never runs a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import Enqueued, JobType
from outrider.data.db import UnitOfWork
from outrider.domain.jobs.enqueue import enqueue


class JobPort:
    """Enqueues by key.

    Takes:   types  key -> type, as discovered in `outrider.plugins.jobs`.
    """

    def __init__(self, types: Mapping[str, JobType]) -> None:
        self.types = types

    async def enqueue(
        self,
        uow: UnitOfWork,
        actor: Actor,
        type_key: str,
        arguments: Any = None,
        **options: Any,
    ) -> Enqueued:
        """Enqueue one job in the caller's transaction; options and errors as `domain.jobs.enqueue.enqueue`.

        Raises:  Refused(unknown_job_type) as well.
        """
        return await enqueue(uow, actor, self.known(type_key), arguments, **options)

    def known(self, type_key: str) -> JobType:
        """The type of a key.

        Raises:  Refused(unknown_job_type).
        """
        found = self.types.get(type_key)
        if found is None:
            raise Refused("unknown_job_type", f"must be one of {', '.join(self.types)}", field="/type")
        return found
