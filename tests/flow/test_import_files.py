"""Import on a real database: what arrives, what is refused, and that nothing a recipient said is undone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import orjson
import pytest

from outrider.base.errors import Refused, Unavailable
from outrider.contracts.jobs import Superseded
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import attributes, consent, lists, read, suppressions, write
from outrider.domain.contacts.imports import control, merge, pace
from outrider.domain.contacts.imports import run as run_module
from outrider.domain.contacts.imports.batches import Overtaken
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.examine import examine
from outrider.domain.contacts.imports.options import Options
from outrider.domain.contacts.imports.resolve import resolve
from outrider.domain.contacts.imports.run import Watch, run
from outrider.domain.contacts.rows import IMPORTS
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import NewContact
from tests.kit.audience import ACTOR, Audience, import_file, opened, write_csv


@pytest.fixture
async def audience(migrated_url: str) -> AsyncIterator[Audience]:
    async with opened(migrated_url) as found:
        yield found


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> int:
    """Ten rows a batch, so that few rows are many batches."""
    monkeypatch.setattr(run_module, "BATCH_ROWS", 10)
    return 10


def people(count: int, *, start: int = 0) -> list[list[str]]:
    return [[f"p{number}@example.org", f"Person {number}"] for number in range(start, start + count)]


def sums_up(view: ImportView) -> bool:
    return view.row_count == (
        view.created_count + view.updated_count + view.unchanged_count + view.duplicate_count + view.rejected_count
    )


async def contact(audience: Audience, address: str) -> Any:
    async with audience.app() as uow:
        return await read.by_address(uow, audience.channels, "email", address)


async def test_a_file_becomes_contacts_with_addresses_and_attributes(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "people.csv",
        ["E-Mail", "Name", "Time zone", "Language", "External ID", "Home Town"],
        [[" Ann@Example.ORG ", "Ann", "Europe/Berlin", "de", "7", "Bonn"], ["bob@example.org", "", "", "", "", ""]],
    )
    view = await import_file(audience, path)
    ann = await contact(audience, "ann@example.org")
    assert (view.state, view.created_count, view.file_name) == ("completed", 2, "people.csv")
    assert sums_up(view)
    assert (ann.name, ann.timezone, ann.locale, ann.external_id) == ("Ann", "Europe/Berlin", "de", "7")
    assert ann.attributes == {"home_town": "Bonn"}
    assert (await contact(audience, "bob@example.org")).attributes == {}


async def test_a_file_gives_typed_attributes_and_tags_and_takes_no_tag_away(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    async with audience.app() as uow:
        await attributes.define(uow, ACTOR, "age", attributes.NewDefinition("number"))
    rows = [[f"p{n}@example.org", str(20 + n), "VIP, new" if n % 2 else ""] for n in range(25)]
    first = await import_file(audience, write_csv(tmp_path / "a.csv", ["email", "age", "tags"], rows))
    assert (first.created_count, first.rejected_count) == (25, 0)
    odd, even = await contact(audience, "p1@example.org"), await contact(audience, "p2@example.org")
    assert (odd.attributes, odd.tags) == ({"age": 21}, ["new", "vip"])
    assert (even.attributes, even.tags) == ({"age": 22}, [])
    again = [["p1@example.org", "21", "gold"], ["p3@example.org", "23", "vip"], ["p2@example.org", "old", "x"]]
    second = await import_file(audience, write_csv(tmp_path / "b.csv", ["email", "age", "tags"], again))
    assert (second.updated_count, second.unchanged_count, second.rejected_count) == (1, 1, 1)
    assert (await contact(audience, "p1@example.org")).tags == ["gold", "new", "vip"]
    assert (await contact(audience, "p2@example.org")).tags == []


async def test_a_row_that_would_give_a_contact_too_many_tags_is_refused(audience: Audience, tmp_path: Path) -> None:
    rows = [[f"{who}@example.org", ",".join(f"{kind}{n}" for n in range(50))] for who in "ab" for kind in "xy"]
    header = ["email", "tags"]
    for number, row in enumerate(rows):
        view = await import_file(audience, write_csv(tmp_path / f"{number}.csv", header, [row]))
        assert view.rejected_count == 0
    more = write_csv(tmp_path / "more.csv", header, [["a@example.org", "one more"], ["b@example.org", "x0"]])
    view = await import_file(audience, more)
    async with audience.app() as uow:
        (problem,) = await control.errors(uow, view.id, limit=10)
    assert (problem.line, problem.field, problem.code) == (2, "tags", "too_many")
    assert (view.rejected_count, view.unchanged_count) == (1, 1)
    assert len((await contact(audience, "a@example.org")).tags) == 100


async def test_importing_the_same_file_twice_makes_nobody_new(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    path = write_csv(tmp_path / "people.csv", ["email", "name"], people(45))
    first = await import_file(audience, path)
    second = await import_file(audience, path)
    assert (first.row_count, first.created_count) == (45, 45)
    assert (second.created_count, second.updated_count, second.unchanged_count) == (0, 0, 45)
    assert second.id != first.id


async def test_known_contacts_are_changed_only_where_the_file_says_something_else(
    audience: Audience, tmp_path: Path
) -> None:
    header = ["email", "name", "city", "locale"]
    before = write_csv(tmp_path / "1.csv", header, [["a@b.co", "Ann", "Bonn", "de"], ["c@b.co", "Cleo", "Rom", "it"]])
    after = write_csv(tmp_path / "2.csv", header, [["a@b.co", "", "Köln", ""], ["c@b.co", "Cleo", "", ""]])
    await import_file(audience, before)
    view = await import_file(audience, after)
    ann = await contact(audience, "a@b.co")
    assert (view.created_count, view.updated_count, view.unchanged_count) == (0, 1, 1)
    assert (ann.name, ann.attributes, ann.locale) == ("Ann", {"city": "Köln"}, "de")
    assert (await contact(audience, "c@b.co")).attributes == {"city": "Rom"}


async def test_of_an_address_that_comes_twice_the_last_row_counts(audience: Audience, tmp_path: Path) -> None:
    rows = [["a@b.co", "First"], ["A@B.co", "Second"], ["a@b.co ", "Third"]]
    view = await import_file(audience, write_csv(tmp_path / "x.csv", ["email", "name"], rows))
    assert (view.row_count, view.created_count, view.duplicate_count) == (3, 1, 2)
    assert sums_up(view)
    assert (await contact(audience, "a@b.co")).name == "Third"


@pytest.mark.parametrize("asserted", ["granted", None])
async def test_a_withdrawal_holds_in_whichever_row_of_an_address_it_stands(
    audience: Audience, tmp_path: Path, asserted: Literal["granted"] | None
) -> None:
    rows = [["a@b.co", "First", "no"], ["a@b.co", "Second", ""], ["a@b.co", "Third", "yes"]]
    path = write_csv(tmp_path / "x.csv", ["email", "name", "consent"], rows)
    view = await import_file(audience, path, consent=asserted, consent_source="two lists made one")
    assert (view.created_count, view.duplicate_count) == (1, 2)
    ann = await contact(audience, "a@b.co")
    assert (ann.name, [each.status for each in ann.consents]) == ("Third", ["withdrawn"])


async def test_refused_rows_are_kept_with_line_field_code_and_value_and_the_others_go_on(
    audience: Audience, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(
        b"email,name\nok@b.co,Ann\nno address,Bob\na@b.co\ncaf\xe9@b.co,x\n,Eve\nalso@b.co,=?x?=\nend@b.co,Z\n"
    )
    view = await import_file(audience, path)
    async with audience.app() as uow:
        problems = await control.errors(uow, view.id, limit=100)
        page = await control.errors(uow, view.id, limit=2, after=(problems[1].line, problems[1].field))
    assert (view.created_count, view.rejected_count) == (2, 5)
    assert sums_up(view)
    assert [(problem.line, problem.field, problem.code) for problem in problems] == [
        (3, "address", "invalid_address"),
        (4, "row", "column_count"),
        (5, "row", "not_utf8"),
        (6, "address", "required"),
        (7, "name", "encoded_word"),
    ]
    assert problems[0].value == "no address"
    assert page == problems[2:4]


async def test_refused_rows_beyond_the_limit_are_counted_and_not_kept(
    audience: Audience, tmp_path: Path, small_batches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "MOST_ERRORS", 15)
    view = await import_file(audience, write_csv(tmp_path / "x.csv", ["email"], [["x"] for _ in range(45)]))
    assert view.rejected_count == 45
    assert await audience.fetch("SELECT count(*) FROM import_errors") == [(15,)]


async def test_everybody_is_put_on_the_list_whoever_was_known(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    await import_file(audience, write_csv(tmp_path / "1.csv", ["email", "name"], people(5)))
    async with audience.app() as uow:
        news = await lists.create(uow, ACTOR, "News")
    path = write_csv(tmp_path / "2.csv", ["email", "name"], people(25))
    await import_file(audience, path, list_id=news.id)
    await import_file(audience, path, list_id=news.id)
    async with audience.app() as uow:
        assert (await lists.get(uow, news.id)).member_count == 25


async def test_an_import_never_grants_again_what_a_recipient_withdrew(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "1.csv", ["email"], [["ann@b.co"], ["bob@b.co"]])
    options = {"consent": "granted", "consent_source": "trade fair"}
    await import_file(audience, path, **options)
    ann = await contact(audience, "ann@b.co")
    async with audience.engine() as uow:
        await consent.withdraw(uow, ann.id, "email", "marketing", source="message:1", ip=None)
    path.write_text("email,consent\nann@b.co,yes\nbob@b.co,yes\n")
    view = await import_file(audience, path, **options)
    assert view.kept_withdrawn_count == 1
    assert (await contact(audience, "ann@b.co")).consents[0].status == "withdrawn"
    assert (await contact(audience, "bob@b.co")).consents[0].status == "granted"
    events = await audience.fetch("SELECT status FROM consent_events WHERE contact_id = $1 ORDER BY id", ann.id)
    assert events == [("granted",), ("withdrawn",)]


async def test_an_import_may_withdraw_and_says_where_it_is_known_from(audience: Audience, tmp_path: Path) -> None:
    await import_file(
        audience, write_csv(tmp_path / "1.csv", ["email"], [["a@b.co"]]), consent="granted", consent_source="form"
    )
    path = write_csv(tmp_path / "2.csv", ["email", "consent"], [["a@b.co", "no"], ["c@b.co", ""]])
    await import_file(audience, path, consent_source="paper list")
    (held,) = (await contact(audience, "a@b.co")).consents
    assert (held.status, held.source) == ("withdrawn", "paper list")
    assert (await contact(audience, "c@b.co")).consents == []


async def test_suppressed_addresses_are_imported_counted_and_stay_suppressed(
    audience: Audience, tmp_path: Path
) -> None:
    async with audience.app() as uow:
        for address in ("a@b.co", "gone@b.co"):
            await suppressions.suppress(uow, audience.channels, ACTOR, "email", address, source="test")
    path = write_csv(tmp_path / "x.csv", ["email"], [["A@b.co"], ["c@b.co"]])
    view = await import_file(audience, path, consent="granted", consent_source="x")
    assert (view.created_count, view.suppressed_count) == (2, 1)
    async with audience.app() as uow:
        assert len(await suppressions.lookup(uow, audience.channels, "email", "a@b.co")) == 1


async def test_rows_belong_to_contacts_by_their_external_id(audience: Audience, tmp_path: Path) -> None:
    header = ["email", "external_id", "name"]
    await import_file(audience, write_csv(tmp_path / "1.csv", header, [["a@b.co", "1", "Ann"], ["x@b.co", "", "Xu"]]))
    rows = [
        ["a2@b.co", "1", "Ann B"],  # a second address of a known contact
        ["n1@b.co", "9", "New"],  # two addresses of one new contact
        ["n2@b.co", "9", "New"],
        ["x@b.co", "5", "Xu"],  # a known contact gets its id
        ["x2@b.co", "5", "Xu"],  # and another address by the id it has just got
        ["a@b.co", "7", "Ann"],  # contradicts the id the contact has
        ["b@b.co", "", "Bob"],
    ]
    view = await import_file(audience, write_csv(tmp_path / "2.csv", header, rows))
    ann, new, xu = [await contact(audience, address) for address in ("a@b.co", "n1@b.co", "x2@b.co")]
    assert {address.address for address in ann.addresses} == {"a@b.co", "a2@b.co"}
    assert (ann.name, ann.external_id) == ("Ann B", "1")
    assert (len(new.addresses), new.external_id) == (2, "9")
    assert (xu.external_id, len(xu.addresses)) == ("5", 2)
    assert (view.created_count, view.rejected_count) == (2, 1)
    assert sums_up(view)
    async with audience.app() as uow:
        (problem,) = await control.errors(uow, view.id, limit=10)
    assert (problem.line, problem.code, problem.value) == (7, "external_id_differs", "7")


async def test_an_external_id_that_somebody_else_has_is_refused(audience: Audience, tmp_path: Path) -> None:
    header = ["email", "external_id"]
    await import_file(
        audience, write_csv(tmp_path / "1.csv", header, [["a@b.co", "1"], ["c@b.co", ""], ["d@b.co", ""]])
    )
    path = write_csv(tmp_path / "2.csv", header, [["c@b.co", "1"], ["d@b.co", "2"], ["a@b.co", "1"]])
    view = await import_file(audience, path)
    async with audience.app() as uow:
        assert [problem.code for problem in await control.errors(uow, view.id, limit=10)] == ["external_id_taken"]
    assert (view.updated_count, view.unchanged_count, view.rejected_count) == (1, 1, 1)


async def test_a_file_that_cannot_be_read_as_a_whole_leaves_nothing(audience: Audience, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("email,name\n" + "a@b.co,x\n" * 50 + 'b@b.co,"never closed\n' + "c@b.co,x\n" * 500)
    with pytest.raises(Refused) as refused:
        await import_file(audience, path)
    assert (refused.value.code, refused.value.data["line"]) == ("unclosed_quote", 52)
    assert await audience.fetch("SELECT (SELECT count(*) FROM imports) + (SELECT count(*) FROM contacts)") == [(0,)]


class Told(Watch):
    """Somebody who follows a run."""

    def __init__(self, stored: Callable[[ImportView], None] = lambda _view: None) -> None:
        self._stored = stored
        self.is_superseded = False

    async def hold(self, uow: UnitOfWork) -> None:
        if self.is_superseded:
            raise Superseded

    async def stored(self, view: ImportView) -> None:
        self._stored(view)


async def begun(audience: Audience, path: Path, **options: Any) -> ImportView:
    chosen = Options(**options)
    async with audience.app() as uow:
        facts = examine(path, chosen, audience.channels["email"])
        return await control.begin(uow, ACTOR, facts, chosen, path.name)


async def test_an_interrupted_import_goes_on_at_its_checkpoint_when_the_same_file_is_begun_again(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(45))
    view = await begun(audience, path)
    done = asyncio.Event()

    def stop_after_three(now: ImportView) -> None:
        if now.row_count == 30:
            done.set()
            raise Unavailable("test", "the process ends here")

    with suppress(Unavailable):
        await run(audience.db, audience.channels, audience.tenant, view.id, path, watch=Told(stop_after_three))
    assert done.is_set()
    again = await begun(audience, path)
    assert (again.id, again.state, again.row_count, again.checkpoint_line) == (view.id, "running", 30, 31)
    end = await run(audience.db, audience.channels, audience.tenant, view.id, path)
    assert (end.state, end.row_count, end.created_count, end.unchanged_count) == ("completed", 45, 45, 0)


async def test_a_run_that_somebody_else_took_over_stores_nothing_more_and_ends_nothing(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(45))
    view = await begun(audience, path)
    watch = Told()

    def taken_over(now: ImportView) -> None:
        watch.is_superseded = now.row_count >= 20

    watch._stored = taken_over
    with pytest.raises(Superseded):
        await run(audience.db, audience.channels, audience.tenant, view.id, path, watch=watch)
    async with audience.app() as uow:
        assert ((now := await control.get(uow, view.id)).state, now.row_count) == ("running", 20)
    assert (await run(audience.db, audience.channels, audience.tenant, view.id, path)).created_count == 45


async def test_an_error_nobody_foresaw_ends_an_import_at_its_last_try_only(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(25))
    view = await begun(audience, path)

    def broken(now: ImportView) -> None:
        raise ZeroDivisionError

    for is_last_try, state in ((False, "running"), (True, "failed")):
        with pytest.raises(ZeroDivisionError):
            await run(
                audience.db, audience.channels, audience.tenant, view.id, path,
                watch=Told(broken), is_last_try=is_last_try,
            )  # fmt: skip
        async with audience.app() as uow:
            assert (await control.get(uow, view.id)).state == state


async def test_another_file_or_other_options_are_another_import(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(3))
    view = await begun(audience, path)
    assert (await begun(audience, path, consent="granted", consent_source="x")).id != view.id
    other = write_csv(tmp_path / "y.csv", ["email", "name"], people(4))
    assert (await begun(audience, other)).id != view.id
    assert (await begun(audience, path)).id == view.id


async def test_a_file_that_was_changed_since_is_not_gone_on_with(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(3))
    view = await begun(audience, path)
    write_csv(path, ["email", "name"], people(4))
    with pytest.raises(Refused) as refused:
        await run(audience.db, audience.channels, audience.tenant, view.id, path)
    assert refused.value.code == "file_changed"
    async with audience.app() as uow:
        assert ((found := await control.get(uow, view.id)).state, found.error) == ("failed", refused.value.message)


async def test_two_runs_of_one_import_store_every_row_once(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(200))
    view = await begun(audience, path)
    await asyncio.gather(*(run(audience.db, audience.channels, audience.tenant, view.id, path) for _ in range(3)))
    end = await run(audience.db, audience.channels, audience.tenant, view.id, path)
    assert (end.state, end.row_count, end.created_count) == ("completed", 200, 200)


async def test_a_cancelled_import_stops_after_its_batch_and_keeps_what_it_stored(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(100))
    view = await begun(audience, path)
    loop = asyncio.get_running_loop()
    cancelling: list[asyncio.Task[ImportView]] = []

    async def cancel() -> ImportView:
        async with audience.app() as uow:
            return await control.cancel(uow, ACTOR, view.id)

    def at_thirty(now: ImportView) -> None:
        if now.row_count == 30:
            cancelling.append(loop.create_task(cancel()))

    end = await run(audience.db, audience.channels, audience.tenant, view.id, path, watch=Told(at_thirty))
    stopped = await cancelling[0]
    assert end.state == stopped.state == "cancelled"
    assert 30 <= end.row_count < 100
    assert await audience.fetch("SELECT count(*) FROM contacts") == [(end.created_count,)]
    assert (await cancel()).state == "cancelled"
    again = await import_file(audience, path)
    assert (again.created_count, again.unchanged_count) == (100 - end.created_count, end.created_count)


async def test_a_completed_import_cannot_be_cancelled(audience: Audience, tmp_path: Path) -> None:
    view = await import_file(audience, write_csv(tmp_path / "x.csv", ["email"], [["a@b.co"]]))
    with pytest.raises(Refused) as refused:
        async with audience.app() as uow:
            await control.cancel(uow, ACTOR, view.id)
    assert (refused.value.code, refused.value.http_status) == ("not_running", 409)


async def test_an_address_that_somebody_adds_meanwhile_is_theirs(
    audience: Audience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = await begun(audience, path := write_csv(tmp_path / "x.csv", ["email", "name"], people(3)))
    added: list[Any] = []

    async def and_then_somebody_is_quicker(*arguments: Any) -> Any:
        found = await resolve(*arguments)
        if not added:
            async with audience.app() as uow:
                new = NewContact(addresses=[AddressView("email", "p1@example.org")], name="Quick")
                added.append(await write.create(uow, audience.channels, ACTOR, new))
        return found

    monkeypatch.setattr(merge, "resolve", and_then_somebody_is_quicker)
    end = await run(audience.db, audience.channels, audience.tenant, view.id, path)
    assert (end.state, end.created_count, end.updated_count) == ("completed", 2, 1)
    assert (await contact(audience, "p1@example.org")).id == added[0].id
    assert await audience.fetch("SELECT count(*) FROM contacts") == [(3,)]


async def test_the_list_may_be_deleted_meanwhile_and_the_import_says_so(
    audience: Audience, tmp_path: Path, small_batches: int
) -> None:
    async with audience.app() as uow:
        news = await lists.create(uow, ACTOR, "News")
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(30))
    view = await begun(audience, path, list_id=news.id)
    async with audience.app() as uow:
        await lists.delete(uow, ACTOR, news.id)
    with pytest.raises(Refused) as refused:
        await run(audience.db, audience.channels, audience.tenant, view.id, path)
    assert refused.value.code == "list_gone"
    async with audience.app() as uow:
        assert (await control.get(uow, view.id)).state == "failed"


async def test_two_tenants_import_the_same_people_apart(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["email", "name"], people(5))
    other = Audience(audience.db, await audience.other_tenant())
    mine, theirs = await import_file(audience, path), await import_file(other, path)
    assert (mine.created_count, theirs.created_count) == (5, 5)
    async with other.app() as uow:
        with pytest.raises(Refused):
            await control.get(uow, mine.id)
        assert [one.id for one in await control.listed(uow, limit=10)] == [theirs.id]


async def test_begin_and_cancel_are_audited(audience: Audience, tmp_path: Path) -> None:
    view = await begun(audience, write_csv(tmp_path / "x.csv", ["email"], [["a@b.co"]]))
    async with audience.app() as uow:
        await control.cancel(uow, ACTOR, view.id)
        await control.withdraw(uow, view.id)
    rows = await audience.fetch("SELECT action, target_id, details ->> 'file' FROM audit_log ORDER BY seq")
    assert rows == [("import.begin", str(view.id), "x.csv"), ("import.cancel", str(view.id), None)]


async def test_the_end_is_audited_with_what_became_of_the_rows(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["email"], [["a@b.co"], ["b@b.co"], ["nobody"]])
    view = await import_file(audience, path)
    (row,) = await audience.fetch(
        "SELECT actor, target_id, details FROM audit_log WHERE action = 'import.completed' ORDER BY seq"
    )
    counts = {"rows": 3, "of": 3, "dry_run": False, "created": 2, "updated": 0, "unchanged": 0, "rejected": 1}
    assert (row[0], row[1], orjson.loads(row[2])) == ("imports", str(view.id), counts)
    failing = await begun(audience, write_csv(tmp_path / "y.csv", ["email"], [["c@b.co"]]))
    (tmp_path / "y.csv").write_text("email\nd@b.co\n", encoding="utf-8")
    with pytest.raises(Refused):
        await run(audience.db, audience.channels, audience.tenant, failing.id, tmp_path / "y.csv")
    ended = await audience.fetch("SELECT target_id, reason FROM audit_log WHERE action = 'import.failed'")
    assert ended == [(str(failing.id), "the file is not the one this import began with")]


async def test_the_name_of_a_file_is_only_shown(audience: Audience, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "x.csv", ["email"], [["a@b.co"]])
    chosen = Options()
    facts = examine(path, chosen, audience.channels["email"])
    async with audience.app() as uow:
        view = await control.begin(uow, ACTOR, facts, chosen, "../../etc/\u202ecron.d/x\n" + "é" * 300)
    assert view.file_name.startswith("../../etc/\ufffdcron.d/x\ufffdé")
    assert len(view.file_name) == 255


async def test_an_outage_is_no_collision_with_others(
    audience: Audience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the database was away before, others at the same contacts are met as patiently as ever."""
    store, troubles = merge.store, [Unavailable("database_unavailable", "away")] * 8 + [Overtaken()] * 4

    async def sometimes(*given: Any, **more: Any) -> bool:
        if troubles:
            raise troubles.pop(0)
        return await store(*given, **more)

    monkeypatch.setattr(merge, "store", sometimes)
    monkeypatch.setattr("random.uniform", lambda *_: 0.0)
    view = await import_file(audience, write_csv(tmp_path / "people.csv", ["email", "name"], people(3)))
    assert (view.state, view.created_count, troubles) == ("completed", 3, [])


async def test_an_import_that_is_alone_reads_ahead_and_stores_the_same(
    audience: Audience, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "LOOK_BACK_S", 0.0)  # it sees at once that nobody else is at work
    monkeypatch.setattr(pace, "OTHERS_PER_S", 1e9)
    monkeypatch.setattr(run_module, "BATCH_ROWS", 3)
    rests: list[float] = []
    rest = pace.Pace.rest_s

    def noted(self: pace.Pace, took_s: float) -> float:
        rests.append(rest(self, took_s))
        return rests[-1]

    monkeypatch.setattr(pace.Pace, "rest_s", noted)
    path = write_csv(tmp_path / "people.csv", ["email", "name"], people(20))
    view = await import_file(audience, path)
    assert (view.state, view.created_count, view.checkpoint_line) == ("completed", 20, 21)
    assert rests == [0.0] * 7


async def test_what_others_write_is_counted_and_not_what_an_import_does(audience: Audience, tmp_path: Path) -> None:
    async def written(uow: UnitOfWork) -> int:
        await uow.raw.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        count: int = await IMPORTS.written_by_others.value(uow.raw)
        return count

    await import_file(audience, write_csv(tmp_path / "a.csv", ["email", "name"], people(40)))
    async with audience.engine() as uow:
        before = await written(uow)
        assert before <= 4, "its beginning and end are audited"
        for number in range(5):
            target = ("test", str(number))
            await append(uow, ACTOR, action="test.done", target=target)
    async with audience.engine() as uow:
        await written(uow)
    async with audience.engine() as uow:
        assert await written(uow) >= before + 5
