"""Drills about acceptance: the API is killed between a request and its answer; clients ask again under their keys.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import aiohttp

from outrider.data.db import Role
from outrider.domain.tenants import keys
from tests.kit.drill import OPERATOR, Drill, Sender
from tests.kit.processes import BOUND_S, Process, until

_BUSY = frozenset({409, 429, 503})
"""Answers after which a client asks again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; None as status: the connection ended without an answer. `retry_after`: when to come back."""

    status: int | None
    ids: tuple[UUID, ...] = ()
    is_replayed: bool = False
    retry_after: str = ""


@dataclass(slots=True)
class Client:
    """A program that submits messages under idempotency keys."""

    drill: Drill
    sender: Sender
    key: str
    session: aiohttp.ClientSession

    async def submit(self, api: Process, idempotency_key: str, *, count: int = 1, **more: str) -> Answer:
        """One request; what a 2xx acknowledged is not written down yet. `more` holds for every message."""
        people: list[dict[str, Any]] = [{"to": f"{idempotency_key}-{n}@example.com"} for n in range(count)]
        common = {"sender": str(self.sender.id), "subject": "Hello", "text": "Hello.", **more}
        body = {**common, "messages": people} if count > 1 else {**common, **people[0]}
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": idempotency_key}
        try:
            async with self.session.post(f"{api.where}/api/v1/messages", json=body, headers=headers) as response:
                said = await response.json()
                if response.status in _BUSY:
                    return Answer(response.status, retry_after=response.headers.get("Retry-After", ""))
                assert response.status == 202, said
                items = said["items"] if count > 1 else [said]
                is_replayed = response.headers.get("Idempotent-Replayed") == "true"
                return Answer(202, tuple(UUID(item["id"]) for item in items), is_replayed)
        except (aiohttp.ClientError, ConnectionError):
            return Answer(None)

    async def insist(self, api: Process, idempotency_key: str, *, count: int = 1, **more: str) -> Answer:
        """Ask until there is an answer, and write down what it acknowledges."""
        answers: list[Answer] = []

        async def is_answered() -> bool:
            answers.append(await self.submit(api, idempotency_key, count=count, **more))
            return answers[-1].status == 202

        await until(is_answered, what="an answer", poll_s=0.1)
        self.drill.client.add(answers[-1].ids)
        return answers[-1]


async def client_of(drill: Drill, session: aiohttp.ClientSession) -> Client:
    """A program with a key and a sender of its own."""
    sender = await drill.sender("at_most_once")
    async with drill.db.uow(Role.APP, sender.tenant_id) as uow:
        _, key = await keys.create(uow, OPERATOR, name="drill", role="operator", scopes=["messages:write"])
    return Client(drill, sender, key, session)


async def killed_around_the_commit(drill: Drill, point: str, *, count: int) -> list[str]:
    """F01 to F03: kill -9 directly before or after the commit of one message, or of a batch; the client asks again."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session:
        client = await client_of(drill, session)
        victim = await drill.start("api", at=f"{point}:2:kill").ready()
        await client.insist(victim, "first", count=count)
        unanswered = await client.submit(victim, "second", count=count)
        await victim.killed(point)
        rows = await drill.value("SELECT count(*) FROM messages")
        again = await client.insist(await drill.start("api").ready(), "second", count=count)
    is_committed = point == "accept.committed"
    found = []
    if unanswered.status is not None:
        found.append(f"an answer came although the process was killed before it: {unanswered.status}")
    if rows != count * (2 if is_committed else 1):
        found.append(f"I1: {rows} rows after {count} acknowledged and {count} killed {point}")
    if again.is_replayed != is_committed:
        found.append(f"I1: the repeat after {point} was {'' if again.is_replayed else 'not '}answered from memory")
    return found + await _sent(drill, 2 * count)


async def asked_in_parallel(drill: Drill, *, calls: int) -> list[str]:
    """The same request a hundred times over two processes at once, one of which is killed after its commit."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session:
        client = await client_of(drill, session)
        victim, other = await asyncio.gather(
            drill.start("api", at="accept.committed:1:kill").ready(), drill.start("api").ready()
        )
        answers = await asyncio.gather(*(client.submit((victim, other)[n % 2], "same") for n in range(calls)))
        if victim.lives():  # the other was quicker with every one of them
            await client.submit(victim, "another")
        await victim.killed("accept.committed")
        last = await client.insist(other, "same")
    told = {answer.ids for answer in answers if answer.status == 202} | {last.ids}
    found = [] if len(told) == 1 else [f"I1: one request was answered with {len(told)} different ids"]
    return found + await _sent(drill, await drill.value("SELECT count(*) FROM idempotency_keys"))


async def _sent(drill: Drill, count: int) -> list[str]:
    """Have everything sent: each accepted message once."""
    await drill.worker()
    await drill.drained()
    taken = len(drill.acceptances())
    return ([] if taken == count else [f"I1: {taken} messages were sent, {count} were submitted"]) + (
        await drill.violations()
    )
