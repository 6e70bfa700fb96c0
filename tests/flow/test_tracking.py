"""Openings and clicks: answered at once out of the database, stored in batches, judged, and added up once."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.signing import TrackingSigner
from outrider.contracts.channel import Link
from outrider.domain.tenants import tenants
from outrider.domain.tracking import choices, destinations, results
from outrider.domain.tracking.choices import ChoiceChange
from outrider.interfaces.api.tracking import Destinations
from tests.kit.api import TESTER, Api, api_of, refill_nothing
from tests.kit.smtp_talk import until
from tests.kit.tracking import PERSON, RULES, Mail

GOOGLE = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"


@pytest.fixture
async def api(migrated_url: str) -> AsyncIterator[Api]:
    async with api_of(migrated_url, tracking_flush_s=0.01) as running:
        yield running


@pytest.fixture
async def mail(api: Api) -> Mail:
    return await Mail.open(api)


async def test_a_click_leads_where_the_database_says_and_is_stored(mail: Mail) -> None:
    answer = await mail.click(0, 1)
    assert (answer.status, answer.headers["Location"], answer.text) == (302, "https://shop.example/1", "")
    assert answer.headers["Cache-Control"] == "no-store, private"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in answer.headers
    assert await mail.hits(1) == [(2, 2, "", 1)]


async def test_an_opening_is_answered_with_a_pixel_that_mail_programs_may_show(mail: Mail) -> None:
    answer = await mail.opened(0)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"content-type: image/gif" in head
    assert b"cross-origin-resource-policy: cross-origin" in head
    assert b"no-store" in head
    assert (len(body), body[:6]) == (43, b"GIF89a")
    assert await mail.hits(1) == [(1, 0, "", 1)]


async def test_a_link_with_variables_leads_where_they_say_and_its_value_cannot_leave_its_place(mail: Mail) -> None:
    answer = await mail.click(1, 4)
    assert answer.headers["Location"] == "https://shop.example/c/1?a=%C3%A4%20b"
    async with mail.api.engine() as uow:
        await uow.raw.execute(
            "UPDATE messages SET variables = $2::text::jsonb WHERE id = $1",
            mail.ids[1],
            '{"code": "x\\r\\nSet-Cookie: a=b\\t"}',
        )
    answer = await mail.click(1, 4)
    assert answer.headers["Location"] == "https://shop.example/xSet-Cookie:%20a=b?a=%C3%A4%20b"
    assert "Set-Cookie" not in answer.headers


async def test_a_link_with_variables_that_many_follow_at_once_is_looked_up_once(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[UUID] = []
    waiting = asyncio.Event()
    variables_of = destinations.variables_of

    async def held(raw: Any, tenant_id: UUID, message_id: UUID) -> str | None:
        asked.append(message_id)
        await waiting.wait()
        return await variables_of(raw, tenant_id, message_id)

    monkeypatch.setattr(destinations, "variables_of", held)
    found = Destinations(mail.api.runtime)
    clicks = [asyncio.create_task(found.url(mail.tenant_id, mail.ids[0], mail.links[-1].key)) for _ in range(50)]
    await until(lambda: bool(asked))
    waiting.set()
    urls = set(await asyncio.gather(*clicks))
    assert (len(urls), None in urls, asked) == (1, False, [mail.ids[0]])


async def test_looking_with_head_changes_nothing_and_other_methods_are_refused(mail: Mail) -> None:
    looked = await mail.click(0, 0, method="HEAD")
    assert (looked.status, looked.headers["Location"]) == (302, "https://shop.example/0")
    assert (await mail.opened(0, method="HEAD")).startswith(b"HTTP/1.1 200")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert (await mail.click(0, 0, method=method)).status == 405
        assert (await mail.opened(0, method=method)).startswith(b"HTTP/1.1 405")
    await mail.click(0, 0)
    assert await mail.hits(1) == [(2, 1, "", 1)], "the one GET alone"


async def test_every_flipped_bit_and_every_swapped_purpose_is_a_page_and_nothing_else(mail: Mail) -> None:
    good = mail.click_path(0, mail.links[0]).removeprefix("/t/c/")
    signer = TrackingSigner(mail.api.runtime.keyring.derive("tracking"))
    raw = base64.urlsafe_b64decode(good)
    wrong = [
        base64.urlsafe_b64encode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]).decode() for at in (0, 1, 20, 40, 56)
    ]
    wrong += signer.signed(TrackingSigner.OPEN, mail.tenant_id, mail.ids[0], (1,))
    wrong += signer.signed(TrackingSigner.VIEW, mail.tenant_id, mail.ids[0], (1,))
    wrong += TrackingSigner(b"x" * 32).signed(TrackingSigner.CLICK, mail.tenant_id, mail.ids[0], (1,))
    wrong += ["", "x", "https://evil.example/", good + "/", good[:-1], f"{good}?u=https://evil.example"[:0] or "A" * 76]
    for token in wrong:
        answer = await mail.api.caller().get(f"/t/c/{token}", headers=PERSON, allow_redirects=False)
        assert answer.status in {404, 429}, token
        assert "Location" not in answer.headers
        assert "evil" not in answer.text
    answer = await mail.api.caller().get(
        f"/t/c/{good}?u=https://evil.example&utm_x=1", headers=PERSON, allow_redirects=False
    )
    assert answer.headers["Location"] == "https://shop.example/0", "what others add to a link changes nothing"


async def test_a_link_nobody_kept_and_one_of_another_tenant_lead_nowhere(api: Api, mail: Mail) -> None:
    async with api.engine(None) as uow:
        other = await tenants.create(uow, TESTER, f"other {uuid4()}")
    async with api.engine(other.id) as uow:
        await destinations.keep(uow.raw, other.id, [Link(7, "https://theirs.example/", ("https://theirs.example/",))])
    for key in (7, 12345):
        answer = await api.caller().get(mail.click_path(0, key), headers=PERSON, allow_redirects=False)
        assert (answer.status, "Location" in answer.headers) == (404, False)
        assert "text/html" in answer.headers["Content-Type"]


async def test_guessing_gets_slow_and_genuine_links_never_do(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    refill_nothing(monkeypatch)
    statuses = [(await mail.api.caller().get(f"/t/c/{number:076d}")).status for number in range(40)]
    assert statuses == [404] * 20 + [429] * 20
    answers = [await mail.click(0, 0) for _ in range(50)]
    assert {answer.status for answer in answers} == {302}
    assert (await mail.hits(50)) == [(2, 1, "", 50)]


@pytest.mark.parametrize(
    ("headers", "machine"),
    [
        ({}, ""),
        ({"User-Agent": GOOGLE}, ""),
        ({"User-Agent": ""}, "no_agent"),
        ({"User-Agent": "Mozilla/5.0"}, "privacy_proxy"),
        ({"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}, "agent"),
        ({"User-Agent": "curl/8.9"}, "agent"),
        ({"Purpose": "prefetch"}, "prefetch"),
        ({"Sec-Purpose": "prefetch;prerender"}, "prefetch"),
    ],
)
async def test_who_it_was_is_told_by_what_they_say(mail: Mail, headers: dict[str, str], machine: str) -> None:
    await mail.click(0, 0, **headers)
    await mail.opened(0, **headers)
    assert await mail.hits(2) == [(1, 0, machine, 1), (2, 1, machine, 1)]


async def test_a_scanners_network_is_told_by_its_address(migrated_url: str) -> None:
    async with api_of(migrated_url, tracking_flush_s=0.01, tracking_scanner_networks=["127.0.0.0/8"]) as api:
        mail = await Mail.open(api)
        await mail.click(0, 0)
        assert await mail.hits(1) == [(2, 1, "network", 1)]


async def test_people_are_counted_once_machines_apart_and_the_story_is_told_once(mail: Mail) -> None:
    for _ in range(3):
        await mail.opened(0)
        await mail.click(0, 0)
    await mail.click(0, 1)
    await mail.opened(1, **{"User-Agent": "Mozilla/5.0"})
    await mail.hits(8)
    assert await mail.judge() > 0
    await mail.click(0, 0)
    await mail.hits(1)
    await mail.judge()
    found = await mail.results()
    assert (found.opens.people, found.opens.hits, found.opens.machines, found.opens.machine_hits) == (1, 3, 1, 1)
    assert (found.clicks.people, found.clicks.hits, found.clicks.machines) == (1, 5, 0)
    story = await mail.events(0)
    assert [kind for kind, _ in story] == ["clicked", "clicked", "opened"] or len(story) == 3
    assert sorted(kind for kind, _ in story) == ["clicked", "clicked", "opened"]
    assert '"url": "https://shop.example/1"' in " ".join(data for _, data in story)
    assert await mail.events(1) == [("machine_opened", '{"machine": "privacy_proxy"}')]


async def test_results_break_down_by_hour_link_domain_and_content(api: Api) -> None:
    mail = await Mail.open(api, 4)
    for number in range(3):
        await mail.click(number, 0)
    await mail.click(0, 1)
    await mail.opened(3)
    await mail.hits(5)
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE tracking_hits SET at = '2026-03-01T09:59:59Z'")
        await uow.raw.execute("UPDATE messages SET finished_at = '2026-03-01T08:59:59Z'")
    await mail.judge()
    caller = api.caller(await api.key("campaigns:read", "messages:read"))
    base = f"/api/v1/campaigns/{mail.campaign_id}/results"
    links = (await caller.get(f"{base}/links")).json["items"]
    assert [(each["url"], each["people"], each["hits"]) for each in links] == [
        ("https://shop.example/0", 3, 3),
        ("https://shop.example/1", 1, 1),
    ]
    first = (await caller.get(f"{base}/links?limit=1")).json
    second = (await caller.get(f"{base}/links?limit=1&cursor={first['next_cursor']}")).json
    assert [each["url"] for each in (*first["items"], *second["items"])] == [each["url"] for each in links]
    domains = (await caller.get(f"{base}/domains")).json["items"]
    assert [(each["domain"], each["sent"], each["opened"], each["clicked"]) for each in domains] == [
        ("a.example", 2, 0, 2),
        ("b.example", 2, 1, 1),
    ]
    hours = (await caller.get(f"{base}/hours")).json["items"]
    assert [(each["hour"], each["opened"], each["clicked"], each["machine_clicked"]) for each in hours] == [
        ("2026-03-01T09:00:00Z", 1, 3, 0)
    ]
    (content,) = (await caller.get(f"{base}/contents")).json
    assert (content["content_id"], content["opened"], content["clicked"]) == (str(mail.content_id), 1, 3)
    whole = (await caller.get(base)).json
    assert (whole["clicks"]["people"], whole["clicks"]["hits"]) == (3, 4)
    everything = (await caller.get("/api/v1/results/hours?since=2020-01-01T00:00:00Z")).json["items"]
    assert sum(each["clicked"] for each in everything) >= 3
    assert (await caller.get("/api/v1/results/hours?until=2020-01-01T00:00:00Z")).json["items"] == []
    known = (await caller.get(f"/api/v1/messages/{mail.ids[0]}/responses")).json
    assert {(each["kind"], each["url"], each["hits"]) for each in known} == {
        ("click", None, 2),
        ("click", "https://shop.example/0", 1),
        ("click", "https://shop.example/1", 1),
    }


async def test_what_went_in_an_hour_is_what_was_sent_then_however_late_it_is_reported(mail: Mail) -> None:
    async with mail.api.engine() as uow:
        await uow.raw.execute(
            "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n) "
            "SELECT $1, $2, '2026-03-01T00:00:00Z'::timestamptz + h * interval '1 hour', state, '', n "
            "FROM unnest('{8,9,9,9,10,10,10}'::int[], '{sent,sent,sent,delivered,sent,bounced,failed}'::text[], "
            "            '{9,-6,2,6,-3,1,2}'::int[]) t(h, state, n)",
            DEFAULT_TENANT, mail.lane_id,
        )  # fmt: skip
    caller = mail.api.caller(await mail.api.key("campaigns:read"))
    of_campaign = (await caller.get(f"/api/v1/campaigns/{mail.campaign_id}/results/hours")).json["items"]
    of_tenant = (await caller.get("/api/v1/results/hours?since=2026-03-01T00:00:00Z")).json["items"]
    assert [each["sent"] for each in of_campaign] == [9, 2, 0]
    assert [each["sent"] for each in of_tenant] == [9, 2, 0]


async def test_three_links_at_once_and_anything_too_soon_are_machines(api: Api) -> None:
    after_s = [(0.0, 0.5, 1.9), (0.0, 0.5), (0.0, 0.5, 2.1), (1.9,), (2.1,)]
    mail = await Mail.open(api, len(after_s))
    for number, moments in enumerate(after_s):
        for link in range(len(moments)):
            await mail.click(number, link)
    await mail.hits(10)
    async with api.engine() as uow:  # how fast this machine stored them is not what is judged
        begin = await uow.raw.fetchval("SELECT min(at) - interval '1 minute' FROM tracking_hits")
        for number, moments in enumerate(after_s):
            for link, moment_s in enumerate(moments, 1):
                await uow.raw.execute(
                    "UPDATE tracking_hits SET at = $3 WHERE message_id = $1 AND link = $2",
                    mail.ids[number], link, begin + timedelta(seconds=moment_s),
                )  # fmt: skip
        await uow.raw.execute("UPDATE messages SET finished_at = $2 WHERE id = ANY($1)", mail.ids[3:], begin)
    assert await mail.judge() == 10
    async with api.app() as uow:
        why = [{each.machine for each in await results.of_message(uow, each)} for each in mail.ids]
    assert why == [{"burst"}, {""}, {""}, {"too_soon"}, {""}]


@pytest.mark.parametrize("scope", ["tenant", "sender", "campaign"])
async def test_what_is_switched_off_is_no_longer_recorded_and_links_go_on_leading(api: Api, scope: Any) -> None:
    mail = await Mail.open(api)
    scope_id: UUID = {"tenant": mail.tenant_id, "sender": mail.sender_id, "campaign": mail.campaign_id}[scope]
    async with api.app() as uow:
        await choices.choose(uow, TESTER, scope, scope_id, ChoiceChange(clicks=False))
    try:
        assert (await mail.click(0, 0)).status == 302
        await mail.opened(0)
        await mail.hits(2)
        await mail.judge()
        found = await mail.results()
        assert (found.clicks.people, found.opens.people) == (0, 1)
        assert [kind for kind, _ in await mail.events(0)] == ["opened"]
    finally:
        async with api.app() as uow:
            await choices.choose(uow, TESTER, scope, scope_id, ChoiceChange(clicks=True))


async def test_a_message_that_is_no_longer_kept_leads_on_and_is_not_recorded(mail: Mail) -> None:
    await mail.click(0, 0)
    await mail.hits(1)
    async with mail.api.engine() as uow:
        await uow.raw.execute("DELETE FROM messages WHERE id = $1", mail.ids[0])
    assert await mail.judge() == 1
    assert (await mail.click(0, 0)).status == 302
    assert (await mail.click(0, 4)).status == 404, "its variables are gone with it"
    assert await mail.events(0) == []


async def test_hits_wait_for_each_other_and_are_taken_with_their_message(mail: Mail) -> None:
    await mail.click(0, 0)
    await mail.hits(1)
    assert await mail.judge(wait_s=60) == 0
    async with mail.api.engine() as uow:
        await uow.raw.execute(
            "UPDATE tracking_hits SET at = at - interval '2 minutes' WHERE message_id = $1", mail.ids[0]
        )
    await mail.click(0, 1)
    await mail.hits(2)
    assert await mail.judge(wait_s=60) == 2, "the young one goes with the old one"


async def test_one_process_at_a_time_judges_a_tenant(mail: Mail) -> None:
    await mail.click(0, 0)
    await mail.hits(1)
    async with mail.api.engine() as uow:
        assert await uow.raw.fetchval(
            "SELECT pg_try_advisory_xact_lock(hashtextextended('outrider tracking ' || $1::uuid::text, 0))",
            DEFAULT_TENANT,
        )
        assert await mail.judge() == 0
    assert await mail.judge() == 1
    assert (await mail.results()).clicks.people == 1


async def test_a_judgement_that_fails_half_way_leaves_everything_as_it_was(
    mail: Mail, monkeypatch: pytest.MonkeyPatch
) -> None:
    await mail.click(0, 0)
    await mail.hits(1)

    async def broken(*_: Any) -> None:
        raise Unavailable("database_unavailable", "gone")

    with monkeypatch.context() as patch:
        patch.setattr("outrider.domain.tracking.judge._tell", broken)
        with pytest.raises(Unavailable):
            await mail.judge()
    assert await mail.hits(1) == [(2, 1, "", 1)]
    assert (await mail.results()).clicks.people == 0
    await mail.judge()
    assert (await mail.results()).clicks.people == 1


async def test_what_was_answered_is_stored_when_the_process_stops(migrated_url: str) -> None:
    async with api_of(migrated_url, tracking_flush_s=5.0) as api:
        mail = await Mail.open(api)
        for _ in range(3):
            await mail.click(0, 0)
        await mail.opened(1)
    async with api_of(migrated_url) as later:
        mail.api = later
        assert await mail.hits(4) == [(1, 0, "", 1), (2, 1, "", 3)]


async def test_a_flood_of_first_clicks_asks_the_database_once(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = destinations.find

    async def counting(raw: Any, tenant_id: UUID, key: int) -> Any:
        asked.append(key)
        return await real(raw, tenant_id, key)

    monkeypatch.setattr(destinations, "find", counting)
    answers = await asyncio.gather(*(mail.click(0, 2) for _ in range(30)))
    assert {answer.status for answer in answers} == {302}
    assert asked == [3]


async def test_figures_say_how_many_came_and_nothing_of_whom(mail: Mail) -> None:
    await mail.click(0, 0)
    await mail.click(0, 0, **{"User-Agent": "curl/8"})
    text = (await mail.api.caller().get("/metrics")).text
    assert 'outrider_tracking_hits_total{app="outrider",kind="click",result="person"} 1.0' in text
    assert 'outrider_tracking_hits_total{app="outrider",kind="click",result="machine"} 1.0' in text
    assert 'route="/t/c/{token}"' in text
    assert str(mail.ids[0]) not in text


async def test_choices_are_made_through_the_api_and_audited(api: Api, mail: Mail) -> None:
    caller = api.caller(await api.key("tenant:read", "tenant:write", "campaigns:read", "campaigns:write"))
    path = f"/api/v1/campaigns/{mail.campaign_id}/tracking"
    assert (await caller.get(path)).json["opens"] is True
    answer = await caller.patch(path, {"opens": False, "reason": "no pixels"})
    assert (answer.status, answer.json["opens"], answer.json["clicks"]) == (200, False, True)
    assert (await caller.patch(path, {"transactional": True})).code == "tenant_only"
    assert (await caller.patch(path, {"opens": "yes"})).status in {400, 422}
    assert (await caller.get(f"/api/v1/campaigns/{uuid4()}/tracking")).status == 404
    assert (await caller.patch("/api/v1/tracking", {"transactional": True})).json["transactional"] is True
    assert (await caller.patch("/api/v1/tracking", {"transactional": False})).json["transactional"] is False
    async with api.engine() as uow:
        rows = await uow.raw.fetch(
            "SELECT reason, details::text FROM audit_log WHERE action = 'tracking.choose' AND target_id = $1",
            str(mail.campaign_id),
        )
    assert [tuple(row) for row in rows] == [("no pixels", '{"opens": false}')]
    assert RULES.soon_s > 0
