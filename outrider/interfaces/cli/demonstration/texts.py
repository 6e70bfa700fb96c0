"""The third act: texts by day and at night, a budget that runs out, STOP from a phone, callbacks in disorder.

The provider is a server that answers as Twilio does. Its ledger says who got a text; what the product held back, spent
and learnt from callbacks is compared with that. Owns the order of events and the verdicts.
"""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import aiohttp

from outrider.interfaces.cli.demonstration.proof import Line, equal
from outrider.interfaces.cli.demonstration.story import Stage, imported

SID: Final = "AC" + "0" * 32
TOKEN: Final = "sandbox-token"  # noqa: S105 - the sandbox's own, of a server that sends nothing to anybody
AWAKE: Final = 40
ASLEEP: Final = 20
PRICE_CENTS: Final = 5
FIRST_BUDGET_CENTS: Final = 100
RAISED_CENTS: Final = 1_000
_NUMBER: Final = "+14155550100"
_BOUND_S: Final = 60.0
_ZONES: Final = (
    "Pacific/Auckland", "Asia/Tokyo", "Asia/Kolkata", "Europe/Berlin", "America/Sao_Paulo", "America/New_York",
    "America/Los_Angeles", "Pacific/Honolulu",
)  # fmt: skip
_DAY: Final = range(10, 20)
_NIGHT: Final = (22, 23, 0, 1, 2, 3, 4, 5, 6, 7)
"""Both well inside: the act must not run into the hour at which either changes."""


@dataclass(frozen=True, slots=True)
class Room:
    """Where the act plays: beside the stage the provider's server, and the address at which we are reached."""

    stage: Stage
    provider_url: str
    base_url: str
    account_sid: str
    auth_token: str
    http: aiohttp.ClientSession


@dataclass(frozen=True, slots=True)
class Texted:
    """What happened. Numbers of the first and second look: texts taken, cents spent, texts held and why."""

    first_taken: int
    first_spent_cents: int
    held: Mapping[str, int]
    stopped: str
    stop_ms: float
    reply: str
    taken: Sequence[str]
    spent_cents: int
    states: Mapping[str, int]
    blocked: Sequence[str]


def zones(now: datetime) -> tuple[str, str]:
    """A zone where it is day now and one where it is night; with these eight there always are both."""
    hours = {name: now.astimezone(ZoneInfo(name)).hour for name in _ZONES}
    awake = next(name for name, hour in hours.items() if hour in _DAY)
    return awake, next(name for name, hour in hours.items() if hour in _NIGHT)


def people(now: datetime) -> list[tuple[str, str, str]]:
    """Rows of the file: number, name, zone."""
    awake, asleep = zones(now)
    return [(f"+6141234{5000 + at}", f"Phone {at}", awake if at < AWAKE else asleep) for at in range(AWAKE + ASLEEP)]


async def play(room: Room) -> Texted:
    """The act, to the last callback."""
    stage, rows = room.stage, people(datetime.now(UTC))
    async with asyncio.timeout(_BOUND_S):
        connection_id, campaign_id = await _prepare(room, rows)
        await stage.api.post(f"/campaigns/{campaign_id}/launch", {"acknowledge": ["empty_suppressions"]})
        within = FIRST_BUDGET_CENTS // PRICE_CENTS
        held = await _held(stage, campaign_id, AWAKE + ASLEEP - within)
        first = await _until_taken(room, {row[0] for row in rows}, AWAKE + ASLEEP - sum(held.values()))
        first_spent = await _spent(stage, campaign_id)
        stage.tell(
            f"texts: {len(first)} sent for {first_spent} cents, the budget; held: "
            + ", ".join(f"{count} by {gate}" for gate, count in held.items())
        )
        got = {entry["to"] for entry in first}
        stopped = next(number for number, _, _ in rows[:AWAKE] if number not in got)
        reply, stop_ms = await _stop(room, connection_id, stopped)
        stage.tell(f"{stopped} wrote STOP: answered {reply!r}, in effect after {stop_ms:.0f} ms")
        budget = {"daily_cents": RAISED_CENTS, "monthly_cents": None, "reason": "demonstration"}
        await stage.api.put(f"/budgets/campaign/{campaign_id}", budget)
        counts = await _settled(stage, campaign_id)
    stage.tell("after the raise: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    taken = [entry["to"] for entry in await _taken(room) if entry["to"] in {row[0] for row in rows}]
    blocked = await _messages(stage, campaign_id, "blocked")
    return Texted(
        len(first), first_spent, held, stopped, stop_ms, reply, taken, await _spent(stage, campaign_id), counts,
        [message["to"] for message in blocked],
    )  # fmt: skip


def prove(texted: Texted) -> list[Line]:
    """The lines of the report about this act."""
    within = FIRST_BUDGET_CENTS // PRICE_CENTS
    awake = AWAKE - 1  # but for who said stop
    doubled = sum(count - 1 for count in Counter(texted.taken).values())
    return [
        equal("texts within the budget", texted.first_taken, within, "then there was too little money for one more"),
        equal("cents spent of it", texted.first_spent_cents, FIRST_BUDGET_CENTS),
        equal("texts held at night", texted.held.get("quiet_hours", 0), ASLEEP, "until the morning there"),
        equal("texts held: budget", texted.held.get("budget", 0), AWAKE - within),
        Line(
            "said stop, not sent",
            len(texted.blocked),
            is_right=list(texted.blocked) == [texted.stopped] and texted.stopped not in texted.taken,
            must=f"in effect {texted.stop_ms:.0f} ms after the phone's text",
        ),
        equal("texts after the raise", len(texted.taken), awake, "everybody who is awake and has not said stop"),
        equal("cents spent at last", texted.spent_cents, awake * PRICE_CENTS),
        equal("delivered", texted.states.get("delivered", 0), awake, "callbacks came twice and in reverse"),
        equal("texts doubled", doubled, 0),
    ]


async def _prepare(room: Room, rows: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
    """Connection, sender, prices, people, a campaign with a budget; the provider reports in reverse and twice."""
    api = room.stage.api
    async with room.http.put(
        f"{room.provider_url}/sandbox/rules", json=[{"order": "reversed", "copies": 2}]
    ) as response:
        response.raise_for_status()
    connection = await api.post(
        "/connections",
        {
            "name": "texts",
            "provider": "twilio",
            "settings": {
                "account_sid": room.account_sid,
                "auth_token": room.auth_token,
                "base_url": room.provider_url,
                "callback_base": room.base_url,
            },
        },
    )
    sender = await api.post("/senders", {"name": "Texts", "connection_id": connection["id"], "from_address": _NUMBER})
    await api.post("/prices", {"channel": "sms", "micros": PRICE_CENTS * 10_000})
    made = await api.post("/lists", {"name": "phones"})
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("phone", "name", "timezone"), *rows])
    await imported(room.stage, "phones.csv", file.getvalue().encode(), str(made["id"]), channel="sms")
    template = await api.post(
        "/templates", {"name": "sale", "channel": "sms", "text": "{{ name }}: 20% off today at the garden shop."}
    )
    campaign = await api.post(
        "/campaigns",
        {"name": "texts", "sender_id": sender["id"], "template_id": template["id"], "list_id": made["id"]},
    )
    budget = {"daily_cents": FIRST_BUDGET_CENTS, "monthly_cents": None, "reason": "demonstration"}
    await api.put(f"/budgets/campaign/{campaign['id']}", budget)
    return str(connection["id"]), str(campaign["id"])


async def _taken(room: Room) -> list[dict[str, Any]]:
    """What the provider took, by its own ledger."""
    async with room.http.get(f"{room.provider_url}/sandbox/ledger") as response:
        entries: list[dict[str, Any]] = await response.json()
    return [entry for entry in entries if entry["outcome"] in {"accepted", "accepted_cut"}]


async def _until_taken(room: Room, numbers: set[str], count: int) -> list[dict[str, Any]]:
    """Wait until the provider has so many texts to these numbers: what is not held is on its way."""
    while True:
        taken = [entry for entry in await _taken(room) if entry["to"] in numbers]
        if len(taken) >= count:
            return taken
        await asyncio.sleep(0.05)


async def _messages(stage: Stage, campaign_id: str, state: str) -> list[dict[str, Any]]:
    found = await stage.api.get(f"/messages?campaign_id={campaign_id}&state={state}&limit=1000")
    items: list[dict[str, Any]] = found["items"]
    return items


async def _held(stage: Stage, campaign_id: str, count: int) -> dict[str, int]:
    """Wait until so many are held; gives how many by which gate."""
    while True:
        held = await _messages(stage, campaign_id, "held")
        if len(held) >= count:
            break
        await asyncio.sleep(0.1)
    return dict(Counter(str(message["waiting_for"]).partition(":")[0] for message in held))


async def _settled(stage: Stage, campaign_id: str) -> dict[str, int]:
    """Wait until nothing of it waits but for the night, and every callback that is to come has been applied."""
    while True:
        progress = await stage.api.get(f"/campaigns/{campaign_id}/progress")
        counts: dict[str, int] = progress["counts"]
        if counts.get("held", 0) == ASLEEP and sum(counts.get(state, 0) for state in ("delivered", "blocked")) == AWAKE:
            return counts
        await asyncio.sleep(0.1)


async def _spent(stage: Stage, campaign_id: str) -> int:
    """What the budget of the campaign says is spent today, in cents."""
    found = await stage.api.get("/budgets")
    (budget,) = [each for each in found["items"] if each["scope_id"] == campaign_id]
    return int(budget["daily_spent_cents"])


async def _stop(room: Room, connection_id: str, number: str) -> tuple[str, float]:
    """Somebody writes STOP; gives the answer and how long it took until the number was on the do-not-contact list."""
    where = await room.stage.api.get(f"/connections/{connection_id}/callback")
    said = {"from": number, "to": _NUMBER, "body": " stop! ", "url": where["url"]}
    begun_s = time.monotonic()
    async with room.http.post(f"{room.provider_url}/sandbox/inbound", json=said) as response:
        answer = await response.json()
    while True:
        found = await room.stage.api.post("/suppressions/lookup", {"address": number, "channel": "sms"})
        if found["items"]:
            break
        await asyncio.sleep(0.02)
    return " ".join(answer["replies"]), (time.monotonic() - begun_s) * 1000
