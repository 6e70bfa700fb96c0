"""A sender's domains over a real name server: by API and command; and links of a sender's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import RefusedMany, Unavailable
from outrider.base.secret import new_key
from outrider.contracts.channel import Identity
from outrider.data.names import NameSystem
from outrider.domain.campaigns import launch
from outrider.domain.senders import identity
from outrider.domain.senders.records import public_half
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit import api as api_kit
from tests.kit.api import Api, Caller, api_of
from tests.kit.audience import ACTOR
from tests.kit.command import command
from tests.kit.names import Table, serving
from tests.kit.office import key_pair, open_office


def table() -> Table:
    public = public_half(key_pair("rsa"))
    return Table(
        texts_of={
            "s1._domainkey.example.org": [f"v=DKIM1; k=rsa; p={public}"],
            "example.org": ["v=spf1 mx -all"],
            "_dmarc.example.org": ["v=DMARC1; p=reject"],
        },
        mail_of={"example.org": ["mx.example.org"]},
        alias_of={"links.example.org": "outrider.example.org"},
        addresses_of={"links.example.org": ["192.0.2.7"], "outrider.example.org": ["192.0.2.7", "2001:db8::7"]},
    )


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    runtime_for = api_kit.runtime_for

    def with_real_plugins(url: str, **settings: Any) -> Any:
        runtime = runtime_for(url, **settings)
        return replace(runtime, channels={"email": CHANNEL}, providers={"smtp": PROVIDER})

    monkeypatch.setattr(api_kit, "runtime_for", with_real_plugins)
    zone = table()
    async with (
        serving(zone) as names,
        api_of(migrated_url, data_dir=tmp_path, public_url="https://outrider.example.org", dns_servers=[names]) as made,
    ):
        yield made


async def _sender(owner: Caller, **more: Any) -> Any:
    settings = {"host": "mail.example.org"}
    made = await owner.post("/api/v1/connections", {"name": "relay", "provider": "smtp", "settings": settings})
    body = {"name": "news", "connection_id": made.json["id"], "from_address": "news@example.org", **more}
    return await owner.post("/api/v1/senders", body)


async def test_the_api_says_what_to_set_and_what_is_there(api: Api) -> None:
    await api.user("ann@example.org")
    owner = await api.signed_in("ann@example.org")
    key = {"domain": "example.org", "selector": "s1", "private_key_pem": key_pair("rsa")}
    made = await _sender(owner, dkim=[key], tracking_url="https://links.example.org/")
    assert (made.status, made.json["tracking_url"], made.json["public_url"]) == (201, "https://links.example.org", "")
    shown = await owner.get(f"/api/v1/senders/{made.json['id']}/dns")
    assert [(each["type"], each["name"]) for each in shown.json["records"]] == [
        ("TXT", "s1._domainkey.example.org"),
        ("TXT", "example.org"),
        ("TXT", "_dmarc.example.org"),
        ("CNAME", "links.example.org"),
    ]
    assert "PRIVATE" not in shown.text
    found = await owner.post(f"/api/v1/senders/{made.json['id']}/dns/check", {})
    assert (found.status, found.json["is_ok"]) == (200, True)
    verdicts = {(each["subject"], each["name"]): each["verdict"] for each in found.json["checks"]}
    assert verdicts == {
        ("dkim", "s1._domainkey.example.org"): "ok",
        ("spf", "example.org"): "ok",
        ("dmarc", "_dmarc.example.org"): "ok",
        ("bounces", "example.org"): "ok",
        ("links", "outrider.example.org"): "ok",
        ("links", "links.example.org"): "ok",
    }


@pytest.mark.parametrize("url", ["ftp://a.example.org", "https://u@a.example.org", "https://a.example.org/?x=1", "a b"])
async def test_a_base_of_links_is_a_plain_web_address(api: Api, url: str) -> None:
    await api.user("ann@example.org")
    refused = await _sender(await api.signed_in("ann@example.org"), public_url=url)
    assert (refused.status, refused.code) == (422, "invalid_url")


async def test_no_such_name_is_an_answer_and_a_broken_or_silent_server_is_not() -> None:
    zone = table()
    zone.broken.add("broken.example.org")
    async with serving(zone) as server:
        names = NameSystem([server])
        assert await names.texts("nothing.example.org") == []
        assert await names.texts("mx.example.org") == []
        assert await names.alias("links.example.org") == "outrider.example.org"
        assert await names.addresses("outrider.example.org") == ["192.0.2.7", "2001:db8::7"]
        assert await names.texts("x" * 64 + ".example.org") == []
        with pytest.raises(Unavailable):
            await names.texts("broken.example.org")


async def test_the_command_shows_the_same_and_fails_when_a_record_is_missing(migrated_url: str, tmp_path: Path) -> None:
    async with serving(table()) as server:
        outrider = command(tmp_path, url=migrated_url, key=new_key()).with_(OUTRIDER_DNS_SERVERS=f'["{server}"]')
        arguments = [
            ["connection", "create", "mx", "--set", "host=mail.example.org"],
            ["sender", "create", "news", "--connection", "mx", "--from", "n@example.org"],
            ["sender", "create", "bare", "--connection", "mx", "--from", "n@bare.example.net"],
            ["sender", "dns", "news", "--json"],
            ["sender", "dns", "bare"],
            ["doctor", "--no-connections", "--dns", "--json"],
        ]
        done = await asyncio.to_thread(outrider.many, arguments)
    assert [each.code for each in done] == [0, 0, 0, 0, 1, 0], done
    assert [each["subject"] for each in done[3].json()["checks"] if each["verdict"] != "ok"] == ["dkim"]
    assert "fail     spf bare.example.net: there is no SPF record" in done[4].out
    findings = {each["subject"]: each for each in done[5].json()["findings"]}
    assert findings["dns default / bare"]["verdict"] == "warn"
    assert "there is no DMARC record" in findings["dns default / bare"]["detail"]


async def test_a_campaign_does_not_launch_with_links_of_its_sender_that_lead_nowhere(migrated_url: str) -> None:
    async with open_office(migrated_url) as office:
        sender = await office.sender("local", tracking_url="http://localhost:3000")
        campaign = await office.campaign("local", sender_id=sender.id)
        with pytest.raises(RefusedMany) as refused:
            async with office.engine() as uow:
                await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)
        assert [each.code for each in refused.value.errors] == ["localhost_links"]
        assert "http://localhost:3000" in refused.value.errors[0].message


async def test_the_dispatcher_gets_a_senders_own_bases(migrated_url: str) -> None:
    async with open_office(migrated_url) as office:
        sender = await office.sender("own", public_url="https://m.example.org", tracking_url="https://t.example.org/x")
        async with office.engine() as uow:
            use = await identity.load(uow.raw, office.vault.keyring, office.tenant, UUID(str(sender.id)))
    assert isinstance(use.identity, Identity)
    assert (use.identity.public_url, use.identity.tracking_url) == ("https://m.example.org", "https://t.example.org/x")
