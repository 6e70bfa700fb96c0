"""Contacts, addresses and consent on a real database under row-level security."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.domain.contacts import consent, lists, read, write
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.contacts.views import AddressView, ContactView
from outrider.domain.contacts.write import ContactChange, NewContact
from tests.kit.audience import ACTOR, Audience, opened


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


async def made(audience: Audience, *addresses: str, tenant: UUID | None = None, **fields: object) -> ContactView:
    new = NewContact(addresses=[AddressView("email", address) for address in addresses], **fields)  # type: ignore[arg-type]  # each case names its own
    async with audience.app(tenant) as uow:
        return await write.create(uow, audience.channels, ACTOR, new)


async def test_a_contact_is_found_by_its_address_typed_in_any_form(audience: Audience) -> None:
    ann = await made(audience, "Ann@Example.ORG", name="Ann", attributes={"city": "Bonn"}, timezone="Europe/Berlin")
    async with audience.app() as uow:
        found = await read.by_address(uow, audience.channels, "email", "ANN@EXAMPLE.org")
        assert found == ann
        assert await read.by_address(uow, audience.channels, "email", "bob@example.org") is None
        assert [address.address for address in ann.addresses] == ["ann@example.org"]


async def test_an_address_belongs_to_one_contact_and_a_refusal_leaves_nothing(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org")
    with pytest.raises(Refused) as refused:
        await made(audience, "bob@example.org", "ANN@example.org", name="Bob")
    assert (refused.value.code, refused.value.field) == ("address_taken", "/addresses/1/address")
    assert refused.value.data["contact_id"] == str(ann.id)
    assert await audience.fetch("SELECT count(*) FROM contacts") == [(1,)]


async def test_an_external_id_belongs_to_one_contact(audience: Audience) -> None:
    await made(audience, external_id="7")
    other = await made(audience, "b@example.org")
    with pytest.raises(Refused) as refused:
        await made(audience, external_id="7")
    assert (refused.value.code, refused.value.http_status) == ("external_id_taken", 409)
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await write.update(uow, ACTOR, other.id, ContactChange(external_id="7"))
    assert refused.value.code == "external_id_taken"


async def test_one_of_two_at_the_same_instant_gets_the_address(audience: Audience) -> None:
    results = await asyncio.gather(
        *(made(audience, "ann@example.org", name=f"n{number}") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(result, ContactView) for result in results) == 1
    assert {result.code for result in results if isinstance(result, Refused)} == {"address_taken"}


async def test_a_change_merges_attributes_and_leaves_what_it_does_not_name(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org", name="Ann", attributes={"city": "Bonn", "plan": "free"}, locale="de")
    async with audience.app() as uow:
        change = ContactChange(attributes={"city": None, "plan": "gold", "age": 4}, timezone="Europe/Berlin")
        now = await write.update(uow, ACTOR, ann.id, change)
    assert (now.name, now.locale, now.timezone) == ("Ann", "de", "Europe/Berlin")
    assert now.attributes == {"plan": "gold", "age": 4}


async def test_addresses_are_added_and_taken_away(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org")
    await made(audience, "bob@example.org")
    async with audience.app() as uow:
        now = await write.add_address(uow, audience.channels, ACTOR, ann.id, AddressView("email", "Ann2@example.org"))
        again = await write.add_address(uow, audience.channels, ACTOR, ann.id, AddressView("email", "ann2@example.org"))
        assert now == again
        assert [address.address for address in now.addresses] == ["ann@example.org", "ann2@example.org"]
        left = await write.remove_address(
            uow, audience.channels, ACTOR, ann.id, AddressView("email", "ann@example.org")
        )
        assert [address.address for address in left.addresses] == ["ann2@example.org"]
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await write.remove_address(uow, audience.channels, ACTOR, ann.id, AddressView("email", "bob@example.org"))
    assert refused.value.http_status == 404


async def test_another_tenant_sees_nothing_and_may_have_the_same_address(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org", external_id="1")
    other = await audience.other_tenant()
    theirs = await made(audience, "ann@example.org", external_id="1", tenant=other)
    assert theirs.id != ann.id
    async with audience.app(other) as uow:
        assert [contact.id for contact in await read.listed(uow, limit=10)] == [theirs.id]
        with pytest.raises(Refused):
            await read.get(uow, ann.id)
        with pytest.raises(Refused):
            await write.update(uow, ACTOR, ann.id, ContactChange(name="x"))
        with pytest.raises(Refused):
            await consent.set_consent(
                uow, audience.channels, ACTOR, ann.id, ConsentStatement("email", "news", "granted", "x")
            )


async def test_pages_follow_one_another_without_gaps(audience: Audience) -> None:
    ids = [(await made(audience, f"p{number}@example.org")).id for number in range(7)]
    found: list[UUID] = []
    async with audience.app() as uow:
        while batch := await read.listed(uow, limit=3, after=found[-1] if found else None):
            found += [contact.id for contact in batch]
    assert found == ids


async def test_every_change_is_audited_with_who_did_it_and_no_address(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org")
    async with audience.app() as uow:
        await write.update(uow, ACTOR, ann.id, ContactChange(name="Ann"))
        await write.add_address(uow, audience.channels, ACTOR, ann.id, AddressView("email", "b@example.org"))
    rows = await audience.fetch("SELECT action, actor, target_id, details::text FROM audit_log ORDER BY seq")
    assert [row[0] for row in rows] == ["contact.create", "contact.update", "contact.add_address"]
    assert {row[1:3] for row in rows} == {("ann@example.org", str(ann.id))}
    assert not any("b@example.org" in row[3] for row in rows)


def said(status: str, **more: str | None) -> ConsentStatement:
    return ConsentStatement("email", "marketing", status, more.pop("source", None) or "form", **more)  # type: ignore[arg-type]  # each case names its own


async def test_what_a_recipient_withdrew_is_granted_again_only_with_proof(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org")
    async with audience.app() as uow:
        assert await consent.set_consent(uow, audience.channels, ACTOR, ann.id, said("granted"))
        assert not await consent.set_consent(uow, audience.channels, ACTOR, ann.id, said("granted"))
        assert await consent.withdraw(uow, ann.id, "email", "marketing", source="message:1", ip="192.0.2.1")
        assert not await consent.withdraw(uow, ann.id, "email", "marketing", source="message:1", ip="192.0.2.1")
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await consent.set_consent(uow, audience.channels, ACTOR, ann.id, said("granted"))
    assert refused.value.code == "withdrawn_by_recipient"
    async with audience.app() as uow:
        proved = said("granted", text_shown="Yes, write to me.", form_version="3", ip="192.0.2.7")
        assert await consent.set_consent(uow, audience.channels, ACTOR, ann.id, proved)
        events = await read.consent_history(uow, ann.id)
        (holds,) = (await read.get(uow, ann.id)).consents
    assert [event.status for event in events] == ["granted", "granted", "withdrawn", "granted"]
    assert (events[-1].text_shown, events[-1].ip) == ("Yes, write to me.", "192.0.2.7")
    assert holds.status == "granted"


async def test_the_proof_of_consent_cannot_be_changed_by_the_application(audience: Audience) -> None:
    ann = await made(audience, "ann@example.org")
    async with audience.app() as uow:
        await consent.set_consent(uow, audience.channels, ACTOR, ann.id, said("granted"))
    for statement in ("UPDATE consent_events SET status = 'withdrawn'", "DELETE FROM consent_events"):
        with pytest.raises(Exception, match="permission denied"):
            async with audience.app() as uow:
                await uow.raw.execute(statement)


@pytest.mark.parametrize("source", ["", " ", "a\nb", "x" * 201])
async def test_consent_says_where_it_is_known_from(audience: Audience, source: str) -> None:
    ann = await made(audience)
    statement = ConsentStatement("email", "marketing", "granted", source)
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await consent.set_consent(uow, audience.channels, ACTOR, ann.id, statement)
    assert refused.value.field == "/source"


async def test_lists_hold_contacts_and_say_what_became_of_each(audience: Audience) -> None:
    people = [await made(audience, f"p{number}@example.org") for number in range(3)]
    stranger = uuid4()
    async with audience.app() as uow:
        news = await lists.create(uow, ACTOR, "News")
        done = await lists.add_members(uow, ACTOR, news.id, [people[0].id, people[1].id, people[1].id, stranger])
        assert (done.changed_count, done.unchanged_count, done.unknown) == (2, 0, [stranger])
        done = await lists.add_members(uow, ACTOR, news.id, [people[1].id, people[2].id])
        assert (done.changed_count, done.unchanged_count) == (1, 1)
        done = await lists.remove_members(uow, ACTOR, news.id, [people[0].id])
        assert done.changed_count == 1
        assert (await lists.get(uow, news.id)).member_count == 2
        members = await lists.members(uow, news.id, limit=10)
        assert [member.contact_id for member in members] == sorted([people[1].id, people[2].id])


async def test_the_name_of_a_list_is_its_own(audience: Audience) -> None:
    async with audience.app() as uow:
        news = await lists.create(uow, ACTOR, "News")
        await lists.create(uow, ACTOR, "Offers")
        with pytest.raises(Refused) as refused:
            await lists.create(uow, ACTOR, " News ")
        assert refused.value.code == "name_taken"
        with pytest.raises(Refused) as refused:
            await lists.rename(uow, ACTOR, news.id, "Offers")
        assert refused.value.code == "name_taken"
        assert (await lists.rename(uow, ACTOR, news.id, "Letters")).name == "Letters"
        await lists.delete(uow, ACTOR, news.id)
        with pytest.raises(Refused):
            await lists.get(uow, news.id)
    async with audience.app(await audience.other_tenant()) as uow:
        assert await lists.listed(uow, limit=10) == []
        assert (await lists.create(uow, Actor("cli", "cli:bob"), "Offers")).name == "Offers"
