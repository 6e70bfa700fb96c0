"""Drills about people who say stop, by every way they have, and about what only looks as if they did.

Gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.secret import Keyring
from outrider.base.signing import LinkSigner
from outrider.interfaces.sandbox.twilio.options import Rule
from tests.kit.drill import Drill, boot_ns
from tests.kit.phones import Phones, people
from tests.kit.processes import BOUND_S, Process, slowness, until
from tests.kit.processes import say as show
from tests.kit.scenarios.switches import GRACE_S, nothing_late
from tests.unit.plugins.providers.test_smtp_reports import complaint

CLAIM_BATCH = "20"
"""So small that several workers have something in hand."""
_WORKERS = 3
_EFFECTIVE_WITHIN_S = 5.0
"""From the moment somebody says it, by whatever way, to the last message that leaves for them, on a machine that does
nothing else: until it is committed it is a request like others."""
_TOKENS_PER_BLOCK = 1000
_LOOKS = ("GET", "HEAD", "OPTIONS")
Say = Callable[[UUID, str], Awaitable[None]]
"""Somebody whose message has this id says stop; done when it is committed."""


async def said_while_claimed(drill: Drill, *, slow_s: float = 0.3) -> list[str]:
    """F84: STOP by text, one-click unsubscribes and complaints while several workers hold the messages.

    Takes:   a drill opened with `claim_batch=CLAIM_BATCH`; slow_s: how long a server thinks about each message.
    """
    api, returns = drill.start("api"), drill.start("returns", returns_port="0")
    await api.ready()
    await returns.ready()
    sender = await drill.sender("at_most_once", connections=2)
    await drill.execute("UPDATE tenants SET settings = settings || '{\"consent_required\": false}'")
    await drill.execute("UPDATE senders SET return_path = '*@bounces.example.org', version = version + 1")
    async with Phones.open(drill, api.where, connections=2) as phones:
        await asyncio.gather(*(drill.worker() for _ in range(_WORKERS)))
        # what is complained about came before; its own address leads back to it
        readers = [f"reader{n}@example.com" for n in range(120)]
        await drill.admit_to(sender, readers, message_class="bulk")
        await drill.drained()
        ways_back = {str(each.rcpt_to): str(each.mail_from) for each in drill.provider.read_new() if each.is_taken}
        drill.faults({"action": "slow", "stage": "dot", "delay_ms": int(slow_s * 1000)})
        phones.sandbox.rules = [Rule(delay_s=slow_s)]
        letters = await drill.admit_to(sender, readers, message_class="bulk")
        texts = await phones.admit(people(120))
        held_texts, held_letters = await asyncio.gather(_held(drill, texts, 4), _held(drill, letters, 6))

        async def by_text(message_id: UUID, person: str) -> None:
            del message_id
            await phones.write(api.where, person, "STOP")

        async def by_click(message_id: UUID, reader: str) -> None:
            del reader
            await _unsubscribe(phones, api, message_id)

        async def by_complaint(message_id: UUID, reader: str) -> None:
            del message_id
            await asyncio.to_thread(_complain, returns, ways_back[reader])

        stopped: list[tuple[Say, UUID, str]] = [(by_text, *each) for each in held_texts]
        stopped += [(by_click, *each) for each in held_letters[::2]]
        stopped += [(by_complaint, *each) for each in held_letters[1::2]]
        said = await asyncio.gather(*(_stop(drill, *each) for each in stopped))
        drill.faults()
        phones.sandbox.rules = []
        await drill.drained()
        return await _judged(drill, phones, said)


async def _held(drill: Drill, ids: Iterable[UUID], count: int) -> list[tuple[UUID, str]]:
    """Messages in the hands of at least two workers, those that would leave last: their ids and addresses."""
    wanted = list(ids)
    found: list[tuple[UUID, str]] = []

    async def are_held() -> bool:
        rows = await drill.rows(
            "SELECT q.message_id, m.address, q.token / $2 AS worker FROM queue q"
            " JOIN messages m ON m.tenant_id = q.tenant_id AND m.id = q.message_id"
            " WHERE q.state = 1 AND q.message_id = ANY($1::uuid[]) ORDER BY q.token, q.message_id DESC",
            wanted, _TOKENS_PER_BLOCK,
        )  # fmt: skip
        by_worker: dict[int, list[tuple[UUID, str]]] = {}
        for row in rows:
            by_worker.setdefault(row["worker"], []).append((row["message_id"], row["address"]))
        share = count // 2
        found[:] = [each for held in sorted(by_worker.values(), key=len, reverse=True)[:2] for each in held[:share]]
        return len(found) == 2 * share

    await until(are_held, what="several workers have messages in hand")
    return found


@dataclass(frozen=True, slots=True)
class Said:
    """Somebody said stop: when it was said, and when it was committed, a moment too late rather than too soon.

    Both on the clock of the ledgers.
    """

    message_id: UUID
    said_ns: int
    committed_ns: int


async def _stop(drill: Drill, say: Say, message_id: UUID, address: str) -> Said:
    """Say it."""
    said_ns = boot_ns()
    await say(message_id, address)

    async def is_committed() -> bool:
        return bool(await drill.value("SELECT EXISTS (SELECT FROM suppressions WHERE address = $1)", address))

    await until(is_committed, what=f"{address} is not to be contacted", poll_s=0.005)
    return Said(message_id, said_ns, boot_ns())


async def only_looked_at(drill: Drill) -> list[str]:
    """Scanners, previews and mail programs open every unsubscribe link: only who presses the button has said stop."""
    api = await drill.start("api").ready()
    sender = await drill.sender("at_most_once")
    await drill.execute("UPDATE tenants SET settings = settings || '{\"consent_required\": false}'")
    await drill.worker()
    readers = [f"reader{number}@example.com" for number in range(12)]
    letters = await drill.admit_to(sender, readers, message_class="bulk")
    await drill.drained()
    before = await _said(drill)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as http:
        for number, message_id in enumerate(letters):
            async with http.request(_LOOKS[number % len(_LOOKS)], _link(drill, api, message_id)) as answer:
                assert answer.status < 500, await answer.text()
        after = await _said(drill)
        await _press(http, _link(drill, api, letters[-1]))
    again = await drill.admit_to(sender, readers, message_class="bulk")
    await drill.drained()
    reached = {acceptance.message_id for acceptance in drill.acceptances()}
    found = [] if after == before else [f"F84: looking at {len(letters)} links left {len(after) - len(before)} traces"]
    if missed := [each for each in again[:-1] if each not in reached]:
        found.append(f"F84: {len(missed)} people were not written to any more because their link was looked at")
    if again[-1] in reached:
        found.append("I5: who pressed the button was written to again")
    return found + await drill.violations()


async def _said(drill: Drill) -> list[tuple[str, str]]:
    """Everything that saying stop leaves behind."""
    rows = await drill.rows(
        "SELECT 'entry' AS what, address AS whose FROM suppressions"
        " UNION ALL SELECT 'consent', contact_id::text FROM consents WHERE status = 'withdrawn'"
        " UNION ALL SELECT 'event', message_id::text FROM message_events WHERE kind = 'unsubscribed'"
        " UNION ALL SELECT 'audit', actor FROM audit_log WHERE action LIKE 'recipient%' ORDER BY 1, 2"
    )
    return [(row["what"], row["whose"]) for row in rows]


async def _unsubscribe(phones: Phones, api: Process, message_id: UUID) -> None:
    """As a mail program does it."""
    await _press(phones.http, _link(phones.drill, api, message_id))


def _link(drill: Drill, api: Process, message_id: UUID) -> str:
    """The unsubscribe link of a message."""
    keyring = Keyring(drill.command.environment["OUTRIDER_SECRET_KEY"])
    return f"{api.where}/u/{LinkSigner(keyring.derive('unsubscribe')).sign(DEFAULT_TENANT, message_id)}"


async def _press(http: aiohttp.ClientSession, link: str) -> None:
    """One click (RFC 8058)."""
    async with http.post(link, data={"List-Unsubscribe": "One-Click"}) as answer:
        assert answer.status == 200, await answer.text()


def _complain(returns: Process, address: str) -> None:
    """As the reader's mail provider does it (RFC 5965)."""
    parts = urlsplit(returns.where)
    with smtplib.SMTP(str(parts.hostname), int(parts.port or 0), timeout=90) as client:
        client.ehlo("mx.example.com")
        client.sendmail("feedback@mx.example.com", [address], complaint("abuse"))


async def _judged(drill: Drill, phones: Phones, said: Sequence[Said]) -> list[str]:
    """Nothing later than the grace after the commit, nor 5 s (more on a busy machine) after it was said.

    Who was not written to is blocked. What the machine itself stood still counts for neither.
    """
    stops = {each.message_id: each for each in said}
    effective_s = _EFFECTIVE_WITHIN_S * await asyncio.to_thread(slowness)
    committed = stops.keys()
    taken = [each for each in (*drill.acceptances(), *phones.acceptances()) if each.message_id in committed]
    found = [
        f"{each.address}: {late}"
        for each in taken
        for since_ns, grace_s in (
            (stops[each.message_id].committed_ns, GRACE_S),
            (stops[each.message_id].said_ns, effective_s),
        )
        for late in nothing_late([each], since_ns, grace_s=grace_s)
    ]
    longest_s = max((each.committed_ns - each.said_ns for each in said), default=0) / 1e9
    show(f"F84: on the list at most {longest_s:.2f} s after it was said")
    found = [f"I5: {each}" for each in found]
    states = await drill.rows("SELECT id, state FROM messages WHERE id = ANY($1::uuid[])", list(committed))
    blocked = {row["id"] for row in states if row["state"] == "blocked"}
    gone = {each.message_id for each in taken}
    if blocked | gone != committed or blocked & gone:
        found.append(f"I2: {len(committed)} people said stop: {len(blocked)} blocked, {len(gone)} gone")
    assert drill.defect or blocked, "everything had left before anybody said stop, so nothing is proved"
    return found + await phones.violations()
