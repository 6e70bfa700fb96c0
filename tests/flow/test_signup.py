"""Signing up: nothing without a confirmation, nothing learnt about an address, nobody back against their word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.contracts.actor import Actor
from outrider.domain.contacts import offers
from outrider.domain.people import erase
from outrider.domain.signup import forms
from outrider.domain.signup.forms import FormChange
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.api import TESTER, Api, api_of
from tests.kit.signup import CONSENT, FORM_TYPE, Shop, opened

ANN = "ann@example.org"
THANKS = "Look into your mailbox"


@pytest.fixture
async def api(migrated_url: str) -> AsyncIterator[Api]:
    async with api_of(migrated_url) as running:
        yield running


@pytest.fixture
async def shop(api: Api) -> Shop:
    return await opened(api)


async def test_filling_in_makes_no_contact_but_a_mail_with_a_link_in_one_transaction(shop: Shop) -> None:
    answer = await shop.fill(ANN, "News")
    assert (answer.status, THANKS in answer.text) == (200, True)
    assert await shop.contact(ANN) is None
    async with shop.api.engine() as uow:
        (message,) = await uow.raw.fetch(
            "SELECT m.address, m.purpose, l.message_class FROM messages m JOIN lanes l ON l.id = m.lane_id"
        )
        (signup,) = await uow.raw.fetch("SELECT state, text_shown, form_version, ip, source, mail_count FROM signups")
    assert tuple(message) == (ANN, "confirmation", "transactional")
    assert tuple(signup) == ("waiting", CONSENT, 1, "127.0.0.1", "page", 1)


async def test_nothing_a_visitor_typed_is_mailed_to_somebody_else(api: Api) -> None:
    shop = await opened(api, asks_name=True)
    await shop.fill(ANN, name="Buy at evil.example")
    async with api.engine() as uow:
        row = await uow.raw.fetchrow(
            "SELECT m.variables::text || c.subject || c.html || c.text FROM messages m "
            "JOIN contents c ON c.id = m.content_id"
        )
    assert "evil" not in row[0]


async def test_looking_at_the_link_confirms_nobody_and_pressing_does(shop: Shop) -> None:
    await shop.fill(ANN, "News")
    (path,) = await shop.links()
    before = await shop.digest()
    for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE"):
        await shop.api.caller().ask(method, path)
    assert await shop.digest() == before
    page = await shop.api.caller().get(path)
    assert "a…@example.org" in page.text
    assert ANN not in page.text
    answer = await shop.confirm(path)
    assert (answer.status, "<h1>Confirmed</h1>" in answer.text) == (200, True)
    found = await shop.contact(ANN)
    assert found is not None
    assert (found["on"], found["consent"]) == ({"News"}, "granted")


async def test_the_proof_names_text_version_both_moments_and_both_places(shop: Shop) -> None:
    await shop.fill(ANN, "News")
    (path,) = await shop.links()
    await shop.confirm(path)
    (proof,) = await shop.proof(ANN)
    assert (proof["status"], proof["purpose"], proof["text_shown"]) == ("granted", "marketing", CONSENT)
    assert proof["form_version"] == f"{shop.form.id}:1"
    assert proof["ip"] == "127.0.0.1"
    assert proof["source"].startswith(f"form:{shop.form.id} signup:")
    assert "from 127.0.0.1 (page)" in proof["source"]


async def test_pressing_twice_and_at_once_confirms_once(shop: Shop) -> None:
    await shop.fill(ANN)
    (path,) = await shop.links()
    answers = await asyncio.gather(*(shop.confirm(path) for _ in range(6)))
    assert {answer.status for answer in answers} == {200}
    before = await shop.digest()
    await shop.confirm(path)
    assert await shop.digest() == before
    assert len(await shop.proof(ANN)) == 1
    async with shop.api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM contacts") == 1


async def test_nobody_confirms_what_a_stranger_filled_in_after_they_looked(shop: Shop) -> None:
    await shop.fill(ANN, "News")
    (path,) = await shop.links()
    seen = (await shop.api.caller().get(path)).text.split('name="seen" value="')[1][:32]
    await shop.fill(ANN, "Offers")
    for given in ({"do": "confirm", "seen": seen}, {"do": "confirm"}):
        answer = await shop.press(path, given)
        assert ("filled in once more" in answer.text, "Offers" in answer.text) == (True, True)
    assert await shop.contact(ANN) is None
    await shop.confirm(path)
    found = await shop.contact(ANN)
    assert found is not None
    assert found["on"] == {"Offers"}


async def test_two_forms_confirmed_at_once_make_one_contact(shop: Shop) -> None:
    other = await opened(shop.api, "Seeds")
    await shop.fill(ANN)
    await shop.execute("UPDATE signups SET mailed_at = now() - interval '1 hour'")
    await other.fill(ANN, "Seeds")
    paths = await shop.links()
    assert len(paths) == 2
    await asyncio.gather(*(shop.confirm(path) for path in paths))
    async with shop.api.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM contacts") == 1
        assert await uow.raw.fetchval("SELECT count(*) FROM list_members") == 2


async def test_a_used_link_brings_nobody_back_who_left_afterwards(shop: Shop) -> None:
    await shop.fill(ANN)
    (path,) = await shop.links()
    await shop.confirm(path)
    await shop.press(await shop.letter(ANN, "unsubscribe"), {"List-Unsubscribe": "One-Click"})
    before = await shop.digest()
    await shop.confirm(path)
    assert await shop.digest() == before
    assert await shop.suppressed() == [("bulk", "unsubscribe")]


async def test_a_link_past_its_time_changes_nothing_and_a_new_one_is_another(shop: Shop) -> None:
    await shop.fill(ANN)
    (old,) = await shop.links()
    await shop.execute("UPDATE signups SET expires_at = now() - interval '1 s', mailed_at = now() - interval '1 hour'")
    assert "too old" in (await shop.confirm(old)).text
    assert await shop.contact(ANN) is None
    await shop.fill(ANN)
    assert "too old" in (await shop.confirm(old)).text
    (_, new) = await shop.links()
    assert "<h1>Confirmed</h1>" in (await shop.confirm(new)).text


async def test_a_second_mail_works_as_long_as_it_says(shop: Shop) -> None:
    await shop.fill(ANN)
    await shop.execute(
        "UPDATE signups SET expires_at = now() + interval '1 hour', mailed_at = now() - interval '2 days'"
    )
    await shop.fill(ANN)
    assert len(await shop.links()) == 2
    async with shop.api.engine() as uow:
        hours = await uow.raw.fetchval("SELECT extract(epoch FROM expires_at - mailed_at) / 3600 FROM signups")
    assert hours == shop.api.runtime.settings.signup_confirm_hours


async def test_the_address_of_a_deleted_form_says_that_there_is_none(shop: Shop) -> None:
    async with shop.api.engine() as uow:
        await forms.delete(uow, TESTER, shop.form.id)
    for answer in (await shop.api.caller().get(shop.path), await shop.fill(ANN)):
        assert (answer.status, "There is no form here" in answer.text) == (404, True)


async def test_links_that_are_none_are_pages_that_say_so(shop: Shop) -> None:
    await shop.fill(ANN)
    (path,) = await shop.links()
    token = path.removeprefix("/c/")
    links = shop.links_of
    wrong = [
        f"/c/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        f"/c/{token[:-4]}",
        f"/p/{token}",
        f"/s/{token}",
        f"/u/{token}",
        f"/c/{shop.path.removeprefix('/s/')}",
        links.path("confirm", uuid4(), shop.form.id),
        links.path("confirm", DEFAULT_TENANT, uuid4()),
        links.path("form", uuid4(), shop.form.id),
        "/c/x",
        "/s/…",
    ]
    before = await shop.digest()
    for each in wrong:
        assert (await shop.api.caller().get(each)).status == 404, each
        assert (await shop.press(each, {"do": "confirm", "List-Unsubscribe": "One-Click"})).status == 404, each
    assert await shop.digest() == before


async def test_another_tenants_form_and_lists_are_out_of_reach(shop: Shop) -> None:
    async with shop.api.engine(None) as uow:
        tenant = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    theirs = await opened(shop.api, "Theirs", tenant=tenant, name="Other")
    crossed = shop.links_of.path("form", DEFAULT_TENANT, theirs.form.id)
    assert (await shop.api.caller().get(crossed)).status == 404
    shop.lists["Theirs"] = theirs.lists["Theirs"]
    answer = await shop.fill(ANN, "Theirs")
    assert answer.status == 422
    assert await shop.links() == []


@pytest.mark.parametrize(
    ("reason", "scope", "is_installation"),
    [
        ("complaint", "all", False),
        ("complaint", "bulk", False),
        ("stop", "bulk", False),
        ("erased", "all", False),
        ("hard_bounce", "all", False),
        ("manual", "bulk", False),
        ("unsubscribe", "all", False),
        ("unsubscribe", "bulk", True),
        ("complaint", "all", True),
    ],
)
async def test_what_stands_against_an_address_is_neither_shown_nor_lifted(
    shop: Shop, reason: str, scope: str, *, is_installation: bool
) -> None:
    unknown = await shop.fill("unknown@example.org")
    await shop.fill(ANN)
    (_, path) = await shop.links()
    await shop.suppress(ANN, reason, scope, tenant=NIL if is_installation else None)
    await shop.execute("UPDATE signups SET mailed_at = now() - interval '1 hour'")
    known = await shop.fill(ANN)
    assert known.text.replace(ANN, "") == unknown.text.replace("unknown@example.org", "")
    assert len(await shop.links()) == 2
    answer = await shop.confirm(path)
    assert "did not work" in answer.text
    assert await shop.contact(ANN) is None
    assert len(await shop.suppressed()) == 1
    async with shop.api.engine() as uow:
        assert await uow.raw.fetchval("SELECT state FROM signups WHERE address = $1", ANN) == "refused"


async def test_somebody_who_unsubscribed_may_come_back_to_what_they_choose_alone(shop: Shop) -> None:
    await shop.fill(ANN, "News", "Offers")
    (path,) = await shop.links()
    await shop.confirm(path)
    await shop.press(await shop.letter(ANN, "unsubscribe"), {"List-Unsubscribe": "One-Click"})
    await shop.execute("UPDATE signups SET mailed_at = now() - interval '1 hour'")
    await shop.fill(ANN, "Offers")
    await shop.confirm((await shop.links())[-1])
    found = await shop.contact(ANN)
    assert found is not None
    assert (found["on"], found["off"], found["consent"]) == ({"Offers"}, {"News"}, "granted")
    assert await shop.suppressed() == []
    assert [each["status"] for each in await shop.proof(ANN)] == ["granted", "withdrawn", "granted"]


async def test_known_and_unknown_addresses_get_the_same_answer(shop: Shop) -> None:
    await shop.fill(ANN)
    await shop.confirm((await shop.links())[0])
    again = await shop.fill(ANN)
    new = await shop.fill("bob@example.org")
    assert again.text.replace(ANN, "") == new.text.replace("bob@example.org", "")


async def test_an_address_is_asked_seldom_however_often_it_is_filled_in(shop: Shop) -> None:
    for _ in range(3):
        assert THANKS in (await shop.fill(ANN)).text
    assert len(await shop.links()) == 1
    for _ in range(4):
        await shop.execute("UPDATE signups SET mailed_at = now() - interval '1 hour'")
        assert THANKS in (await shop.fill(ANN)).text
    assert len(await shop.links()) == shop.api.runtime.settings.signup_mails_per_address
    assert len(set(await shop.links())) == 1


async def test_a_tenant_asks_so_many_addresses_within_an_hour(migrated_url: str) -> None:
    async with api_of(migrated_url, signup_mails_per_hour=2) as api:
        shop = await opened(api)
        answers = [await shop.fill(f"p{n}@example.org") for n in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert "Retry-After" in answers[-1].headers
        assert len(await shop.links()) == 2


async def test_one_visitor_fills_in_so_many_forms(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.fill(f"p{n}@example.org") for n in range(14)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 429


async def test_programs_fall_into_the_traps_and_people_do_not(shop: Shop) -> None:
    trapped = await shop.fill(ANN, website="http://evil.example")
    assert (trapped.status, THANKS in trapped.text) == (200, True)
    for token in (shop.token(age_s=0.0), shop.token(age_s=90_000), shop.token(age_s=-60), "", "x.y", "9" * 400 + ".z"):
        answer = await shop.fill(ANN, t=token)
        assert (answer.status, "One more step" in answer.text, ANN in answer.text) == (200, True, True)
    other = await opened(shop.api, "Seeds")
    assert "One more step" in (await shop.fill(ANN, t=other.token())).text
    assert await shop.links() == []


async def test_a_form_on_another_page_is_asked_once_more_with_what_was_typed(shop: Shop) -> None:
    fields = {"address": ANN, "agree": "yes", "list": str(shop.lists["Offers"])}
    cross = {**FORM_TYPE, "Origin": "https://shop.example", "Sec-Fetch-Site": "cross-site"}
    answer = await shop.api.caller().post(shop.path, data=urlencode(fields).encode(), headers=cross)
    assert answer.status == 200
    assert f'value="{ANN}"' in answer.text
    assert f'value="{shop.lists["Offers"]}" checked' in answer.text


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"address": "nobody"}, "Email: "),
        ({"address": ""}, "Email: "),
        ({"address": "a@b\r\nBcc: x@y.example"}, "Email: "),
        ({"agree": ""}, "tick that you agree"),
        ({"list": "x"}, "Lists: "),
    ],
)
async def test_what_is_wrong_is_said_beside_the_form(shop: Shop, fields: dict[str, str], says: str) -> None:
    given = {"address": ANN, "agree": "yes", "t": shop.token(), "list": str(shop.lists["News"]), **fields}
    answer = await shop.press(shop.path, given)
    assert (answer.status, says in answer.text) == (422, True)
    assert await shop.links() == []


async def test_markup_in_any_field_stays_text(api: Api) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>"
    shop = await opened(api, evil[:60], name="Gardens", title=evil, intro=evil, consent_text=evil, asks_name=True)
    pages = [(await api.caller().get(shop.path)).text, (await shop.fill(evil, name=evil, agree="")).text]
    await shop.fill(ANN, name=evil)
    (path,) = await shop.links()
    pages += [(await api.caller().get(path)).text, (await shop.confirm(path)).text]
    pages.append((await api.caller().get(await shop.letter(ANN))).text)
    for page in pages:
        assert "<script" not in page
        assert "<img" not in page
    found = await shop.contact(ANN)
    assert found is not None
    assert found["name"] == evil


async def test_bodies_that_are_no_forms_or_huge_are_refused_as_pages(shop: Shop) -> None:
    caller = shop.api.caller()
    before = await shop.digest()
    for path in (shop.path, shop.links_of.path("confirm", DEFAULT_TENANT, uuid4()), await shop.letter(ANN)):
        for kind, body, status in (
            ("application/json", b'{"address": "a@example.org"}', 415),
            ("text/plain", b"address=a", 415),
            ("application/x-www-form-urlencoded", b"address=" + b"a" * 30_000, 413),
            ("application/x-www-form-urlencoded", b"&".join(b"x=%d" % n for n in range(2_000)), 400),
            ("application/x-www-form-urlencoded", b"address=%ff%fe", 400),
            ("application/x-www-form-urlencoded", b"address=%00", 400),
        ):
            answer = await caller.post(path, data=body, headers={"Content-Type": kind})
            assert answer.status == status, (path, kind, body[:20])
            assert "<h1>" in answer.text
    assert await shop.digest(without=["messages", "queue"]) != ""
    assert (await shop.links(), before != "") == ([], True)


async def test_a_closed_form_and_one_without_lists_take_nobody(shop: Shop) -> None:
    async with shop.api.app() as uow:
        await forms.update(uow, TESTER, shop.form.id, FormChange(is_open=False))
    assert (await shop.api.caller().get(shop.path)).status == 404
    assert (await shop.fill(ANN)).status == 404
    async with shop.api.app() as uow:
        await forms.update(uow, TESTER, shop.form.id, FormChange(is_open=True))
        for list_id in shop.lists.values():
            await offers.withdraw(uow, TESTER, list_id)
    assert (await shop.api.caller().get(shop.path)).status == 404
    assert await shop.links() == []


async def test_the_version_of_a_form_rises_with_what_people_see(shop: Shop) -> None:
    async with shop.api.app() as uow:
        same = await forms.update(uow, TESTER, shop.form.id, FormChange(name="another name", is_open=True))
        assert same.version == 1
        text = await forms.update(uow, TESTER, shop.form.id, FormChange(consent_text="Other words."))
        assert text.version == 2
        fewer = await forms.update(uow, TESTER, shop.form.id, FormChange(list_ids=[shop.lists["News"]]))
        assert (fewer.version, [each.title for each in fewer.lists]) == (3, ["News"])


async def test_erasing_a_person_takes_what_they_filled_in(shop: Shop) -> None:
    await shop.fill(ANN)
    await shop.confirm((await shop.links())[0])
    found = await shop.contact(ANN)
    assert found is not None
    async with shop.api.engine() as uow:
        await erase.begin(uow, Actor("cli", "test"), found["id"], reason="asked")
        assert await uow.raw.fetchval("SELECT count(*) FROM signups") == 0


async def test_signups_that_ended_go_after_their_time_and_waiting_ones_stay(shop: Shop) -> None:
    for name in ("ann", "bob", "cid"):
        await shop.fill(f"{name}@example.org")
    await shop.confirm((await shop.links())[0])
    await shop.execute("UPDATE signups SET settled_at = now() - interval '31 days' WHERE address = 'ann@example.org'")
    await shop.execute("UPDATE signups SET expires_at = now() - interval '31 days' WHERE address = 'bob@example.org'")
    assert (await Upkeep(shop.api.runtime).retention())["signups"] == 2
    async with shop.api.engine() as uow:
        assert await uow.raw.fetchval("SELECT address FROM signups") == "cid@example.org"
