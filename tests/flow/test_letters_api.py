"""A template before it is used: written as MJML, looked at, its links checked, compared, restored, tried."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from html import unescape
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from outrider.data.egress import Egress
from outrider.data.render_pool import RenderPool
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.providers.smtp import PROVIDER
from tests.kit import api as api_kit
from tests.kit.api import Api, Caller, api_of
from tests.kit.sites import answering, leading, site

MJML = (
    "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ name }}</mj-text>"
    "<mj-button href='/shop'>Go</mj-button></mj-column></mj-section></mj-body></mjml>"
)
T = "/api/v1/templates"


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    runtime_for = api_kit.runtime_for
    pool = RenderPool(1)

    def with_real_plugins(url: str, **settings: Any) -> Any:
        runtime = runtime_for(url, **settings)
        egress = Egress([ip_network("127.0.0.1/32")])
        return replace(runtime, channels={"email": CHANNEL}, providers={"smtp": PROVIDER}, renderer=pool, egress=egress)

    monkeypatch.setattr(api_kit, "runtime_for", with_real_plugins)
    async with api_of(
        migrated_url,
        data_dir=tmp_path,
        public_url="https://news.example.org",
        test_addresses=["@lab.example.org", "bob@example.net"],
    ) as running:
        yield running
    await pool.close()


@pytest.fixture
async def owner(api: Api) -> Caller:
    await api.user("ann@example.org")
    return await api.signed_in("ann@example.org")


async def letter(owner: Caller, **parts: Any) -> Any:
    body = {"name": "letter", "subject": "Hello {{ name }}", **parts}
    answer = await owner.post(T, body)
    assert answer.status == 201, answer.text
    return answer.json


async def test_what_was_written_is_kept_beside_what_is_sent(owner: Caller) -> None:
    made = await letter(owner, mjml=MJML, preheader="Short")
    shown = (await owner.get(f"{T}/{made['id']}")).json
    assert shown["written"] == {"mjml": MJML, "html": None, "text": None, "inline_css": True, "auto_text": True}
    assert "Dear {{ name }}" in shown["html"]
    assert shown["text"].startswith("Dear {{ name }}")
    same = await owner.post(
        f"{T}/{made['id']}/versions", {"subject": "Hello {{ name }}", "mjml": MJML, "preheader": "Short"}
    )
    assert (same.status, same.json["version"]) == (201, 1), "the same again is no new version"
    plain = await letter(owner, name="plain", text="Hi")
    assert (await owner.get(f"{T}/{plain['id']}")).json["written"] is None


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"mjml": "<mjml><mj-body>"}, "invalid_mjml", "/mjml"),
        ({"mjml": MJML, "html": "<p>a</p>"}, "mjml_or_html", "/html"),
        ({"mjml": "<mjml><mj-body><mj-raw><script>1</script></mj-raw></mj-body></mjml>"}, "unsafe_html", "/html"),
        ({"html": "<style>p{}</style>\n<script>1</script>"}, "unsafe_html", "/html"),
    ],
)
async def test_what_cannot_be_made_is_refused_naming_its_part(
    owner: Caller, body: dict[str, str], code: str, pointer: str
) -> None:
    refused = await owner.post(T, {"name": "x", "subject": "s", **body})
    assert refused.status == 422
    found = refused.json["errors"][0] if refused.json.get("errors") else refused.json
    assert (found["code"], found["pointer"]) == (code, pointer)


async def test_a_preview_is_what_the_recipient_gets(owner: Caller) -> None:
    contact = await owner.post(
        "/api/v1/contacts",
        {
            "name": "Zoë",
            "addresses": [{"channel": "email", "address": "zoe@example.org"}],
            "attributes": {"city": "Bonn"},
        },
    )
    made = await letter(owner, html="<p>Dear {{ name }} of {{ city }}, {{ email }}</p>", preheader="Peek")
    path = f"{T}/{made['id']}/preview"
    seen = await owner.post(path, {"contact_id": contact.json["id"], "variables": {"city": "Köln"}})
    assert seen.status == 200, seen.text
    assert seen.json["subject"] == "Hello Zoë"
    assert "Dear Zoë of Köln, zoe@example.org" in seen.json["html"]
    assert "Dear Zoë of Köln" in seen.json["text"]
    assert "https://news.example.org/u/preview" in unescape(seen.json["html"])
    page = await owner.get(f"{path}?contact_id={contact.json['id']}")
    assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
    assert "Dear Zoë of Bonn" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.endswith("sandbox"), "nothing in it may run"
    missing = await owner.post(path, {})
    assert (missing.status, missing.code) == (422, "render_failed")
    assert "missing" in missing.json["detail"]


async def test_a_preview_for_a_contact_of_another_tenant_is_not_found(api: Api, owner: Caller) -> None:
    async with api.engine(None) as uow:
        stranger = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('others') RETURNING id")
        contact = await uow.raw.fetchval(
            "INSERT INTO contacts (tenant_id, name) VALUES ($1, 'Secret') RETURNING id", stranger
        )
    made = await letter(owner, text="Dear {{ name }}")
    path = f"{T}/{made['id']}/preview"
    for answer in (
        await owner.post(path, {"contact_id": str(contact)}),
        await owner.get(f"{path}?contact_id={contact}"),
    ):
        assert (answer.status, "Secret" in answer.text) == (404, False), answer.text


async def test_a_key_sees_a_contact_through_a_template_only_with_the_right_to_read_contacts(
    api: Api, owner: Caller
) -> None:
    body = {"name": "Zoë", "addresses": [{"channel": "email", "address": "zoe@example.org"}]}
    contact = (await owner.post("/api/v1/contacts", body)).json["id"]
    made = await letter(owner, text="{{ email }}")
    path = f"{T}/{made['id']}/preview"
    bare = api.caller(key=await api.key("templates:read"))
    whole = api.caller(key=await api.key("templates:read", "contacts:read"))
    wanted = {"contact_id": contact}
    assert [(await each.post(path, wanted)).status for each in (bare, whole)] == [403, 200]
    assert [(await each.get(f"{path}?contact_id={contact}")).status for each in (bare, whole)] == [403, 200]


async def test_links_are_checked_without_dialling(owner: Caller) -> None:
    made = await letter(owner, mjml=MJML)
    found = (await owner.post(f"{T}/{made['id']}/links", {})).json
    assert found["is_ok"] is False
    assert {(each["severity"], each["code"]) for each in found["notes"] if each["part"] == "html"} == {
        ("info", "no_unsubscribe_link"),
        ("error", "relative_link"),
    }


async def test_links_are_tried_when_somebody_asks_for_it_who_may(api: Api, owner: Caller) -> None:
    async with site() as shop:
        shop.answers["/gone"] = answering(404)
        shop.answers["/old"] = leading("/new")
        urls = [shop.url("/old"), shop.url("/gone"), "http://127.0.0.2:1/"]
        made = await letter(owner, text=f"{' '.join(urls)} {shop.url('/{{ name }}')} {{{{ unsubscribe_url }}}}")
        path = f"{T}/{made['id']}/links"
        found = (await owner.post(path, {})).json
        assert (found["dialled"], shop.asked) == ([], [])
        found = (await owner.post(path, {"dial": True})).json
        assert found["is_ok"] is False
        assert [(each["url"], each["verdict"], each["code"]) for each in found["dialled"]] == [
            (urls[0], "ok", "answers"),
            (urls[1], "dead", "gone"),
            (urls[2], "unsure", "not_allowed"),
        ]
        assert found["dialled"][0]["final_url"] == shop.url("/new")
        before = len(shop.asked)
        looker = api.caller(key=await api.key("templates:read", role="viewer"))
        assert [(await looker.post(path, body)).status for body in ({}, {"dial": True})] == [200, 403]
        assert len(shop.asked) == before


async def test_versions_are_compared_and_an_earlier_one_comes_back_as_a_new_one(owner: Caller) -> None:
    made = await letter(owner, mjml=MJML)
    path = f"{T}/{made['id']}"
    await owner.post(f"{path}/versions", {"subject": "Bye", "mjml": MJML.replace("Dear", "Cheap")})
    found = (await owner.get(f"{path}/versions/1/difference")).json
    assert (found["from_version"], found["to_version"], set(found["parts"])) == (1, 2, {"subject", "mjml"})
    assert "-Hello {{ name }}\n+Bye" in found["parts"]["subject"]
    back = await owner.post(f"{path}/versions/1/restore")
    assert (back.status, back.json["version"]) == (201, 3)
    shown = (await owner.get(path)).json
    assert (shown["subject"], shown["written"]["mjml"]) == ("Hello {{ name }}", MJML)
    again = await owner.post(f"{path}/versions/1/restore")
    assert again.json["version"] == 3, "restoring what is there changes nothing"
    assert (await owner.get(f"{path}/versions/1/difference?after=3")).json["parts"] == {}
    assert (await owner.post(f"{path}/versions/9/restore")).status == 404


@pytest.mark.parametrize(
    ("query", "name"), [("versions/1/difference?after=0", "after"), (f"preview?version={10**30}", "version")]
)
async def test_a_version_that_cannot_be_is_refused_by_its_name(owner: Caller, query: str, name: str) -> None:
    made = await letter(owner, mjml=MJML)
    answer = await owner.get(f"{T}/{made['id']}/{query}")
    assert (answer.status, answer.json["parameter"]) == (422, name)


async def test_a_test_send_goes_to_ones_own_alone_and_is_marked(api: Api, owner: Caller) -> None:
    relay = await owner.post(
        "/api/v1/connections", {"name": "r", "provider": "smtp", "settings": {"host": "m.example.org"}}
    )
    body = {"name": "news", "connection_id": relay.json["id"], "from_address": "n@example.org"}
    assert (await owner.post("/api/v1/senders", body)).status == 201
    made = await letter(owner, text="Dear {{ name }}")
    path = f"{T}/{made['id']}/test"
    to = ["Ann@example.org", "x@lab.example.org", "bob@example.net"]
    refused = await owner.post(path, {"to": [*to, "carl@example.com"], "variables": {"name": "Z"}})
    assert refused.status == 422
    assert [(each["code"], each["pointer"]) for each in refused.json["errors"]] == [("not_a_test_address", "/to/3")]
    sent = await owner.post(path, {"to": to, "variables": {"name": "Z"}})
    assert (sent.status, len(sent.json["ids"])) == (202, 3), sent.text
    async with api.engine() as uow:
        rows = await uow.raw.fetch(
            "SELECT m.address, m.purpose, m.campaign_id, c.subject FROM messages m JOIN contents c "
            "ON c.tenant_id = m.tenant_id AND c.id = m.content_id ORDER BY m.address"
        )
        kept = await uow.raw.fetchval("SELECT count(*) FROM audit_log WHERE action = 'template.test_send'")
    assert [tuple(row) for row in rows] == [
        (address, "test", None, "[Test] Hello {{ name }}")
        for address in ("ann@example.org", "bob@example.net", "x@lab.example.org")
    ]
    assert kept == 1
    latest = (await owner.get(f"{T}/{made['id']}")).json
    assert (latest["version"], latest["subject"]) == (1, "Hello {{ name }}"), "the template itself is untouched"
