"""Drills about the way to a provider: it hangs, it is gone, its certificate has expired, while others go on.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from uuid import UUID

from outrider.interfaces.sandbox import LedgerReader, Sandbox, SandboxOptions
from tests.kit import ledgers
from tests.kit.certificates import authority_pem, server_pem
from tests.kit.crooked import STRAIGHT, Bent, Crooked
from tests.kit.drill import Drill, boot_ns
from tests.kit.phones import Phones, people
from tests.kit.processes import until
from tests.kit.scenarios.accounts import checked
from tests.kit.standstills import stood_still_s

SETTINGS = {"circuit_failures": "3", "circuit_open_s": "0.3", "circuit_open_most_s": "1", "circuit_close_after": "5"}
_SLOW_SENDERS = 20
_IN_FLIGHT = 4
"""Batches of a sender: all of them together are more than a worker has at all."""
_SLOW_LINES = 8
_COUNT = 60
_FEW = 20
_LOAD = 320
_PATIENCE_S = 3
_IMPATIENT: dict[str, Any] = {"connect_timeout_s": 1, "answer_timeout_s": _PATIENCE_S}
_ON_THE_WIRE = 2 * (_SLOW_LINES + 1)
"""Of two workers; the queue of connections may have held one more of each when it was filled."""
_WINDOW_S = 3
_NS = 1_000_000_000


async def slow(drill: Drill, bent: Bent) -> list[str]:
    """F60: every request of one provider takes longer than all of another channel's mail."""
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Crooked.open(""))
        phones = await stack.enter_async_context(
            Phones.open(drill, "http://127.0.0.1:9", base_url=line.url, answer_timeout_s=60, connections=_SLOW_LINES)
        )
        line.target, line.bend = phones.sandbox.url, lambda _asked: bent
        rows = await drill.rows(_MORE_SENDERS, phones.sender.id, _SLOW_SENDERS)
        for at, row in enumerate(rows):
            phones.sender = replace(phones.sender, id=row["id"])
            await phones.admit(people(_IN_FLIGHT, first=at * _IN_FLIGHT))
        await drill.worker(lanes_in_flight=str(_IN_FLIGHT), claim_batch="1")
        await until(lambda: len(line.asked) >= _SLOW_LINES, what="every line to it waits for its answer")
        await until(lambda: _is_full(drill), what="the slow provider has got all that it may")
        mail = await drill.sender("at_most_once", connections=2)
        ids = await drill.admit(mail, _FEW)
        hanging = len(line.asked)
        await until(lambda: _is_over(drill, ids, line, hanging), what="the mail is through, or what hung has ended")
        found = [] if await _is_sent(drill, ids) else ["F60: the other channel waited for the slow provider"]
        line.bend = lambda _asked: STRAIGHT
        await line.cut()  # what hangs is lost: the sandbox has it, and nobody was told
        await line.mend()
        await drill.drained()
        return found + await checked(drill, phones, uncertain=2 * _SLOW_LINES)


async def partition(drill: Drill) -> list[str]:
    """F74: the network to the provider swallows everything under load while messages come in, and is mended later.

    A machine that stands still for as long as an answer may take costs what is on the wire as well.
    """
    began_ns = boot_ns()
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Crooked.open(""))
        phones = await stack.enter_async_context(
            Phones.open(drill, "http://127.0.0.1:9", base_url=line.url, connections=_SLOW_LINES, **_IMPATIENT)
        )
        line.target = phones.sandbox.url
        line.bend = lambda _asked: Bent(after_s=0.5)  # the provider decides the rate, not the machine
        for _ in range(2):
            await drill.worker()
        await phones.admit(people(_LOAD))
        await until(lambda: len(phones.acceptances()) >= _LOAD // 2, what="half of it has gone")
        rate = _rate_per_s(sorted(each.boot_ns for each in phones.acceptances())[_LOAD // 10 :])
        await line.swallow()
        await until(lambda: _is_open(drill), what="its circuit is open")
        for part in range(5):
            await phones.admit(people(_COUNT, first=4000 + part * _COUNT))
        unreached = "api_unreachable" if drill.defect else "api_timeout"
        await until(lambda: _is_deferred(drill, unreached), what="a connection was not to be had")
        await until(lambda: _rests(drill), what="nothing is on its way any more")
        left = await drill.open_count()
        if left + len(phones.acceptances()) < _LOAD + 5 * _COUNT - _on_the_wire(began_ns):
            return [f"F74: {left} of {_LOAD + 5 * _COUNT} messages wait: too few"]
        mended_ns = boot_ns()
        await line.mend()
        await until(lambda: _is_through(drill), what="what waited for the network has gone")
        found = await _late_ones_wait(drill)
        found += _recovered(sorted(each.boot_ns for each in phones.acceptances() if each.boot_ns > mended_ns), rate)
        await drill.drained()
        return found + await checked(drill, phones, uncertain=_on_the_wire(began_ns))


def _on_the_wire(began_ns: int) -> int:
    """How many requests may have lost their answers since then."""
    return _ON_THE_WIRE * (1 + int(stood_still_s(began_ns) / (_PATIENCE_S / 2)))


async def _late_ones_wait(drill: Drill) -> list[str]:
    """Who met a connection that was not to be had waits for that alone, spread by its back-off; here it is over now."""
    rows = await drill.rows("SELECT reason, due_at - now() AS wait FROM queue")
    found = [f"F74: {row['reason']} for {row['wait']}" for row in rows if row["reason"] != "api_timeout"]
    await drill.execute("UPDATE queue SET due_at = now() WHERE reason = 'api_timeout'")
    return found


async def _is_through(drill: Drill) -> bool:
    """Whether nothing is left but what waits for its time."""
    return not await drill.value(
        "SELECT EXISTS (SELECT FROM queue WHERE NOT (state = 4 AND due_at > now() + interval '1 minute'))"
    )


async def _rests(drill: Drill) -> bool:
    """Whether nothing is in hand, and nothing may go: the circuit is open, or what is left waits for its time."""
    is_open = await _is_open(drill)
    return not await drill.value(
        "SELECT EXISTS (SELECT FROM queue WHERE state = 1 OR (state = 0 AND NOT $1::boolean)"
        " OR (state = 4 AND due_at < now() + interval '1 minute' AND NOT $1))",
        is_open,
    )


def _recovered(times_ns: Sequence[int], rate_per_s: float) -> list[str]:
    """F74: once the network is back as much goes as before: the first window with nine tenths of it [faults.md 2.0]."""
    for at, since_ns in enumerate(times_ns):
        if bisect_left(times_ns, since_ns + _WINDOW_S * _NS) - at >= 0.9 * rate_per_s * _WINDOW_S:
            print(f"F74: {rate_per_s:.0f}/s as before {(since_ns - times_ns[0]) / _NS:.1f} s after the first")  # noqa: T201 - a figure
            return []
    return [f"F74: never nine tenths of {rate_per_s:.0f} messages a second after the network was back"]


def _rate_per_s(times_ns: Sequence[int]) -> float:
    return (len(times_ns) - 1) / (times_ns[-1] - times_ns[0]) * _NS


async def expired_certificate(drill: Drill) -> list[str]:
    """F76: the certificate of a mail server has expired: nothing is handed over until it is renewed."""
    trusted = drill.folder / "authority.pem"
    trusted.write_bytes(authority_pem())
    drill.command = drill.command.with_(SSL_CERT_FILE=str(trusted))
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(Sandbox(_server(drill, name, is_expired=name == "expired")))
            for name in ("expired", "renewed")
        ]
        ports = [server.addresses.smtp[1] for server in servers]
        sender = await drill.sender("at_most_once", connections=2, port=ports[0])
        await _configure(drill, ports[0])
        await drill.admit(sender, _COUNT)
        await drill.worker()
        await until(lambda: _is_deferred(drill, "tls_failed"), what="it was tried and refused")
        await until(lambda: _is_open(drill), what="its circuit is open")
        taken = ledgers.accepted_of(LedgerReader(servers[0].options.ledger_path))
        found = [f"F76: {len(taken)} messages were handed over all the same"] if taken else []
        await _configure(drill, ports[1])
        await drill.drained()
    evidence = await drill.evidence()
    for server in servers:
        evidence.acceptances += ledgers.accepted_of(LedgerReader(server.options.ledger_path))
    return found + ledgers.violations(evidence)


def _server(drill: Drill, name: str, *, is_expired: bool) -> SandboxOptions:
    """A mail server with a certificate; it would take mail in the clear as well."""
    pem = drill.folder / f"{name}.pem"
    pem.write_bytes(server_pem(is_expired=is_expired))
    return SandboxOptions(
        ledger_path=drill.folder / name, smtp_port=0, http_port=None, certificate_path=pem, private_key_path=pem
    )


async def _configure(drill: Drill, port: int) -> None:
    """Another server, as an operator names it: nothing without TLS."""
    settings = {"host": "127.0.0.1", "port": port, "tls": "required", "connections": 2}
    await drill.execute(
        "UPDATE connections SET settings = $1::text::jsonb, version = version + 1, updated_at = now()",
        json.dumps(settings),
    )
    await drill.execute("DELETE FROM circuits")


async def _is_sent(drill: Drill, ids: Sequence[UUID]) -> bool:
    count = await drill.value("SELECT count(*) FROM messages WHERE id = ANY ($1::uuid[]) AND state = 'sent'", list(ids))
    return bool(count == len(ids))


async def _is_full(drill: Drill) -> bool:
    """Whether so much is claimed as the slow provider gets: no more of it for a while."""
    began_ns, before = boot_ns(), await drill.value(_LEASED)
    await asyncio.sleep(2)  # far longer than a claim takes
    is_same = bool(before) and before == await drill.value(_LEASED)
    return is_same and stood_still_s(began_ns) < 1  # what stands still is not full


async def _is_over(drill: Drill, ids: Sequence[UUID], line: Crooked, hanging: int) -> bool:
    """Whether the mail is through, or one slow request has ended and made room for the next."""
    return len(line.asked) > hanging or await _is_sent(drill, ids)


_LEASED = "SELECT count(*) FROM queue WHERE state = 1"
_MORE_SENDERS = """
INSERT INTO senders (tenant_id, name, channel, connection_id, from_address, postal_address,
                     transactional_guarantee, bulk_guarantee)
SELECT tenant_id, name || n, channel, connection_id, from_address, postal_address,
       transactional_guarantee, bulk_guarantee
FROM senders, generate_series(1, $2::int) n WHERE id = $1 RETURNING id
"""


async def _is_open(drill: Drill) -> bool:
    return bool(await drill.value("SELECT EXISTS (SELECT FROM circuits WHERE state = 'open')"))


async def _is_deferred(drill: Drill, cause: str) -> bool:
    return bool(
        await drill.value(
            "SELECT EXISTS (SELECT FROM message_events WHERE kind = 'deferred' AND data ->> 'cause' = $1)", cause
        )
    )
