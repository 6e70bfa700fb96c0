"""From a campaign's content to a recipient's click: what a worker sends is what the API understands."""

from __future__ import annotations

import asyncio
import email
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from email import policy
from html import unescape
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.channel import Content
from outrider.contracts.provider import Outgoing
from outrider.data.db import Role
from outrider.domain.tracking import choices, results, web_versions
from outrider.domain.tracking.choices import ChoiceChange, Scope
from outrider.engine.inbound import tracking
from outrider.plugins.channels.email import CHANNEL
from tests.kit.api import TESTER, Answer, Api, api_of, refill_nothing
from tests.kit.dispatch import Desk, Post, posts, until
from tests.kit.rendering import InProcessRenderer
from tests.kit.tracking import PERSON

HTML = """<html><body><a href="{{ web_version_url }}">in your browser</a> <p>Dear {{ name }}</p>
<a href="https://shop.example/offer?a=1&amp;b=2">offer</a> <a href="https://shop.example/{{ code }}">yours</a>
<a href="{{ unsubscribe_url }}">leave</a></body></html>"""


@dataclass
class Office:
    """A worker's runtime with the real email channel, and an API on the same database."""

    post: Post
    api: Api
    desk: Desk

    async def letters(self, count: int = 1, **more: Any) -> list[UUID]:
        """Admit bulk messages of the HTML above and let a worker send them."""
        given: dict[str, Any] = {"message_class": "bulk", "purpose": "marketing", **more}
        ids = await self.desk.admit(count, variables='{"name": "Ada", "code": "c/1"}', **given)
        async with self.post.working():
            await until(lambda: self._ended(ids))
        return ids

    async def _ended(self, ids: list[UUID]) -> bool:
        return set(await self.desk.states(ids)) == {"sent"}

    def html(self, at: int = -1) -> str:
        return html_of(self.post.provider.taken[at])

    async def visit(self, url: str, **headers: str) -> Answer:
        path = url.removeprefix(self.post.runtime.settings.public_url)
        assert path.startswith("/"), url
        return await self.api.caller().get(path, headers={**PERSON, **headers}, allow_redirects=False)


def html_of(message: Outgoing) -> str:
    parsed = email.message_from_bytes(message.body, policy=policy.default)
    (part,) = [each for each in parsed.walk() if each.get_content_type() == "text/html"]
    text: str = part.get_payload(decode=True).decode()  # type: ignore[union-attr]  # a leaf's payload is bytes
    return text


def links_of(html: str) -> list[str]:
    return [unescape(found) for found in re.findall(r'<a href="([^"]*)"', html)]


@pytest.fixture
async def office(new_database: Callable[..., str], tmp_path: Path) -> AsyncIterator[Office]:
    url = new_database("migrated")
    async with posts(url, tmp_path, public_url="https://mail.example.org") as post:
        post.runtime = replace(post.runtime, channels={"email": CHANNEL}, renderer=InProcessRenderer())
        async with api_of(url, tracking_flush_s=0.01, public_url="https://mail.example.org") as api:
            cast("dict[str, Any]", api.runtime.channels)["email"] = CHANNEL
            desk = await post.desk()
            source = Content("", "hello", HTML, "hello")
            compiled = await CHANNEL.compile(source, post.runtime.renderer)
            await post.execute(
                "UPDATE contents SET html = $1, is_template = true, compiled = $2::text::jsonb",
                HTML,
                json.dumps(compiled),
            )
            await post.execute("UPDATE tenants SET settings = '{\"consent_required\": false}'")
            yield Office(post, api, desk)


async def judged(office: Office, count: int) -> None:
    """Let the loop of the worker judge, once so many hits are stored, until nothing is stored any more."""
    runtime = replace(
        office.post.runtime,
        settings=office.post.runtime.settings.model_copy(update={"tracking_wait_s": 0.0, "tracking_soon_s": 0.0}),
    )
    (loop,) = tracking.loops(runtime)

    async def is_done() -> bool:
        await loop.step()
        return not await office.post.value("SELECT count(*) FROM tracking_hits")

    async with asyncio.timeout(90):
        while await office.post.value("SELECT coalesce(sum(n), 0) FROM tracking_hits") < count:  # noqa: ASYNC110 - in a database
            await asyncio.sleep(0.01)
    await until(is_done)


async def test_what_a_worker_sends_leads_where_its_author_said_and_is_counted(office: Office) -> None:
    (message_id,) = await office.letters()
    html = office.html()
    _, offer, yours, leave = links_of(html)
    for url in (offer, yours):
        assert re.fullmatch(r"https://mail\.example\.org/t/c/[\w-]{76}", url)
    assert leave.startswith("https://mail.example.org/u/"), "the link to unsubscribe is never followed"
    assert "shop.example" not in html
    assert "p0@example.org" not in re.sub(r">[^<]*<", "", html), "no address in a link"
    assert (await office.visit(offer)).headers["Location"] == "https://shop.example/offer?a=1&b=2"
    assert (await office.visit(yours)).headers["Location"] == "https://shop.example/c/1"
    (pixel,) = re.findall(r'<img src="([^"]*)" width="1" height="1"', html)
    assert re.fullmatch(r"https://mail\.example\.org/t/o/[\w-]{76}\.gif", pixel)
    await judged(office, 2)
    async with office.post.runtime.db.uow(Role.APP, office.desk.tenant_id) as uow:
        known = await results.of_message(uow, message_id)
    assert {(each.kind, each.url, each.is_machine) for each in known} == {
        ("click", None, False),
        ("click", "https://shop.example/offer?a=1&b=2", False),
        ("click", "https://shop.example/{{ code }}", False),
    }
    assert "clicked" in await office.desk.events(message_id)


async def test_messages_that_are_no_advertising_are_left_alone_unless_the_tenant_says_otherwise(office: Office) -> None:
    await office.letters(message_class="transactional", purpose="transactional")
    assert "/t/" not in office.html()
    await choose(office, "tenant", office.desk.tenant_id, ChoiceChange(transactional=True))
    await office.letters(message_class="transactional", purpose="transactional")
    assert len(re.findall("/t/c/", office.html())) == 2


@pytest.mark.parametrize("scope", ["tenant", "sender"])
async def test_what_is_switched_off_does_not_stand_in_messages(office: Office, scope: Scope) -> None:
    scope_id = {"tenant": office.desk.tenant_id, "sender": office.desk.sender_id}[scope]
    await choose(office, scope, scope_id, ChoiceChange(opens=False, clicks=False))
    await office.letters()
    assert "/t/" not in office.html()
    assert "https://shop.example/offer" in office.html()
    await choose(office, scope, scope_id, ChoiceChange(clicks=True))
    await office.letters()
    assert "/t/o/" not in office.html()
    assert "/t/c/" in office.html()


async def choose(office: Office, scope: Scope, scope_id: UUID, change: ChoiceChange) -> None:
    async with office.post.runtime.db.uow(Role.APP, office.desk.tenant_id) as uow:
        await choices.choose(uow, TESTER, scope, scope_id, change)


async def test_a_message_is_shown_again_in_a_browser_without_anything_that_follows(office: Office) -> None:
    await office.letters()
    (look, *_) = links_of(office.html())
    assert re.fullmatch(r"https://mail\.example\.org/w/[\w-]{76}", look)
    answer = await office.visit(look)
    assert answer.status == 200
    assert "Dear Ada" in answer.text
    assert "https://shop.example/offer" in answer.text
    assert "https://shop.example/c/1" in unescape(answer.text)
    assert "/t/" not in answer.text
    assert "<img" not in answer.text
    policy_of = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy_of
    assert "sandbox" in policy_of
    assert "allow-scripts" not in policy_of
    assert "allow-same-origin" not in policy_of
    assert answer.headers["X-Robots-Tag"] == "noindex, nofollow"
    assert "Set-Cookie" not in answer.headers
    flipped = look[:-1] + ("A" if look[-1] != "A" else "B")
    assert (await office.visit(flipped)).status == 404
    assert (await office.visit(look.replace("/w/", "/v/"))).status == 404
    assert await office.post.value("SELECT count(*) FROM tracking_hits") == 0


async def test_looking_again_and_again_gets_slow(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    refill_nothing(monkeypatch)
    await office.letters()
    (look, *_) = links_of(office.html())
    for _ in range(200):
        assert (await office.visit(look)).status == 200
    answer = await office.visit(look)
    assert answer.status == 429
    assert "Retry-After" in answer.headers


async def test_a_campaign_is_published_and_withdrawn(office: Office) -> None:
    post = office.post
    list_id = await post.value("INSERT INTO lists (tenant_id, name) VALUES ($1, 'l') RETURNING id", DEFAULT_TENANT)
    content_id = await post.value(
        "INSERT INTO contents (tenant_id, channel, hash, is_template, subject, html) "
        "VALUES ($1, 'email', '\\x01', true, 's', $2) RETURNING id",
        DEFAULT_TENANT,
        HTML,
    )
    connection_id = await post.value(
        "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'x', 'glass') RETURNING id", DEFAULT_TENANT
    )
    sender_id = await post.value(
        "INSERT INTO senders (tenant_id, name, channel, connection_id, from_address) "
        "VALUES ($1, 'x', 'email', $2, 'news@sender.example') RETURNING id",
        DEFAULT_TENANT,
        connection_id,
    )
    campaign_id = await post.value(
        "INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, state) "
        "VALUES ($1, 'c', 'email', $2, $3, $4, 'test', 'draft') RETURNING id",
        DEFAULT_TENANT,
        sender_id,
        content_id,
        list_id,
    )
    caller = office.api.caller(await office.api.key("campaigns:read", "campaigns:write"))
    path = f"/api/v1/campaigns/{campaign_id}/web-version"
    values = {"name": "<b>friend</b>", "code": "all"}
    assert (await caller.put(path, {"variables": values})).code == "not_launched"
    await post.execute("UPDATE campaigns SET state = 'sending'")
    assert (await caller.get(path)).code == "not_published"
    made = (await caller.put(path, {"variables": values})).json
    assert re.fullmatch(r"https://mail\.example\.org/v/[\w-]{76}", made["url"])
    shown = await office.visit(made["url"])
    assert shown.status == 200
    assert "Dear &lt;b&gt;friend&lt;" in shown.text
    assert "/u/" not in shown.text, "nobody is unsubscribed from a page for everybody"
    again = (await caller.put(path, {"variables": {"name": "you", "code": "x"}})).json
    assert again["url"] == made["url"]
    assert "Dear you" in (await office.visit(made["url"])).text
    assert (await caller.delete(path)).status == 204
    assert (await office.visit(made["url"])).status == 404
    later = (await caller.put(path, {"variables": values})).json
    assert later["url"] != made["url"]
    assert (await office.visit(made["url"])).status == 404, "a withdrawn address never leads anywhere again"
    await caller.put(path, {"variables": {}})
    assert (await office.visit(later["url"])).status == 404, "a value is missing"


async def test_links_are_committed_before_the_first_message_leaves(office: Office) -> None:
    seen: list[int] = []

    async def counting(provider: Any, batch: Any, watch: Any) -> None:
        seen.append(await office.post.value("SELECT count(*) FROM tracked_links"))
        await real(provider, batch, watch)

    real = office.post.provider.send
    office.post.provider.send = counting
    await office.letters()
    assert seen == [2]


async def test_a_page_of_a_message_that_is_gone_says_so(office: Office) -> None:
    (message_id,) = await office.letters()
    (look, *_) = links_of(office.html())
    await office.post.execute("DELETE FROM messages WHERE id = $1", message_id)
    answer = await office.visit(look)
    assert (answer.status, "no longer kept" in answer.text) == (404, True)
    async with office.post.runtime.db.uow(Role.APP, office.desk.tenant_id) as uow:
        assert await web_versions.letter_of(uow, message_id) is None
