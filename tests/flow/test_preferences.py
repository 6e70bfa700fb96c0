"""The preference centre: each list on or off, what is off stays off, and nobody is brought back unasked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.contracts.channel import Identity
from outrider.contracts.gate import Lane
from outrider.domain.campaigns import audience
from outrider.domain.campaigns import read as campaigns
from outrider.domain.contacts import lists, offers, read, write
from outrider.domain.contacts.offers import OfferIn
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import NewContact
from outrider.domain.people import export, merge
from outrider.domain.segments import rules, segments
from outrider.domain.segments.segments import NewSegment
from outrider.domain.senders import identity, senders
from outrider.domain.senders.shown import identity_of
from outrider.domain.tenants import looks, tenants
from outrider.domain.tenants.looks import LookChange
from outrider.engine.dispatch.addresses import Addresses
from outrider.engine.dispatch.batch import Claimed
from outrider.engine.dispatch.claim import Claimer
from tests.kit.api import TESTER, Answer, Api, api_of
from tests.kit.campaigns import fanned_out, launched
from tests.kit.dispatch import GATES, Desk, Post, posts
from tests.kit.processes import until
from tests.kit.running import running_jobs
from tests.kit.signup import FORM_TYPE, Shop, opened

ANN = "ann@example.org"


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with api_of(migrated_url, data_dir=tmp_path / "data") as running:
        yield running


@pytest.fixture
async def post(migrated_url: str, tmp_path: Path) -> AsyncIterator[Post]:
    async with posts(migrated_url, tmp_path) as found:
        yield found


@pytest.fixture
async def shop(api: Api) -> Shop:
    """Ann is on the first of two lists and agreed to marketing."""
    shop = await opened(api)
    await shop.fill(ANN, "News")
    await shop.confirm((await shop.links())[0])
    return shop


async def save(shop: Shop, path: str, *titles: str, shown: bool = True) -> Answer:
    ticked = [("list", str(shop.lists[each])) for each in titles]
    known = [("shown", str(each)) for each in shop.lists.values()] if shown else []
    return await shop.press(path, [("do", "save"), *ticked, *known])


def checked(shop: Shop, page: str) -> set[str]:
    return {title for title, list_id in shop.lists.items() if f'value="{list_id}" checked' in page}


async def test_the_page_shows_what_is_on_and_looking_changes_nothing(shop: Shop) -> None:
    path = await shop.letter(ANN)
    before = await shop.digest()
    page = await shop.api.caller().get(path)
    assert (page.status, checked(shop, page.text)) == (200, {"News"})
    assert "All about Offers." in page.text
    for secret in (ANN, str(DEFAULT_TENANT)):
        assert secret not in page.text + path
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        await shop.api.caller().ask(method, path)
    assert await shop.digest() == before


async def test_one_list_off_and_another_on_is_saved_with_its_proof(shop: Shop) -> None:
    path = await shop.letter(ANN)
    answer = await save(shop, path, "Offers")
    assert (answer.status, "Saved." in answer.text, checked(shop, answer.text)) == (200, True, {"Offers"})
    found = await shop.contact(ANN)
    assert found is not None
    assert (found["on"], found["off"]) == ({"Offers"}, {"News"})
    proof = (await shop.proof(ANN))[-1]
    assert (proof["status"], proof["form_version"], proof["ip"]) == ("granted", "preferences:1", "127.0.0.1")
    assert "[x] Offers: All about Offers." in proof["text_shown"]
    assert proof["source"].startswith("message:")
    async with shop.api.engine() as uow:
        audit = await uow.raw.fetchval("SELECT actor FROM audit_log WHERE action = 'recipient.preferences'")
    assert audit == "a…@example.org"


async def test_saving_twice_or_at_once_changes_nothing_more(shop: Shop) -> None:
    path = await shop.letter(ANN)
    answers = await asyncio.gather(*(save(shop, path, "Offers") for _ in range(6)))
    assert {answer.status for answer in answers} == {200}
    before = await shop.digest()
    assert "nothing was different" in (await save(shop, path, "Offers")).text
    assert await shop.digest() == before
    assert len(await shop.proof(ANN)) == 2


async def test_lists_that_were_not_on_the_page_stay_as_they_are(shop: Shop) -> None:
    path = await shop.letter(ANN)
    before = await shop.digest()
    await save(shop, path, shown=False)
    await shop.press(path, [("do", "save"), ("list", str(uuid4())), ("shown", str(uuid4())), ("list", "x' OR 1=1")])
    assert await shop.digest() == before


async def test_a_list_turned_off_is_put_on_by_nobody_else(shop: Shop) -> None:
    await save(shop, await shop.letter(ANN))
    found = await shop.contact(ANN)
    assert found is not None
    news = shop.lists["News"]
    async with shop.api.app() as uow:
        changed = await lists.add_members(uow, TESTER, news, [found["id"]])
        assert (changed.changed_count, changed.unchanged_count, changed.turned_off_count) == (0, 0, 1)
        other = await write.create(uow, {}, TESTER, NewContact(name="Ann again"))
        await lists.add_members(uow, TESTER, news, [other.id])
    async with shop.api.engine() as uow:
        await merge.merge(uow, TESTER, found["id"], other.id)
    after = await shop.contact(ANN)
    assert after is not None
    assert (after["on"], after["off"]) == (set(), {"News"})


async def test_turning_off_and_being_put_on_at_once_ends_with_off(shop: Shop) -> None:
    found = await shop.contact(ANN)
    assert found is not None
    news, contact_id = shop.lists["News"], found["id"]

    async def put_on() -> None:
        async with shop.api.app() as uow:
            await lists.add_members(uow, TESTER, news, [contact_id])

    async def turn_off() -> None:
        async with shop.api.app() as uow:
            await offers.turn_off(uow, contact_id, [news], source="message:test")

    for _ in range(10):
        await shop.execute("DELETE FROM list_refusals")
        await shop.execute("DELETE FROM list_members")
        await asyncio.gather(put_on(), turn_off(), put_on())
        after = await shop.contact(ANN)
        assert after is not None
        assert (after["on"], after["off"]) == (set(), {"News"})


async def test_what_the_other_of_two_merged_contacts_turned_off_stays_off(shop: Shop) -> None:
    await save(shop, await shop.letter(ANN))
    found = await shop.contact(ANN)
    assert found is not None
    async with shop.api.app() as uow:
        keep = await write.create(
            uow, shop.api.runtime.channels, TESTER, NewContact(addresses=[AddressView("email", "new@example.org")])
        )
        await lists.add_members(uow, TESTER, shop.lists["News"], [keep.id])
    async with shop.api.engine() as uow:
        await merge.merge(uow, TESTER, keep.id, found["id"])
    after = await shop.contact("new@example.org")
    assert after is not None
    assert (after["on"], after["off"]) == (set(), {"News"})


async def test_everything_off_unsubscribes_and_one_on_again_brings_back_that_one_alone(shop: Shop) -> None:
    path = await shop.letter(ANN)
    await save(shop, path, "News", "Offers")
    answer = await shop.press(path, {"do": "leave"})
    assert "unsubscribed from everything" in answer.text
    assert checked(shop, answer.text) == set()
    assert await shop.suppressed() == [("bulk", "unsubscribe")]
    assert await shop.press(path, {"do": "leave"})
    back = await save(shop, path, "Offers")
    assert checked(shop, back.text) == {"Offers"}
    found = await shop.contact(ANN)
    assert found is not None
    assert (found["on"], found["off"], found["consent"]) == ({"Offers"}, {"News"}, "granted")
    assert await shop.suppressed() == []


async def test_lists_that_are_not_on_offer_do_not_come_back_with_others(shop: Shop) -> None:
    found = await shop.contact(ANN)
    assert found is not None
    async with shop.api.app() as uow:
        inner = await lists.create(uow, TESTER, "not on offer")
        await lists.add_members(uow, TESTER, inner.id, [found["id"]])
    path = await shop.letter(ANN)
    await shop.press(path, {"do": "leave"})
    await save(shop, path, "News")
    after = await shop.contact(ANN)
    assert after is not None
    assert (after["on"], after["off"]) == ({"News"}, {str(inner.id)})


@pytest.mark.parametrize(
    ("reason", "scope", "is_installation"),
    [
        ("complaint", "all", False),
        ("complaint", "bulk", False),
        ("stop", "bulk", False),
        ("erased", "all", False),
        ("hard_bounce", "all", False),
        ("manual", "bulk", False),
        ("unsubscribe", "bulk", True),
    ],
)
async def test_nobody_is_turned_on_against_what_stands(
    shop: Shop, reason: str, scope: str, *, is_installation: bool
) -> None:
    path = await shop.letter(ANN)
    await shop.suppress(ANN, reason, scope, tenant=NIL if is_installation else None)
    page = await shop.api.caller().get(path)
    assert "cannot be changed here" in page.text
    before = await shop.digest()
    answer = await save(shop, path, "News", "Offers")
    assert answer.status == 200
    assert await shop.digest() == before


async def test_somebody_without_a_contact_may_choose_and_becomes_one(shop: Shop) -> None:
    path = await shop.letter("new@example.org")
    assert checked(shop, (await shop.api.caller().get(path)).text) == set()
    await save(shop, path, "Offers")
    found = await shop.contact("new@example.org")
    assert found is not None
    assert (found["on"], found["consent"]) == ({"Offers"}, "granted")


async def test_links_that_are_none_change_nothing(shop: Shop) -> None:
    path = await shop.letter(ANN)
    token = path.removeprefix("/p/")
    links = shop.links_of
    before = await shop.digest()
    for bad in (
        f"/p/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        "/p/x",
        links.path("preferences", DEFAULT_TENANT, uuid4()),
        links.path("preferences", uuid4(), uuid4()),
        f"/c/{token}",
    ):
        assert (await shop.api.caller().get(bad)).status == 404
        assert (await save(shop, bad, "Offers")).status == 404
    assert (await shop.press(path, {"do": "x"})).status == 400
    assert await shop.digest() == before


async def test_links_of_an_erased_person_lead_nowhere(shop: Shop) -> None:
    path = await shop.letter(ANN)
    await shop.execute("UPDATE messages SET address = 'erased', contact_id = NULL, variables = NULL")
    assert (await shop.api.caller().get(path)).status == 404
    assert (await shop.press(path, {"do": "leave"})).status == 404


async def test_the_unsubscribe_page_leads_there_where_there_is_a_choice(shop: Shop) -> None:
    page = await shop.api.caller().get(await shop.letter(ANN, "unsubscribe"))
    assert 'href="/p/' in page.text
    path = page.text.partition('href="')[2].partition('"')[0]
    assert checked(shop, (await shop.api.caller().get(path)).text) == {"News"}


async def test_the_look_of_a_tenant_is_on_its_pages_and_in_their_policy(shop: Shop) -> None:
    picture = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc000000301010018dd8db0"
        "0000000049454e44ae426082"
    )
    async with shop.api.app() as uow:
        await looks.change(
            uow, TESTER, LookChange(display_name="Gärten & Söhne", colour="#006644", footer="Line 1\n<b>Line 2</b>")
        )
        await looks.set_logo(uow, TESTER, picture)
    for path in (await shop.letter(ANN), await shop.letter(ANN, "unsubscribe"), shop.path):
        answer = await shop.api.caller().get(path)
        assert "Gärten &amp; Söhne" in answer.text
        assert "#006644" in answer.text
        assert "&lt;b&gt;Line 2&lt;/b&gt;" in answer.text
        assert 'src="data:image/png;base64,' in answer.text
        policy = answer.headers["Content-Security-Policy"]
        assert "img-src data:;" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"


async def test_a_form_of_another_type_or_from_another_site_is_handled(shop: Shop) -> None:
    path = await shop.letter(ANN)
    caller = shop.api.caller()
    headers = {**FORM_TYPE, "Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    answer = await caller.post(path, data=b"do=x", headers=headers)
    assert answer.status == 400
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert (await caller.post(path, data=b"{}", headers={"Content-Type": "application/json"})).status == 415


async def test_the_link_in_a_message_opens_the_centre_of_its_recipient(shop: Shop) -> None:
    runtime = shop.api.runtime
    path = await shop.letter(ANN)
    async with shop.api.engine() as uow:
        message_id = await uow.raw.fetchval("SELECT id FROM messages WHERE purpose = 'marketing'")
    lane = Lane(shop.tenant_id, 1, "email", shop.sender_id, None, "bulk")
    claimed = Claimed(message_id, None, uuid4(), ANN, "marketing", None, 1, datetime.now(UTC), None)
    composer: Any = SimpleNamespace(
        links=(), has_pixel=False, has_web_version=False, has_preferences=True, has_preferences_footer=False
    )
    base = "https://mail.gardens.example"
    made = Addresses(runtime).item(lane, composer, claimed, Identity(shop.sender_id, "a@b.example", public_url=base))
    assert made.preferences_url == f"{base}{path}"
    composer.has_preferences = False
    assert Addresses(runtime).item(lane, composer, claimed, Identity(uuid4(), "a@b.example")).preferences_url == ""
    composer.has_preferences_footer = True
    own = Identity(shop.sender_id, "a@b.example", public_url=base)
    assert Addresses(runtime).item(lane, composer, claimed, own).preferences_url == f"{base}{path}"
    single = replace(lane, message_class="transactional")
    assert Addresses(runtime).item(single, composer, claimed, own).preferences_url == ""


async def test_mails_lead_there_by_themselves_while_a_list_is_on_offer_and_the_tenant_lets_them(shop: Shop) -> None:
    runtime = shop.api.runtime

    async def is_shown() -> bool:
        async with shop.api.engine() as uow:
            sender = await identity.load(uow.raw, runtime.keyring, shop.tenant_id, shop.sender_id)
        async with shop.api.app(shop.tenant_id) as uow:
            shown = await identity_of(uow, await senders.get(uow, shop.sender_id))
        assert shown.has_preferences_footer == sender.identity.has_preferences_footer
        return shown.has_preferences_footer

    assert await is_shown()
    async with shop.api.engine() as uow:
        await tenants.change(uow, TESTER, shop.tenant_id, settings={"preferences_footer": False})
    assert not await is_shown()
    async with shop.api.engine() as uow:
        await tenants.change(uow, TESTER, shop.tenant_id, settings={"preferences_footer": None})
    assert await is_shown()
    async with shop.api.app(shop.tenant_id) as uow:
        for list_id in shop.lists.values():
            await offers.withdraw(uow, TESTER, list_id)
    assert not await is_shown()


async def test_an_import_puts_nobody_on_a_list_that_they_turned_off(shop: Shop) -> None:
    await save(shop, await shop.letter(ANN))
    caller = shop.api.caller(await shop.api.key("imports:write", "imports:read", role="operator"))
    csv = f"email,name\n{ANN},Ann\nbob@example.org,Bob\n".encode()
    path = f"/api/v1/imports?list_id={shop.lists['News']}"
    async with running_jobs(shop.api.runtime):
        begun = await caller.post(path, data=csv, headers={"Content-Type": "text/csv"})
        assert begun.status == 202, begun.text

        async def is_over() -> bool:
            return bool((await caller.get(f"/api/v1/imports/{begun.json['id']}")).json["state"] != "running")

        await until(is_over, what="the import to end")
    ann, bob = await shop.contact(ANN), await shop.contact("bob@example.org")
    assert ann is not None
    assert bob is not None
    assert (ann["on"], ann["off"], bob["on"]) == (set(), {"News"}, {"News"})


async def test_what_is_queued_for_a_list_ends_when_its_reader_turns_it_off(post: Post) -> None:
    desk: Desk = await post.desk()
    campaign = await launched(desk, 3)
    other = await launched(desk, 1)
    await fanned_out(post)
    rows = await post.fetch("SELECT id, contact_id FROM messages WHERE campaign_id = $1 ORDER BY id", campaign.id)
    leaving = rows[1]
    async with desk.engine() as uow:
        await offers.offer(uow, TESTER, campaign.list_id, OfferIn("News"))
        await offers.turn_off(uow, leaving["contact_id"], [campaign.list_id], source="message:test")
        # off for the other campaign's list too, which the first contact is not on
        await offers.turn_off(uow, rows[0]["contact_id"], [other.list_id], source="message:test")
    assert "list_choice" in {gate.key for gate in GATES}
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    assert set(claim.batch.messages) == {rows[0]["id"], rows[2]["id"]}
    assert await desk.states([leaving["id"]]) == ["blocked"]
    detail = await desk.message(leaving["id"])
    assert "turned off by the recipient" in str(detail)


async def test_whoever_turned_everything_off_gets_no_campaign_to_a_segment(post: Post) -> None:
    """Unless they are on another list on offer; what is not on offer says nothing."""
    desk: Desk = await post.desk()
    campaign, other = await launched(desk, 4), await launched(desk, 1)
    await fanned_out(post)
    rows = await post.fetch("SELECT id, contact_id FROM messages WHERE campaign_id = $1 ORDER BY id", campaign.id)
    async with desk.engine() as uow:
        segment = await segments.create(uow, TESTER, NewSegment("everybody", rules.AllOf([])))
        for title, each in (("News", campaign), ("Offers", other)):
            await offers.offer(uow, TESTER, each.list_id, OfferIn(title))
        for row in rows[:3]:
            await offers.turn_off(uow, row["contact_id"], [campaign.list_id], source="message:test")
        await offers.turn_on(uow, rows[1]["contact_id"], [other.list_id])
        closed = await lists.create(uow, TESTER, "closed")
        await lists.add_members(uow, TESTER, closed.id, [rows[2]["contact_id"]])
    await post.execute("UPDATE campaigns SET list_id = NULL, segment_id = $1 WHERE id = $2", segment.id, campaign.id)
    async with desk.engine() as uow:
        reach = await audience.reach(uow, await campaigns.get(uow, campaign.id))
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    assert set(claim.batch.messages) == {rows[1]["id"], rows[3]["id"]}
    assert await desk.states([rows[0]["id"], rows[2]["id"]]) == ["blocked", "blocked"]
    assert "everything on offer" in str(await desk.message(rows[0]["id"]))
    assert (reach.member_count, reach.without_consent_count) == (5, 2)


async def test_a_message_that_was_claimed_already_is_stopped_as_well(post: Post) -> None:
    desk = await post.desk()
    campaign = await launched(desk, 2)
    await fanned_out(post)
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    first = next(iter(claim.batch.messages.values()))
    assert first.contact_id is not None
    async with desk.engine() as uow:
        await offers.turn_off(uow, first.contact_id, [campaign.list_id], source="message:test")
    again = [gate for gate in GATES if gate.is_asked_again]
    async with post.engine.transaction() as raw:
        found = await Claimer(post.engine, GATES, lease_s=60).withdrawn(raw, claim.batch, again)
    assert found == {first.id: "list_choice"}


async def test_a_contact_is_exported_with_what_they_turned_off(shop: Shop) -> None:
    await save(shop, await shop.letter(ANN))
    found = await shop.contact(ANN)
    assert found is not None
    async with shop.api.engine() as uow:
        await read.get(uow, found["id"])
        head, *_ = await export._head(uow, found["id"])
    (off,) = head["lists_turned_off"]
    assert off["id"] == shop.lists["News"]
