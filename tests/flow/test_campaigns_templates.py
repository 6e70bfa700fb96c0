"""Templates and contents: compiled and tried when they are saved, stored once, never changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Attachment
from outrider.domain.templates import contents, templates
from outrider.domain.templates.templates import Source
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office

FILE = Attachment("a.txt", "text/plain", b"\x00file\xff")


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        yield found


async def save(office: Office, **parts: Any) -> Any:
    given = {"subject": "s", "html": None, "text": "t", "is_template": False, **parts}
    async with office.engine() as uow:
        return await contents.save(uow, office.channels["email"], office.renderer, **given)


async def test_the_same_content_is_stored_once_and_any_difference_is_another(office: Office) -> None:
    first = await save(office)
    assert await save(office) == first
    others = [
        await save(office, subject="s2"),
        await save(office, text="t2"),
        await save(office, html="<p>t</p>"),
        await save(office, preheader="p"),
        await save(office, is_template=True),
        await save(office, attachments=[FILE]),
        await save(office, attachments=[Attachment("b.txt", "text/plain", FILE.content)]),
        await save(office, subject="st", text="t"),
    ]
    assert len({first, *others}) == 9


async def test_two_that_save_the_same_at_once_get_the_same(office: Office) -> None:
    found = await asyncio.gather(*(save(office, attachments=[FILE]) for _ in range(5)))
    assert len(set(found)) == 1
    assert await office.fetch("SELECT count(*) FROM content_attachments") == [(1,)]


async def test_what_is_loaded_is_what_was_saved(office: Office) -> None:
    content_id = await save(office, html="<p>Hi {{ name }}</p>", preheader="look", is_template=True, attachments=[FILE])
    literal = await save(office, text="{{ 7 * 7 }}")
    async with office.engine() as uow:
        found = await contents.load(uow.raw, office.tenant, [content_id, literal])
        assert await contents.load(uow, await office.other_tenant(), [content_id]) == {}
    content = found[content_id]
    assert (content.subject, content.html, content.text) == ("s", "<p>Hi {{ name }}</p>", "t")
    assert (content.preheader, content.attachments, content.is_template) == ("look", (FILE,), True)
    assert content.compiled is not None
    assert len(content.version_key) == 64
    assert (found[literal].text, found[literal].is_template) == ("{{ 7 * 7 }}", False)


async def test_content_that_is_used_again_after_long_is_new_to_retention(office: Office) -> None:
    content_id = await save(office)
    await office.fetch("UPDATE contents SET created_at = now() - interval '80 days'")
    assert await save(office) == content_id
    assert await office.fetch("SELECT created_at > now() - interval '1 minute' FROM contents") == [(True,)]


@pytest.mark.parametrize(
    ("parts", "field", "code"),
    [
        ({"subject": "Hi {{ name"}, "subject", "invalid_template"),
        ({"text": "a\nb\n{% if %}{% endfor %}"}, "text", "invalid_template"),
        ({"text": "{% include '/etc/passwd' %}"}, "text", "invalid_template"),
        ({"html": "<p>{{ x | nofilter }}</p>"}, "html", "invalid_template"),
        ({"subject": "  "}, "subject", "required"),
        ({"subject": "hi\r\nBcc: v@x.co"}, "subject", "header_newline"),
        ({"subject": "=?utf-8?q?x=0D=0ABcc:_v=40e.co?="}, "subject", "invalid_header"),
        ({"text": "a\0b"}, "text", "invalid_character"),
        ({"text": "a\n\ufffeb"}, "text", "invalid_character"),
        ({"text": "x" * 2_000_001}, "text", "too_long"),
    ],
)
async def test_a_mistake_is_named_when_the_template_is_saved_and_nothing_is_stored(
    office: Office, parts: dict[str, str], field: str, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        await office.template(**parts)
    assert (refused.value.field, refused.value.code) == (field, code)
    assert await office.fetch("SELECT (SELECT count(*) FROM templates) + (SELECT count(*) FROM contents)") == [(0,)]


async def test_the_line_of_a_mistake_is_told(office: Office) -> None:
    with pytest.raises(RefusedMany) as refused:
        await office.template(text="one\ntwo\n{{ three")
    assert refused.value.errors[0].data["line"] == 3


async def test_versions_are_counted_kept_and_never_changed(office: Office) -> None:
    made = await office.template("letter", text="one")
    async with office.app() as uow:
        args = (uow, office.channels, office.renderer, ACTOR, made.id)
        second = await templates.add_version(*args, Source(subject="S", text="two", attachments=[FILE]))
        same = await templates.add_version(*args, Source(subject="S", text="two", attachments=[FILE]))
        assert (second.version, same) == (2, second)
        third = await templates.add_version(*args, Source(subject="Hello {{ name }}", text="one"))
        assert third.version == 3
        assert [one.version for one in await templates.versions(uow, made.id, limit=2)] == [3, 2]
        assert [one.version for one in await templates.versions(uow, made.id, limit=2, before=2)] == [1]
        assert (await templates.source_of(uow, made.id, 1)).text == "one"
        latest = await templates.source_of(uow, made.id, 2)
        assert [(one.name, one.size_bytes) for one in latest.attachments] == [("a.txt", len(FILE.content))]
        assert third.content_id == (await templates.version_of(uow, made.id, 1)).content_id
        with pytest.raises(Refused) as refused:
            await templates.source_of(uow, made.id, 4)
        assert refused.value.field == "/version"


async def test_two_that_add_a_version_at_once_get_two_numbers(office: Office) -> None:
    made = await office.template("letter")

    async def add(number: int) -> int:
        async with office.app() as uow:
            source = Source(subject="S", text=f"text {number}")
            return (await templates.add_version(uow, office.channels, office.renderer, ACTOR, made.id, source)).version

    assert sorted(await asyncio.gather(*(add(number) for number in range(4)))) == [2, 3, 4, 5]


async def test_an_archived_template_takes_no_version_until_it_is_restored(office: Office) -> None:
    made = await office.template("letter")
    async with office.app() as uow:
        await templates.archive(uow, ACTOR, made.id, is_archived=True)
        assert await templates.listed(uow, limit=10) == []
        assert len(await templates.listed(uow, limit=10, with_archived=True)) == 1
        args = (uow, office.channels, office.renderer, ACTOR, made.id, Source(subject="S", text="x"))
        with pytest.raises(Refused) as refused:
            await templates.add_version(*args)
        assert refused.value.code == "archived"
        await templates.archive(uow, ACTOR, made.id, is_archived=False)
        assert (await templates.add_version(*args)).version == 2


async def test_names_of_templates_are_taken_once_and_other_tenants_see_nothing(office: Office) -> None:
    made = await office.template("letter")
    with pytest.raises(Refused) as refused:
        await office.template(" letter ")
    assert refused.value.code == "name_taken"
    async with office.app(await office.other_tenant()) as uow:
        assert await templates.listed(uow, limit=10) == []
        with pytest.raises(Refused):
            await templates.source_of(uow, made.id)
