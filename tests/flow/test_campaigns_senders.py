"""Connections and senders: secrets go in sealed and never come out, and the dispatcher gets what was saved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Misconfigured, Refused, RefusedMany
from outrider.base.secret import Keyring, new_key
from outrider.data.db import UnitOfWork
from outrider.domain.senders import connections, identity, senders
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.senders import DkimIn, DkimView, SenderChange
from tests.kit.audience import ACTOR
from tests.kit.office import Office, key_pair, open_office


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        yield found


async def test_a_connection_says_which_secrets_it_has_and_never_what_they_are(office: Office) -> None:
    made = await office.connection(port=2525)
    assert made.has_secret == {"password": True}
    assert (made.settings["host"], made.settings["port"], made.settings["tls"]) == (
        "mail.example.org",
        2525,
        "required",
    )
    assert "password" not in made.settings
    ((row, audit),) = await office.fetch(
        "SELECT (SELECT c::text FROM connections c), (SELECT string_agg(a::text, '') FROM audit_log a)"
    )
    assert "s3cret-word" not in row + audit
    assert "s3cret-word" not in repr(made)


async def test_what_is_not_named_stays_and_null_takes_a_secret_away(office: Office) -> None:
    made = await office.connection()
    async with office.app() as uow:
        now = await connections.update(uow, office.vault, ACTOR, made.id, settings={"port": 2587})
        assert (now.version, now.settings["port"], now.has_secret) == (2, 2587, {"password": True})
        opened = await connections.opened(uow, office.vault, made.id)
        assert opened.secrets == {"password": "s3cret-word"}
        assert "s3cret-word" not in repr(opened)
        cleared = {"username": None, "password": None}
        now = await connections.update(uow, office.vault, ACTOR, made.id, name="other", settings=cleared)
        assert (now.name, now.has_secret, now.settings["username"]) == ("other", {"password": False}, "")


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"host": None}, "settings.host"),
        ({"port": 0}, "settings.port"),
        ({"port": "587"}, "settings.port"),
        ({"tls": "maybe"}, "settings.tls"),
        ({"surprise": 1}, "settings.surprise"),
        ({"host": "a\r\nb"}, "settings.host"),
        ({"password": None}, "settings.password"),
    ],
)
async def test_settings_are_checked_by_the_provider_itself(
    office: Office, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(Refused) as refused:
        await office.connection(**settings)
    fields = [one.field for one in refused.value.errors] if isinstance(refused.value, RefusedMany) else []
    assert field in [*fields, refused.value.field]
    assert await office.fetch("SELECT count(*) FROM connections") == [(0,)]


async def test_sealed_secrets_open_only_with_their_key_and_in_their_place(office: Office) -> None:
    first, second = await office.connection("first"), await office.connection("second")
    other = Vault(office.vault.providers, Keyring(new_key()), office.vault.egress)
    with pytest.raises(Misconfigured) as wrong:
        async with office.app() as uow:
            await connections.opened(uow, other, first.id)
    assert wrong.value.code == "secret_key_wrong"
    await office.fetch(
        "UPDATE connections SET sealed_secrets = (SELECT sealed_secrets FROM connections WHERE id = $1) WHERE id = $2",
        first.id,
        second.id,
    )
    with pytest.raises(Misconfigured) as moved:
        async with office.app() as uow:
            await connections.opened(uow, office.vault, second.id)
    assert moved.value.code == "sealed_text_damaged"


async def test_a_connection_in_use_is_not_deleted_and_another_tenants_is_not_there(office: Office) -> None:
    used, unused = await office.connection("used"), await office.connection("unused")
    await office.sender(connection_id=used.id)
    with pytest.raises(Refused) as refused:
        async with office.app() as uow:
            await connections.delete(uow, ACTOR, used.id)
    assert refused.value.code == "connection_in_use"
    async with office.app(await office.other_tenant()) as uow:
        for verb in (connections.get(uow, office.vault, unused.id), connections.delete(uow, ACTOR, unused.id)):
            with pytest.raises(Refused) as refused:
                await verb
            assert refused.value.http_status == 404
    async with office.app() as uow:
        await connections.delete(uow, ACTOR, unused.id)


async def test_an_unreachable_connection_is_examined_up_to_the_stage_that_fails(office: Office) -> None:
    made = await office.connection(host="127.0.0.1", port=1, tls="off", username=None, password=None)
    async with office.app() as uow:
        account = await connections.opened(uow, office.vault, made.id)
    stages = await connections.examined(account, office.vault.egress)
    assert [stage.is_ok for stage in stages][-1:] == [False]
    assert all(stage.is_ok for stage in stages[:-1])


async def test_the_dispatcher_gets_what_was_saved(office: Office) -> None:
    keys = [DkimIn("example.org", "r1", key_pair("rsa")), DkimIn("EXAMPLE.org", "e1", key_pair("ed25519"))]
    made = await office.sender(
        from_address="The News <News@Example.org>",
        reply_to="Answers@example.org",
        return_path="bounces@example.org",
        postal_address="Example\n1 Road",
        dkim=keys,
        bulk_guarantee="at_least_once",
    )
    assert made.dkim == [DkimView("example.org", "r1", "rsa"), DkimView("example.org", "e1", "ed25519")]
    async with office.engine() as uow:
        found = await identity.load(uow.raw, office.vault.keyring, office.tenant, made.id)
    assert (found.identity.from_address, found.identity.from_name) == ("news@example.org", "The News")
    assert (found.identity.reply_to, found.identity.return_path) == ("answers@example.org", "bounces@example.org")
    assert [(key.selector, key.private_key_pem) for key in found.identity.dkim] == [
        ("r1", key_pair("rsa")),
        ("e1", key_pair("ed25519")),
    ]
    (connection,) = found.connections
    assert (connection.provider, connection.secrets["password"]) == ("smtp", "s3cret-word")
    assert (connection.circuit, connection.is_due, connection.is_noted) == ("closed", False, False)
    assert found.guarantees == {"transactional": "at_least_once", "bulk": "at_least_once"}
    assert not found.is_archived
    assert "s3cret-word" not in repr(found)
    assert "PRIVATE KEY" not in repr(found)


async def test_a_change_of_sender_or_connection_makes_what_was_loaded_stale(office: Office) -> None:
    made = await office.sender()
    async with office.engine() as uow:
        first = await versions(office, uow, made.id)
    async with office.app() as uow:
        await senders.update(uow, office.channels, office.vault, ACTOR, made.id, SenderChange(from_name="News"))
    async with office.engine() as uow:
        second = await versions(office, uow, made.id)
    async with office.app() as uow:
        await connections.update(uow, office.vault, ACTOR, made.connection_id, settings={"port": 25})
    async with office.engine() as uow:
        third = await versions(office, uow, made.id)
        assert len({first, second, third}) == 3
        with pytest.raises(Refused):
            await identity.load(uow.raw, office.vault.keyring, await office.other_tenant(), made.id)


async def versions(office: Office, uow: UnitOfWork, sender_id: UUID) -> identity.Versions:
    return (await identity.load(uow.raw, office.vault.keyring, office.tenant, sender_id)).versions


async def test_signing_keys_are_kept_by_name_and_replaced_as_a_list(office: Office) -> None:
    made = await office.sender(dkim=[DkimIn("example.org", "r1", key_pair("rsa"))])
    async with office.app() as uow:
        both = SenderChange(dkim=[DkimIn("example.org", "r1"), DkimIn("example.org", "e1", key_pair("ed25519"))])
        now = await senders.update(uow, office.channels, office.vault, ACTOR, made.id, both)
        assert [key.selector for key in now.dkim] == ["r1", "e1"]
        kept = await senders.update(uow, office.channels, office.vault, ACTOR, made.id, SenderChange(from_name="x"))
        assert [key.selector for key in kept.dkim] == ["r1", "e1"]
        one = SenderChange(dkim=[DkimIn("example.org", "e1")])
        now = await senders.update(uow, office.channels, office.vault, ACTOR, made.id, one)
        assert [key.selector for key in now.dkim] == ["e1"]
        found = await identity.load(uow.raw, office.vault.keyring, office.tenant, made.id)
        assert [key.private_key_pem for key in found.identity.dkim] == [key_pair("ed25519")]
        unknown = SenderChange(dkim=[DkimIn("example.org", "r1")])
        with pytest.raises(Refused) as refused:
            await senders.update(uow, office.channels, office.vault, ACTOR, made.id, unknown)
        assert refused.value.field == "/dkim/0/private_key_pem"


async def test_a_weak_key_is_saved_with_a_warning_and_what_is_no_key_is_refused(office: Office) -> None:
    made = await office.sender("weak", dkim=[DkimIn("example.org", "s", key_pair("small"))])
    assert made.warnings
    for pem in ("-----BEGIN PRIVATE KEY-----\nxx\n-----END PRIVATE KEY-----", "", "x"):
        with pytest.raises(Refused):
            await office.sender(f"bad {pem[:1]}", dkim=[DkimIn("example.org", "s", pem)])


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"from_address": "no address"}, "from_address"),
        ({"from_address": "a@b.co\r\nBcc: x@y.co"}, "from_address"),
        ({"from_name": "A\r\nBcc: b@c.co"}, "from_name"),
        ({"from_name": "=?utf-8?q?x=0D=0ABcc:_v=40e.co?="}, "from_name"),
        ({"reply_to": "x"}, "reply_to"),
        ({"return_path": "a@b.co,c@d.co"}, "return_path"),
        ({"name": " "}, "/name"),
    ],
)
async def test_what_a_header_could_not_carry_is_no_sender(office: Office, fields: dict[str, Any], field: str) -> None:
    connection = await office.connection()
    with pytest.raises(Refused) as refused:
        await office.sender(**{"name": "n", "connection_id": connection.id, **fields})
    assert refused.value.field == field
    assert await office.fetch("SELECT count(*) FROM senders") == [(0,)]


async def test_a_name_with_an_address_in_it_is_only_a_name(office: Office) -> None:
    made = await office.sender(from_name="Bank <security@bank.example>", from_address="x@example.org")
    assert (made.from_name, made.from_address) == ("Bank <security@bank.example>", "x@example.org")


async def test_an_archived_sender_is_still_loaded_for_what_was_accepted_before(office: Office) -> None:
    made = await office.sender()
    async with office.app() as uow:
        assert (await senders.archive(uow, ACTOR, made.id, is_archived=True)).archived_at is not None
        assert await senders.listed(uow, limit=10) == []
        assert [one.id for one in await senders.listed(uow, limit=10, with_archived=True)] == [made.id]
        assert (await identity.load(uow.raw, office.vault.keyring, office.tenant, made.id)).is_archived
        assert (await senders.archive(uow, ACTOR, made.id, is_archived=False)).archived_at is None


async def test_names_are_taken_once_per_tenant(office: Office) -> None:
    made = await office.sender("one")
    two = await office.sender("two")
    with pytest.raises(Refused) as refused:
        await office.sender("one", connection_id=made.connection_id)
    assert refused.value.code == "name_taken"
    with pytest.raises(Refused) as refused:
        async with office.app() as uow:
            await senders.update(uow, office.channels, office.vault, ACTOR, two.id, SenderChange(name="one"))
    assert refused.value.code == "name_taken"
