"""The table of bad inputs for telephone numbers at every door: one rule, and the place is named."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.contacts.imports.examine import examine
from outrider.domain.contacts.imports.options import Options
from outrider.plugins.channels.sms import CHANNEL
from tests.contract.test_bad_inputs_phone import ACCEPTED, PREMIUM, REFUSED
from tests.kit.api import Caller
from tests.kit.command import Command, migrated_command
from tests.kit.texting import Texting, texting

SID = "AC" + "0" * 32
BAD = [
    *((row, typed, "invalid_address") for row, inputs in REFUSED.items() for typed in inputs),
    *((row, typed, "premium_rate") for row, typed in PREMIUM.items()),
    ("C45", "4155552671", "no_country"),
]
"""Row, what is typed, and the code of its refusal, in a tenant without a country."""
GOOD = [(row, *case) for row, cases in ACCEPTED.items() for case in cases]
"""Row, what is typed, the tenant's country, and the number that it means."""


@dataclass(frozen=True, slots=True)
class Door:
    """A way in: its body for what is typed, and where a mistake in it stands."""

    path: str
    body: Callable[[str], dict[str, Any]]
    pointer: str


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


def doors_of(office: Texting, contact_id: str) -> list[Door]:
    text = {"channel": "sms", "sender": office.sender["id"], "text": "Hello"}
    coded = {"channel": "sms", "sender": office.sender["id"], "template": "code"}
    named = {"reason": "manual", "channel": "sms"}
    return [
        Door("contacts", lambda n: {"addresses": [{"channel": "sms", "address": n}]}, "/addresses/0/address"),
        Door(f"contacts/{contact_id}/addresses", lambda n: {"channel": "sms", "address": n}, "/address"),
        Door("contacts/lookup", lambda n: {"channel": "sms", "address": n}, "/address"),
        Door("messages", lambda n: {**text, "to": n}, "/to"),
        Door("messages", lambda n: {**coded, "to": n}, "/to"),
        Door("messages", lambda n: {**text, "messages": [{"to": "+14155552672"}, {"to": n}]}, "/messages/1/to"),
        Door("messages/measure", lambda n: {"text": "Hello", "to": n}, "/to"),
        Door("suppressions", lambda n: {**named, "address": n}, "/address"),
    ]


async def country(owner: Caller, region: str) -> None:
    settings = {"settings": {"default_region": region or None}}
    answer = await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", settings)
    assert answer.status == 200, answer.text


async def rows_of(office: Texting) -> list[int]:
    tables = ("contacts", "addresses", "messages", "suppressions")
    return [(await office.rows(f"SELECT count(*) FROM {table} WHERE tenant_id = $1"))[0][0] for table in tables]


async def test_what_is_no_number_is_refused_at_every_door_of_the_api(office: Texting) -> None:
    person = (await office.owner.post("/api/v1/contacts", {"name": "Ann"})).json
    template = {"name": "code", "channel": "sms", "text": "Hello"}
    assert (await office.owner.post("/api/v1/templates", template)).status == 201
    before = await rows_of(office)
    for door in doors_of(office, person["id"]):
        for row, typed, code in BAD:
            answer = await office.owner.post(f"/api/v1/{door.path}", door.body(typed))
            told = (answer.status, answer.json.get("code"), answer.json.get("pointer"))
            assert told == (422, code, door.pointer), f"{row} {typed!r} at {door.path}: {answer.text}"
            assert len(answer.text) < 1_000, "the input is not echoed at length"
    assert await rows_of(office) == before


async def test_what_people_type_means_the_same_number_at_every_door_of_the_api(office: Texting) -> None:
    template = {"name": "code", "channel": "sms", "text": "Hello"}
    assert (await office.owner.post("/api/v1/templates", template)).status == 201
    for row, typed, region, stored in GOOD:
        await country(office.owner, region)
        person = await office.owner.post("/api/v1/contacts", {"addresses": [{"channel": "sms", "address": typed}]})
        assert person.status == 201, f"{row} {typed!r}: {person.text}"
        assert [each["address"] for each in person.json["addresses"]] == [stored]
        path = f"/api/v1/contacts/{person.json['id']}/addresses"
        found = await office.owner.post("/api/v1/contacts/lookup", {"channel": "sms", "address": typed})
        assert found.json["contact"]["id"] == person.json["id"], row
        gone = await office.owner.post(f"{path}/remove", {"channel": "sms", "address": typed})
        assert (gone.status, gone.json["addresses"]) == (200, []), row
        back = await office.owner.post(path, {"channel": "sms", "address": typed})
        assert [each["address"] for each in back.json["addresses"]] == [stored], row
        await office.owner.post(f"{path}/remove", {"channel": "sms", "address": stored})
        for more in ({"text": "Hello"}, {"text": None, "template": "code"}):
            message_id = await office.accepted(typed, **more)
            shown = await office.owner.get(f"/api/v1/messages/{message_id}")
            assert shown.json["message"]["to"] == stored, row
        entry = await office.owner.post("/api/v1/suppressions", {"channel": "sms", "address": typed})
        assert entry.status in {200, 201, 204}, f"{row}: {entry.text}"
        assert await office.rows("SELECT 1 FROM suppressions WHERE tenant_id = $1 AND address = $2", stored), row


def imported(folder: Path, typed: str, region: str = "") -> list[tuple[int, str, str]]:
    """What is wrong with a file whose second line has what is typed, and its third a good number."""
    path = folder / "people.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(
            [["phone", "name"], [typed, "Ann"], ["+14155552672", "Bob"]]
        )
    found = examine(path, Options(channel="sms", region=region), CHANNEL)
    assert found.row_count >= 1
    return [(each.line, each.field, each.code) for each in found.problems]


AS_EXPORTED = "'+14155552671"
"""As our exports and spreadsheets write it, so that nobody runs it as a formula: read back as what it was."""


@pytest.mark.parametrize(("row", "typed", "code"), BAD, ids=[f"{row} {at}" for at, (row, _, _) in enumerate(BAD)])
def test_what_is_no_number_is_a_refused_row_of_an_import(row: str, typed: str, code: str, tmp_path: Path) -> None:
    del row
    problem = [] if typed == AS_EXPORTED else [(2, "address", code if typed.strip() else "required")]
    assert imported(tmp_path, typed) == problem, "docs/decisions/0031"


def test_what_people_type_is_imported_as_the_number_it_means(tmp_path: Path) -> None:
    for row, typed, region, _ in GOOD:
        assert imported(tmp_path, typed, region) == [], row


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    made = migrated_command(new_database, tmp_path)
    connection = ("connection", "create", "sms", "--provider", "twilio", "--set", f"account_sid={SID}")
    assert made.run(*connection, "--secret", "auth_token", stdin="token\n").code == 0
    (sender,) = made.many([("sender", "create", "texts", "--connection", "sms", "--from", "+14155550100")])
    assert sender.code == 0, sender
    return made


def test_what_is_no_number_is_refused_by_every_command(outrider: Command) -> None:
    lines = [
        (command, typed)
        for _, typed, _ in BAD
        for command in (("contacts", "create"), ("messages", "send"), ("suppressions", "add"))
    ]
    more = {"messages": ("--text", "Hello")}
    done = outrider.many([(*command, typed, "--channel", "sms", *more.get(command[0], ())) for command, typed in lines])
    for (command, typed), each in zip(lines, done, strict=True):
        assert (each.code, each.out) == (2, ""), (command, typed, each)
        assert each.err.startswith("error: "), (command, typed, each)
        assert each.err.count("\n") == 1, (command, typed, each)


def test_what_people_type_means_the_same_number_to_every_command(outrider: Command) -> None:
    for region in sorted({region for _, _, region, _ in GOOD}):
        cases = [(row, typed, stored) for row, typed, where, stored in GOOD if where == region]
        lines: list[tuple[str, ...]] = [("tenant", "change", "default", "--set", f"default_region={region}")]
        for _, typed, _ in cases:
            lines += [
                ("contacts", "create", typed, "--channel", "sms", "--json", "--dry-run"),
                ("messages", "send", typed, "--channel", "sms", "--text", "Hello"),
                ("messages", "list", "--to", typed, "--channel", "sms", "--json"),
            ]
        ready, *done = outrider.many(lines)
        assert ready.code == 0, ready
        for at, (row, typed, stored) in enumerate(cases):
            made, sent, listed = done[3 * at : 3 * at + 3]
            assert (made.code, sent.code, listed.code) == (0, 0, 0), (row, typed, made, sent, listed)
            assert [each["address"] for each in json.loads(made.out)["addresses"]] == [stored], row
            assert {each["address"] for each in json.loads(listed.out)} == {stored}, row
