"""Drills about one account at a provider: refused, slowed down, its password changed, while other accounts go on.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any
from uuid import UUID

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.secret import Keyring
from outrider.data.db import Role
from outrider.data.egress import Egress
from outrider.domain.messages import search
from outrider.domain.messages.states import END_STATES
from outrider.domain.senders import circuits, connections
from outrider.domain.senders.connections import Vault
from outrider.interfaces.sandbox import LedgerReader, Sandbox, SandboxOptions
from outrider.plugins.providers.smtp import PROVIDER as SMTP
from outrider.plugins.providers.twilio import PROVIDER as TWILIO
from tests.kit import ledgers
from tests.kit.crooked import STRAIGHT, Asked, Bent, Crooked
from tests.kit.drill import OPERATOR, Drill
from tests.kit.phones import Phones, people
from tests.kit.processes import until

PROBE_S = 1.0
SETTINGS = {
    "circuit_failures": "3",
    "circuit_open_s": "0.5",
    "circuit_open_most_s": "1",
    "circuit_close_after": "10",
    "circuit_refused_s": str(PROBE_S),
}
UNASKED_PAUSE_S = 0.5
"""The least pause of an account that is told to slow down and not for how long, with these settings."""
WORKERS = 2
_COUNT = 40
_NS = 1_000_000_000
_NO_GATES = '{"consent_required": false, "quiet_hours": "off"}'
Bend = Callable[[Asked], Bent]


def refused(asked: Asked) -> Bent:
    """401 for everybody."""
    del asked
    return Bent(reaches=False, status=401, body=b'{"code": 20003, "message": "Authenticate", "status": 401}')


def slowed(wish_s: float | None) -> Bend:
    """429 for everybody, with or without Retry-After."""
    headers = {} if wish_s is None else {"Retry-After": f"{wish_s:g}"}
    body = b'{"code": 20429, "message": "Too Many Requests", "status": 429}'
    return lambda _asked: Bent(reaches=False, status=429, body=body, headers=headers)


@asynccontextmanager
async def two_accounts(drill: Drill) -> AsyncIterator[tuple[Phones, Crooked, Phones]]:
    """An account over a line that can be bent, and another tenant's that is sound."""
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Crooked.open(""))
        bent = await stack.enter_async_context(Phones.open(drill, "http://127.0.0.1:9", base_url=line.url))
        line.target = bent.sandbox.url
        tenant_id = await drill.tenant("sound")
        sound = await stack.enter_async_context(Phones.open(drill, "http://127.0.0.1:9", tenant_id=tenant_id))
        yield bent, line, sound


async def account_refused(drill: Drill) -> list[str]:
    """F53: the account of one tenant is refused while another's is sound; it is accepted again later."""
    async with two_accounts(drill) as (bent, line, sound):
        line.bend = refused
        ids = await bent.admit(people(_COUNT))
        workers = [await drill.worker() for _ in range(WORKERS)]
        await until(lambda: len(line.asked) > 0, what="it was asked")
        await _others_end(drill, sound)
        await until(lambda: _is_explained(drill, ids), what="every message says why it waits")
        found = await _is_alarmed(drill)
        await until(lambda: len(line.asked) >= WORKERS + 2, what="it is tried again now and then")
        found += asked_too_often("F53", line.asked, first=WORKERS, window_s=PROBE_S, is_renewed=False)
        found += await untouched(drill, ids)
        line.bend = lambda _asked: STRAIGHT
        await drill.drained()
        found += [f"{each.name} ended" for each in workers if not each.lives()]
        return found + await checked(drill, bent, sound)


async def password_changed(drill: Drill) -> list[str]:
    """F78: the account's password is changed in the middle of a campaign; the connection learns it later."""
    new = "new-token"
    async with two_accounts(drill) as (bent, line, sound):
        options = bent.sandbox.options
        line.sign_in = (options.account_sid, options.auth_token)  # the line is the one that asks for the password

        def bend(asked: Asked) -> Bent:
            is_right = asked.password == (new if asked.number > _COUNT else options.auth_token)
            return STRAIGHT if is_right else refused(asked)

        line.bend = bend
        await drill.execute("UPDATE tenants SET settings = settings || $1::text::jsonb", _NO_GATES)
        ids = await bent.admit(people(_COUNT * 4), message_class="bulk", purpose="marketing")
        for _ in range(WORKERS):
            await drill.worker()
        await until(lambda: _circuit(drill, bent, "open"), what="its circuit is open")
        await _others_end(drill, sound)
        waiting = await _open_ids(drill, ids)
        await until(lambda: _is_explained(drill, waiting), what="every message that is left says why it waits")
        found = await _is_alarmed(drill)
        await _give_password(drill, bent.sender.tenant_id, bent.connection_id, {"auth_token": new})
        await drill.drained()
        return found + await checked(drill, bent, sound)


async def slowed_down(drill: Drill, wish_s: float | None) -> list[str]:
    """F55: the account of one tenant is told to slow down, with and without saying for how long."""
    async with two_accounts(drill) as (bent, line, sound):
        for _ in range(WORKERS):
            await drill.worker()
        line.bend = slowed(wish_s)
        await bent.admit(people(_COUNT))
        await until(lambda: len(line.asked) > 0, what="it was asked")
        await _others_end(drill, sound)
        # so often that workers who do not hear of each other must have asked in the same window
        await until(lambda: len(line.asked) >= 2 * WORKERS + 1, what="it is tried again")
        window_s = UNASKED_PAUSE_S if wish_s is None else wish_s
        found = asked_too_often("F55", line.asked, first=WORKERS, window_s=window_s, is_renewed=wish_s is not None)
        line.bend = lambda _asked: STRAIGHT
        await drill.drained()
        return found + await checked(drill, bent, sound)


async def smtp_refused(drill: Drill) -> list[str]:
    """F53: a mail server refuses a password; another account goes on, and so does this one with the right password."""
    ledger = drill.folder / "asks for a password"
    options = SandboxOptions(
        ledger_path=ledger, smtp_port=0, http_port=None, credentials={"u": "right"}, is_auth_required=True
    )
    sound = await drill.sender("at_most_once", connections=2)
    async with Sandbox(options) as server:
        bent = await drill.sender("at_most_once", connections=4, port=server.addresses.smtp[1])
        connection_id = await drill.value("SELECT connection_id FROM senders WHERE id = $1", bent.id)
        wrong = {"username": "u", "password": "wrong", "allow_plaintext_auth": True}
        await _give_password(drill, DEFAULT_TENANT, connection_id, wrong)
        ids = await drill.admit(bent, _COUNT)
        for _ in range(WORKERS):
            await drill.worker()
        others = await drill.admit(sound, _COUNT)
        await until(lambda: _all_sent(drill, others), what="the other account's mail has gone")
        await until(lambda: _is_explained(drill, ids), what="every message says why it waits")
        found = await _is_alarmed(drill)
        found += await untouched(drill, ids)
        asked = server.house.counts["auth_failures"]
        if asked > WORKERS + 1:
            found.append(f"F53: {asked} times signed in with the wrong password")
        await _give_password(drill, DEFAULT_TENANT, connection_id, {"password": "right"})
        await drill.drained()
    evidence = await drill.evidence()
    evidence.acceptances += ledgers.accepted_of(LedgerReader(ledger))
    return found + ledgers.violations(evidence)


async def checked(
    drill: Drill, *accounts: Phones, duplicates: int = 0, uncertain: int = 0, failed: int = 0
) -> list[str]:
    """What the checker finds, the ledgers of these accounts among its own; `failed`: how many were refused for good."""
    evidence = await drill.evidence()
    for each in accounts:
        evidence.acceptances += each.acceptances()
    lost = len(evidence.in_state("failed")) - failed
    found = [f"I2: {lost} messages have failed that had only to wait"] if lost > 0 else []
    return found + ledgers.violations(evidence, duplicates=duplicates, uncertain=uncertain)


def asked_too_often(row: str, asked: Sequence[Asked], *, first: int, window_s: float, is_renewed: bool) -> list[str]:
    """Requests beyond one of each worker, and one per window after that; a clock may be a tenth off.

    The line may have noted the one before too late, by what this process kept things waiting.

    Takes:   is_renewed: a refusal while the account rests begins its rest anew; else it ends as the first one said,
             however late the other workers asked.
    """
    if len(asked) <= first:
        return []
    found = []
    for before, after in pairwise([asked[first - 1 if is_renewed else 0], *asked[first:]]):
        apart_s = (after.boot_ns - before.boot_ns) / _NS
        if apart_s < 0.9 * window_s - after.lag_s:
            found.append(f"{row}: asked again {apart_s:.2f} s after the last time, {len(asked)} times")
    return found[:3]


async def untouched(drill: Drill, ids: Sequence[UUID]) -> list[str]:
    """Messages that a refusal of their account has cost an attempt."""
    count = await drill.value(
        "SELECT count(*) FROM queue WHERE message_id = ANY ($1::uuid[]) AND state <> 1 AND attempt > 0", list(ids)
    )
    return [f"F53: {count} messages have used up attempts"] if count else []


async def _others_end(drill: Drill, sound: Phones) -> None:
    """The whole batch of the other tenant is through while the account is in trouble."""
    ids = await sound.admit(people(_COUNT, first=5000))
    await until(lambda: _all_sent(drill, ids), what="the other tenant's texts have gone")


async def _all_sent(drill: Drill, ids: Sequence[UUID]) -> bool:
    sent = await drill.value("SELECT count(*) FROM messages WHERE id = ANY ($1::uuid[]) AND state = 'sent'", list(ids))
    return bool(sent == len(ids))


async def _open_ids(drill: Drill, ids: Sequence[UUID]) -> list[UUID]:
    rows = await drill.rows("SELECT message_id FROM queue WHERE message_id = ANY ($1::uuid[])", list(ids))
    return [row["message_id"] for row in rows]


async def _is_explained(drill: Drill, ids: Sequence[UUID]) -> bool:
    """Whether the first and the last message say that their account is refused, as long as they are open."""
    async with drill.db.uow(Role.ENGINE, DEFAULT_TENANT) as uow:
        found = [(await search.get(uow.raw, DEFAULT_TENANT, each))[0] for each in (ids[0], ids[-1])]
        rows = [row for row in found if row["state"] not in END_STATES]
        why = await search.explained(uow.raw, DEFAULT_TENANT, rows)
    return all("authentication_failed" in (each.waiting_for or "") for each in why.values())


async def _circuit(drill: Drill, account: Phones, state: str) -> bool:
    found = await drill.value("SELECT state FROM circuits WHERE connection_id = $1", account.connection_id)
    return bool(found == state)


async def _is_alarmed(drill: Drill) -> list[str]:
    """Whether operators are told which connection it is, and why."""
    async with drill.db.uow(Role.ENGINE) as uow:
        told = await circuits.open_ones(uow.raw)
    return [] if [each.cause for each in told] == ["authentication_failed"] else [f"F53: operators are told {told}"]


async def _give_password(drill: Drill, tenant_id: UUID, connection_id: UUID, given: Mapping[str, Any]) -> None:
    """Change a connection as an operator does."""
    keyring = Keyring(drill.command.environment["OUTRIDER_SECRET_KEY"])
    vault = Vault({TWILIO.key: TWILIO, SMTP.key: SMTP}, keyring, Egress(()))
    async with drill.db.uow(Role.APP, tenant_id) as uow:
        await connections.update(uow, vault, OPERATOR, connection_id, settings=given)
