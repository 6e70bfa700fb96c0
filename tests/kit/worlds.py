"""Two tenants that have one of everything, for tests of who may reach what.

API
    world_of(api, tenant_id, word) -> World     one object of every noun, made over HTTP by an owner of that tenant
        .ids                                    noun -> id, address or token, as paths and bodies name them
        .word                                   stands in every name: an answer that shows it shows this tenant
        .fresh(noun)                            another one that may be used up (FRESH)
    jobs_ended(api)                             every job of both has ended, or waits for a time or a person
    session_of(api, tenant_id, user_id)         the token of a new session, without a password being hashed

The runtime's provider is the glass one: nothing is dialled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast, get_args
from uuid import UUID, uuid4

from outrider.base.signing import TrackingSigner
from outrider.domain.signup.links import Kind, Links
from outrider.domain.tenants import sessions
from tests.kit.api import Api, Caller
from tests.kit.dispatch import GlassProvider
from tests.kit.running import running_jobs

_BOUND_S = 180.0
_UNCERTAIN = (
    "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2 RETURNING lane_id), "
    "marked AS (UPDATE messages SET state = 'uncertain' WHERE tenant_id = $1 AND id = $2) "
    "INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail) "
    "SELECT $1, $2, lane_id, 'answer_lost', '' FROM gone RETURNING message_id"
)
_DRAFT = (
    "INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, template_id, list_id, created_by) "
    "SELECT tenant_id, $2, channel, sender_id, content_id, template_id, list_id, created_by "
    "FROM campaigns WHERE tenant_id = $1 AND id = $3 RETURNING id"
)
_SCHEDULE = (
    "INSERT INTO schedules (tenant_id, name, job_type, arguments, cron, timezone, grace_s, jitter_s, "
    "handled_at, created_by) "
    "VALUES ($1, $2, 'import_contacts', $3, '0 2 * * *', 'UTC', 60, 0, now(), 'test') RETURNING id"
)
_MOVING = (
    "SELECT count(*) FROM jobs j JOIN job_queues q ON q.name = j.queue "
    "WHERE j.state = 'processing' OR (j.state = 'enqueued' AND q.paused_at IS NULL)"
)
_JOB = (
    "INSERT INTO jobs (tenant_id, type, queue, arguments, state, reason, max_attempts, timeout_s, run_at, created_by, "
    "finished_at, error) SELECT $1, 'import_contacts', 'report', jsonb_build_object('word', $2::text), $3, $2, 3, 60, "
    "now() + interval '1 day', $2, CASE WHEN $3 = 'failed' THEN now() END, CASE WHEN $3 = 'failed' THEN $2 END "
    "RETURNING id"
)
_SUPPRESSED = (
    "INSERT INTO suppressions (tenant_id, channel, address_hash, address, reason, source, created_by) "
    "VALUES ($1, 'email', sha256(convert_to($2, 'UTF8')), $2, 'manual', 'test', 'test') RETURNING address"
)


@dataclass
class World:
    """One tenant and what it has."""

    api: Api
    tenant_id: UUID
    word: str
    ids: dict[str, str] = field(default_factory=dict)

    async def fresh(self, noun: str) -> str:
        """One more of a noun of FRESH."""
        return await FRESH[noun](self)

    async def insert(self, statement: str, *values: Any) -> str:
        """The value that a statement returns, as the engine."""
        async with self.api.engine(self.tenant_id) as uow:
            return str(await uow.raw.fetchval(statement, self.tenant_id, *values))


async def _draft(world: World) -> str:
    return await world.insert(_DRAFT, f"{world.word} {uuid4()}", UUID(world.ids["campaign"]))


async def _list(world: World) -> str:
    return await world.insert("INSERT INTO lists (tenant_id, name) VALUES ($1, $2) RETURNING id", f"list {uuid4()}")


async def _connection(world: World) -> str:
    statement = "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, $2, 'glass') RETURNING id"
    return await world.insert(statement, f"connection {uuid4()}")


async def _suppressed(world: World) -> str:
    return await world.insert(_SUPPRESSED, f"{uuid4().hex}@{world.word}.example")


async def _address(world: World) -> str:
    statement = (
        "INSERT INTO addresses (tenant_id, channel, address, contact_id) VALUES ($1, 'email', $2, $3) RETURNING address"
    )
    return await world.insert(statement, f"{uuid4().hex}@{world.word}.example", UUID(world.ids["contact"]))


async def _schedule(world: World) -> str:
    return await world.insert(_SCHEDULE, f"{world.word} {uuid4()}", f'{{"import_id": "{uuid4()}"}}')


async def _job(world: World) -> str:
    return await world.insert(_JOB, world.word, "scheduled")


async def _failed_job(world: World) -> str:
    return await world.insert(_JOB, world.word, "failed")


async def _contact(world: World) -> str:
    return await world.insert("INSERT INTO contacts (tenant_id, name) VALUES ($1, $2) RETURNING id", world.word)


async def _tag(world: World) -> str:
    statement = "INSERT INTO contact_tags (tenant_id, contact_id, tag) VALUES ($1, $2, $3) RETURNING tag"
    return await world.insert(statement, UUID(world.ids["contact"]), f"{world.word} {uuid4()}")


async def _attribute(world: World) -> str:
    columns = "(tenant_id, key, type, created_by)"
    statement = f"INSERT INTO attribute_definitions {columns} VALUES ($1, $2, 'text', 't') RETURNING key"
    return await world.insert(statement, f"a{uuid4().hex}")


async def _segment(world: World) -> str:
    statement = "INSERT INTO segments (tenant_id, name, rules, created_by) VALUES ($1, $2, $3, 't') RETURNING id"
    return await world.insert(statement, f"{world.word} {uuid4()}", '{"kind": "all", "rules": []}')


async def _form(world: World) -> str:
    """A form with the one list of the tenant that stays on offer."""
    statement = (
        "WITH made AS (INSERT INTO signup_forms (tenant_id, name, title, consent_text, purpose, sender_id, created_by) "
        "VALUES ($1, $2, $3, 'c', 'marketing', $4, 't') RETURNING tenant_id, id), "
        "put AS (INSERT INTO signup_form_lists (tenant_id, form_id, list_id) SELECT tenant_id, id, $5 FROM made) "
        "SELECT id FROM made"
    )
    values = (f"{world.word} {uuid4()}", world.word, UUID(world.ids["sender"]), UUID(world.ids["public_list"]))
    return await world.insert(statement, *values)


async def _offered_list(world: World) -> str:
    list_id = await _list(world)
    statement = (
        "INSERT INTO list_offers (tenant_id, list_id, title, offered_by) VALUES ($1, $2, $3, 't') RETURNING list_id"
    )
    return await world.insert(statement, UUID(list_id), world.word)


async def _number(world: World) -> str:
    statement = "INSERT INTO pool_numbers (tenant_id, number, sender_id) VALUES ($1, $2, $3) RETURNING id"
    return await world.insert(statement, f"+1{uuid4().int % 10**10:010}", UUID(world.ids["sender"]))


async def _exception(world: World) -> str:
    statement = (
        "INSERT INTO callback_exceptions (tenant_id, connection_id, network, ends_at, reason, created_by) "
        "VALUES ($1, $2, '192.0.2.0/24', now() + interval '1 hour', $3, 'test') RETURNING id"
    )
    return await world.insert(statement, UUID(world.ids["connection"]), world.word)


async def _event(world: World) -> str:
    statement = (
        "INSERT INTO webhook_events (tenant_id, connection_id, provider, event_key, kind, word, body_hash, signature, "
        "source, state) VALUES ($1, $2, 'glass', $3, 'report', $4, '', 'genuine', 'test', 'orphan') RETURNING id"
    )
    return await world.insert(statement, UUID(world.ids["connection"]), str(uuid4()), world.word)


FRESH: dict[str, Callable[[World], Awaitable[str]]] = {
    "draft": _draft,
    "empty_list": _list,
    "unused_connection": _connection,
    "suppressed": _suppressed,
    "spare_address": _address,
    "spare_contact": _contact,
    "spare_attribute": _attribute,
    "spare_segment": _segment,
    "tag": _tag,
    "spare_schedule": _schedule,
    "job": _job,
    "failed_job": _failed_job,
    "number": _number,
    "offered_list": _offered_list,
    "spare_form": _form,
    "exception": _exception,
    "event": _event,
}


async def session_of(api: Api, tenant_id: UUID, user_id: UUID) -> sessions.Begun:
    """A new session of a user."""
    async with api.engine(tenant_id) as uow:
        return await sessions.begin(uow, user_id, lasts_s=3600, ip="127.0.0.1", user_agent="test")


async def world_of(api: Api, tenant_id: UUID, word: str) -> World:
    """Make one of everything in a tenant; `word` is a host name's label."""
    cast("dict[str, Any]", api.runtime.providers)["glass"] = GlassProvider()
    world = World(api, tenant_id, word, {"tenant": str(tenant_id)})
    owner = await api.user(f"maker@{word}.example", tenant_id=tenant_id)
    victim = await api.user(f"victim@{word}.example", "viewer", tenant_id=tenant_id, name=f"{word} victim")
    begun = await session_of(api, tenant_id, owner.id)
    world.ids |= {"user": str(victim.id), "session": begun.token_hash.hex()}
    caller = Caller(api.url, cookies={"session_id": begun.token})
    await _audience(world, caller)
    await _campaigns(world, caller)
    await _messages(world, caller)
    await _rest(world, caller)
    for noun in FRESH:
        world.ids[noun] = await world.fresh(noun)
    return world


async def _make(caller: Caller, path: str, body: dict[str, Any]) -> Any:
    answer = await caller.post(f"/api/v1{path}", body)
    assert answer.status in {200, 201, 202}, f"{path}: {answer.text}"
    return answer.json


async def _audience(world: World, caller: Caller) -> None:
    word = world.word
    world.ids["address"] = f"person@{word}.example"
    addresses = [{"channel": "email", "address": world.ids["address"]}]
    person = await _make(caller, "/contacts", {"name": word, "external_id": word, "addresses": addresses})
    world.ids["contact"] = person["id"]
    said = {"channel": "email", "purpose": "marketing", "status": "granted", "source": "test"}
    await _make(caller, f"/contacts/{person['id']}/consents", said)
    world.ids["list"] = (await _make(caller, "/lists", {"name": word}))["id"]
    await _make(caller, f"/lists/{world.ids['list']}/members", {"contact_ids": [person["id"]]})
    rules = {"kind": "list", "list_ids": [world.ids["list"]]}
    world.ids["segment"] = (await _make(caller, "/segments", {"name": word, "rules": rules}))["id"]
    statement = "INSERT INTO exports (tenant_id, kind, created_by) VALUES ($1, 'person', 't') RETURNING id"
    world.ids["export"] = await world.insert(statement)
    statement = "INSERT INTO erasures (tenant_id, reason, created_by) VALUES ($1, $2, 't') RETURNING id"
    world.ids["erasure"] = await world.insert(statement, word)


async def _campaigns(world: World, caller: Caller) -> None:
    word, ids = world.word, world.ids
    ids["connection"] = (await _make(caller, "/connections", {"name": word, "provider": "glass"}))["id"]
    sender = {"name": word, "connection_id": ids["connection"], "from_address": f"news@{word}.example"}
    ids["sender"] = (await _make(caller, "/senders", sender))["id"]
    ids["template"] = (await _make(caller, "/templates", {"name": word, "subject": word, "text": "t"}))["id"]
    wanted = {"sender_id": ids["sender"], "template_id": ids["template"], "list_id": ids["list"]}
    ids["campaign"] = (await _make(caller, "/campaigns", {"name": f"{word} draft", **wanted}))["id"]
    ids["running"] = (await _make(caller, "/campaigns", {"name": f"{word} running", **wanted}))["id"]
    await _make(caller, f"/campaigns/{ids['running']}/launch", {"acknowledge": ["empty_suppressions"]})


async def _messages(world: World, caller: Caller) -> None:
    ids = world.ids
    body = {"to": ids["address"], "sender": ids["sender"], "subject": world.word, "text": world.word}
    ids["message"] = (await _make(caller, "/messages", body))["id"]
    ids["doubt"] = (await _make(caller, "/messages", body))["id"]
    await world.insert(_UNCERTAIN, UUID(ids["doubt"]))
    ids["token"] = world.api.runtime.unsubscribe_links.sign(world.tenant_id, UUID(ids["message"]))
    signer = TrackingSigner(world.api.runtime.keyring.derive("tracking"))
    (ids["view_token"],) = signer.signed(TrackingSigner.VIEW, world.tenant_id, UUID(int=0))
    links = Links(world.api.runtime.keyring)
    ids["public_list"] = await _offered_list(world)
    ids["form"] = await _form(world)
    for kind in get_args(Kind):
        ids[f"{kind}_token"] = links.path(kind, world.tenant_id, UUID(int=0)).rpartition("/")[2]
    (ids["public_token"],) = signer.signed(TrackingSigner.PUBLIC, world.tenant_id, UUID(int=0))


async def _rest(world: World, caller: Caller) -> None:
    word, ids = world.word, world.ids
    ids["key"] = (await _make(caller, "/keys", {"name": word, "scopes": ["queue:read"], "role": "viewer"}))["details"][
        "id"
    ]
    await _make(caller, "/suppressions", {"address": f"stop@{word}.example", "note": word})
    await _make(caller, "/switches/pause", {"scope": "sender", "id": ids["sender"], "reason": word})
    answer = await caller.put(f"/api/v1/limits/sender/{ids['sender']}", {"rate_per_s": 5})
    assert answer.status == 200, answer.text
    answer = await caller.put(f"/api/v1/senders/{ids['sender']}/warm-up", {"plan": "texts"})
    assert answer.status == 200, answer.text
    schedule = {"name": word, "job_type": "import_contacts", "cron": "0 2 * * *", "timezone": "Europe/Berlin"}
    arguments = {"arguments": {"import_id": str(uuid4())}}
    ids["schedule"] = (await _make(caller, "/schedules", {**schedule, **arguments}))["id"]
    csv = f"email,name\nimported@{word}.example,{word}\nbroken {word},x\n".encode()
    path = f"/api/v1/imports?file_name={word}.csv"
    answer = await caller.ask("POST", path, data=csv, headers={"Content-Type": "text/csv"})
    assert answer.status == 202, answer.text
    ids["import"] = answer.json["id"]
    await jobs_ended(world.api)


async def jobs_ended(api: Api) -> None:
    """Run jobs until none is left that could go on by itself now."""
    async with running_jobs(api.runtime), asyncio.timeout(_BOUND_S):
        while True:
            async with api.engine(None) as uow:
                if not await uow.raw.fetchval(_MOVING):
                    return
            await asyncio.sleep(0.02)
