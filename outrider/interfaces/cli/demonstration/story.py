"""The story of the demonstration: import, preflight, launch, a message that overtakes, a pause, a kill, the end.

Owns the order of events; everything is asked of the public API, except the kill, which is a signal, and the final look
into the database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.domain.messages import search, workers
from outrider.interfaces.cli.demonstration import people as cast
from outrider.interfaces.cli.demonstration.client import Api
from outrider.interfaces.cli.demonstration.ledger import Ledger
from outrider.interfaces.cli.demonstration.people import People
from outrider.interfaces.cli.demonstration.proof import NS_PER_MS, Course, Sent

CONNECTIONS: Final = 8
_POLL_S: Final = 0.01
_BOUND_S: Final = 110.0
_PAUSED_S: Final = 1.5
_PAGE: Final = 1000
_HTML: Final = "<p>Dear {{ name }},</p><p>spring has come to {{ city or 'your town' }}.</p>"
_TEXT: Final = "Dear {{ name }},\n\nspring has come to {{ city or 'your town' }}.\n"

SENDER: Final = {
    "from_address": "Gardens <news@gardens.example.com>",
    "postal_address": "1 Garden Lane, Springfield",
}

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the story plays: the API, the mail server's port and ledger, the database for the final look."""

    api: Api
    smtp_port: int
    ledger: Ledger
    db: Database
    folder: Path
    tell: Tell


@dataclass(frozen=True, slots=True)
class Played:
    """What the first act left behind: the counts of the import, every message of the campaign, its course."""

    list_id: str
    campaign_id: str
    counts: Mapping[str, int]
    messages: list[Sent]
    course: Course


async def play(stage: Stage, people: People) -> Played:
    """Everything, from the first call to the last answer."""
    sender_id, template_id = await _prepare(stage, people)
    path = stage.folder / "people.csv"
    cast.write(path, people)
    made = await stage.api.post("/lists", {"name": "customers"})
    list_id = str(made["id"])
    counts = await imported(stage, path.name, path.read_bytes(), list_id)
    campaign_id = await _launch(stage, people, sender_id, template_id, list_id)
    async with asyncio.timeout(_BOUND_S):
        course = await _on_the_way(stage, people, campaign_id)
        await until_finished(stage, campaign_id)
    stage.ledger.read()
    return Played(list_id, campaign_id, counts, await _messages(stage.db, campaign_id), course)


async def _prepare(stage: Stage, people: People) -> tuple[str, str]:
    """A connection to the mail server, a sender, a template, a do-not-contact list."""
    api = stage.api
    settings = {"host": "127.0.0.1", "port": stage.smtp_port, "tls": "off", "connections": CONNECTIONS}
    connection = await api.post("/connections", {"name": "capture server", "provider": "smtp", "settings": settings})
    examined = await api.post(f"/connections/{connection['id']}/examine")
    stage.tell("connection: " + ", ".join(f"{each['name']} ok" for each in examined["stages"] if each["is_ok"]))
    sender = await api.post("/senders", {**SENDER, "name": "Gardens", "connection_id": connection["id"]})
    template = await api.post(
        "/templates", {"name": "spring", "subject": "Spring, {{ name }}", "html": _HTML, "text": _TEXT}
    )
    for address in people.suppressed:
        await api.post("/suppressions", {"address": address, "note": "asked by telephone"})
    stage.tell(f"do not contact: {len(people.suppressed)} people")
    return sender["id"], template["id"]


async def imported(stage: Stage, name: str, content: bytes, list_id: str, *, channel: str = "email") -> dict[str, int]:
    """A CSV file through the API, to its end; gives what it counted."""
    view = await stage.api.upload(
        "/imports", content, list_id=list_id, consent="granted", consent_source="demonstration", file_name=name,
        channel=channel,
    )  # fmt: skip
    began_s = time.monotonic()
    while view["state"] == "running":
        await asyncio.sleep(0.1)
        view = await stage.api.get(f"/imports/{view['id']}")
    stage.tell(
        f"imported {view['row_count']:,} rows in {time.monotonic() - began_s:.1f} s: {view['created_count']:,} people, "
        f"{view['duplicate_count']} doubled rows, {view['rejected_count']} refused"
    )
    return {each: value for each, value in view.items() if each.endswith("_count")}


async def _launch(stage: Stage, people: People, sender_id: str, template_id: str, list_id: str) -> str:
    """Make, check and launch the campaign."""
    api = stage.api
    campaign = await api.post(
        "/campaigns", {"name": "spring", "sender_id": sender_id, "template_id": template_id, "list_id": list_id}
    )
    checked = await api.post(f"/campaigns/{campaign['id']}/preflight", {"examine_connection": True})
    stage.tell(
        f"preflight: {checked['member_count']} on the list, {checked['suppressed_count']} must not be contacted, "
        f"{checked['without_consent_count']} have not consented, {checked['will_go_count']} will go"
    )
    await api.post(f"/campaigns/{campaign['id']}/launch")
    stage.tell(f"launched to {people.contacts} people")
    return str(campaign["id"])


async def _on_the_way(stage: Stage, people: People, campaign_id: str) -> Course:
    """At a fifth a transactional message overtakes, at two fifths a pause, at three fifths a kill -9."""
    await _until_taken(stage, people.reachable // 5)
    overtaking_id, overtaken, overtaking_ms = await _overtake(stage, campaign_id)
    await _until_taken(stage, people.reachable * 2 // 5)
    paused_ns, resumed_ns = await _pause(stage, campaign_id)
    await _until_taken(stage, people.reachable * 3 // 5)
    killed = await _kill(stage)
    return Course(
        paused_ns=paused_ns,
        resumed_ns=resumed_ns,
        in_flight_most=CONNECTIONS,
        overtaking_id=overtaking_id,
        overtaken=overtaken,
        overtaking_ms=overtaking_ms,
        is_restarted=await _is_restarted(stage, killed),
    )


async def _until_taken(stage: Stage, count: int) -> None:
    while stage.ledger.taken_count < count:
        stage.ledger.read()
        await asyncio.sleep(_POLL_S)


async def _overtake(stage: Stage, campaign_id: str) -> tuple[str, int, float]:
    """One transactional message while thousands wait."""
    body = {"to": "person0@example.net", "subject": "Your receipt", "text": "Thank you.\n"}
    accepted = await stage.api.post("/messages", body)
    answered_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    progress = await stage.api.get(f"/campaigns/{campaign_id}/progress")
    waiting = progress["total_count"] - progress["ended_count"]
    while True:
        found = [each for each in stage.ledger.records if each.message_id == accepted["id"] and each.is_taken]
        if found:
            took_ms = max(0.0, (found[0].boot_ns - answered_ns) / NS_PER_MS)
            stage.tell(f"a transactional message went {took_ms:.0f} ms after the API's answer, before {waiting} others")
            return accepted["id"], waiting, took_ms
        stage.ledger.read()
        await asyncio.sleep(_POLL_S)


async def _pause(stage: Stage, campaign_id: str) -> tuple[int, int]:
    """Pause, look that nothing moves, resume."""
    await stage.api.post(f"/campaigns/{campaign_id}/pause", {"reason": "demonstration"})
    paused_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    await asyncio.sleep(_PAUSED_S)
    stage.ledger.read()
    resumed_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    await stage.api.post(f"/campaigns/{campaign_id}/resume", {"reason": "demonstration"})
    stage.tell(f"paused after {stage.ledger.taken_count:,} messages for {_PAUSED_S:g} s, then resumed")
    return paused_ns, resumed_ns


async def _kill(stage: Stage) -> int:
    """Kill -9 one of the two workers."""
    pids = await _workers(stage.db)
    if not pids:
        raise Unavailable("demo_no_worker", "no worker has written a heartbeat")
    os.kill(pids[0], signal.SIGKILL)
    stage.tell(f"kill -9 of worker {pids[0]} after {stage.ledger.taken_count:,} messages")
    return pids[0]


async def _is_restarted(stage: Stage, killed: int) -> bool:
    """Whether the supervisor has put another one in its place."""
    while True:
        alive = [pid for pid in await _workers(stage.db) if pid != killed]
        if len(alive) > 1:
            return True
        stage.ledger.read()
        await asyncio.sleep(0.2)


async def _workers(db: Database) -> list[int]:
    async with db.uow(Role.ENGINE) as uow:
        seen = await workers.listed(uow.raw)
    return [each.process.pid for each in seen if each.process.role == "worker" and each.state == "running"]


async def until_finished(stage: Stage, campaign_id: str) -> None:
    """Wait until every recipient is in an end state."""
    while True:
        progress: dict[str, Any] = await stage.api.get(f"/campaigns/{campaign_id}/progress")
        stage.ledger.read()
        if progress["is_finished"]:
            stage.tell("the campaign is finished: " + ", ".join(f"{n} {s}" for s, n in progress["counts"].items()))
            return
        await asyncio.sleep(0.2)


async def _messages(db: Database, campaign_id: str) -> list[Sent]:
    """Every message of the campaign, from the database."""
    found: list[Sent] = []
    before: UUID | None = None
    wanted = search.Filter(campaign_id=UUID(campaign_id))
    while True:
        async with db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
            rows = await search.find(uow.raw, DEFAULT_TENANT, wanted, limit=_PAGE, before=before)
        found += [Sent(str(row["id"]), row["state"], row["code"]) for row in rows]
        if len(rows) < _PAGE:
            return found
        before = rows[-1]["id"]
