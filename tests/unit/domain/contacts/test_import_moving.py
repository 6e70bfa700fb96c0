"""Rows of other systems: which column is what, which word means what, when; cells that spreadsheets calculate."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from outrider.base.errors import Refused
from outrider.domain.contacts.imports.cells import neutral, plain
from outrider.domain.contacts.imports.csv_rows import Row
from outrider.domain.contacts.imports.entries import Entry, EntryReader, read_when
from outrider.domain.contacts.imports.moving import combined
from outrider.domain.contacts.imports.options import Options, check_options, map_columns
from outrider.plugins.channels.email import CHANNEL

NOON = datetime(2024, 1, 2, 12, tzinfo=UTC)


def targets(header: list[str], options: Options) -> list[str]:
    return [column.target for column in map_columns(header, options)]


def read(header: list[str], cells: list[str], options: Options) -> Entry | list[str]:
    columns = map_columns(header, options)
    found = EntryReader(columns, options, CHANNEL).read(Row(2, 2, cells, None, ends_with_cr=False))
    return [problem.code for problem in found] if isinstance(found, list) else found


SUPPRESSIONS = Options(kind="suppressions")
CONSENTS = Options(kind="consents")


@pytest.mark.parametrize(
    ("header", "options", "expected"),
    [
        (
            ["uuid", "email", "name", "attributes", "status", "created_at", "updated_at"],
            SUPPRESSIONS,
            ["ignore", "address", "ignore", "ignore", "reason", "ignore", "at"],
        ),
        (
            ["Email Address", "First Name", "Address", "UNSUB_TIME", "LAST_CHANGED", "UNSUB_REASON", "NOTES"],
            Options(kind="suppressions", reason="unsubscribe"),
            ["address", "ignore", "ignore", "at", "ignore", "note", "ignore"],
        ),
        (["status", "reason", "email", "created"], SUPPRESSIONS, ["ignore", "reason", "address", "at"]),
        (
            ["status", "reason", "email", "created"],
            Options(kind="suppressions", reason="hard_bounce"),
            ["ignore", "ignore", "address", "at"],
        ),
        (
            ["Email Address", "OPTIN_TIME", "OPTIN_IP", "CONFIRM_TIME", "CONFIRM_IP"],
            Options(kind="consents", consent="granted", consent_source="mailchimp"),
            ["address", "ignore", "ignore", "at", "ip"],
        ),
        (
            ["Kontakt", "Was"],
            Options(kind="consents", mapping={"Kontakt": "address", "Was": "status"}),
            ["address", "status"],
        ),
    ],
)
def test_columns_of_other_systems_are_known_by_their_names(
    header: list[str], options: Options, expected: list[str]
) -> None:
    assert targets(header, options) == expected


def test_beside_a_column_called_email_the_one_called_address_is_where_somebody_lives() -> None:
    assert targets(["Email Address", "Address"], Options()) == ["address", "attribute:address"]
    assert targets(["Address"], Options()) == ["address"]


def test_what_our_own_exports_only_tell_is_left_out() -> None:
    assert targets(["email", "outrider_lists"], Options()) == ["address", "ignore"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Unsubscribed", "unsubscribe"), ("hard-bounce", "hard_bounce"), ("cleaned", "hard_bounce"),
        ("Spam Report", "complaint"), ("blocklisted", "manual"), ("invalid email", "invalid"), ("enabled", ""),
    ],
)  # fmt: skip
def test_a_reason_is_read_as_the_other_system_writes_it(word: str, expected: str) -> None:
    entry = read(["email", "reason"], ["A@b.co", word], SUPPRESSIONS)
    assert isinstance(entry, Entry)
    assert (entry.address, entry.word) == ("a@b.co", expected)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("subscribed", "granted"), ("unsubscribed", "withdrawn"), ("unconfirmed", ""), ("enabled", ""), ("", "")],
)
def test_only_what_somebody_agreed_to_is_consent(word: str, expected: str) -> None:
    entry = read(["email", "status"], ["a@b.co", word], CONSENTS)
    assert isinstance(entry, Entry)
    assert entry.word == expected


def test_a_word_nobody_knows_is_refused_and_never_guessed() -> None:
    assert read(["email", "reason"], ["a@b.co", "550 5.1.1"], SUPPRESSIONS) == ["unknown_reason"]
    assert read(["email", "reason"], ["a@b.co", ""], SUPPRESSIONS) == ["unknown_reason"]
    assert read(["email", "status"], ["nobody", "maybe"], CONSENTS) == ["invalid_address", "bad_consent"]


@pytest.mark.parametrize(
    "cell",
    [
        "2024-01-02T12:00:00Z", "2024-01-02 12:00:00", "2024-01-02T13:00:00+01:00", "1704196800", "1704196800000",
        "2024-01-02 12:00:00.123456 +0000 UTC", "2024-01-02 13:00:00 +0100 CET", "2024-01-02 12:00:00 +0000 +0000",
    ],
)  # fmt: skip
def test_a_moment_is_read_in_the_forms_that_other_systems_write(cell: str) -> None:
    assert read_when(cell) == NOON


@pytest.mark.parametrize("cell", ["yesterday", "01/02/2024", "2024-13-01", "17041968001", "-1"])
def test_a_moment_in_another_form_is_refused(cell: str) -> None:
    with pytest.raises(Refused) as refused:
        read_when(cell)
    assert refused.value.code == "bad_time"


def test_of_two_rows_what_protects_more_counts_with_the_earlier_time() -> None:
    early, late = (
        Entry(n, "a@b.co", word, NOON.replace(day=n), "s", "", None) for n, word in ((1, "manual"), (2, "stop"))
    )
    for found in (combined(early, late), combined(late, early)):
        assert (found.word, found.at) == ("stop", NOON.replace(day=1))
    granted = Entry(1, "a@b.co", "granted", NOON, "s", "", None)
    assert combined(granted, granted._replace(word="withdrawn")).word == "withdrawn"
    assert combined(granted, granted._replace(word="")).word == "granted"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (Options(kind="suppressions", consent="granted", consent_source="x"), "consent"),
        (Options(kind="contacts", reason="stop"), "reason"),
    ],
)
def test_an_option_that_means_nothing_for_what_is_imported_is_refused(options: Options, field: str) -> None:
    with pytest.raises(Refused) as refused:
        check_options(options)
    assert (refused.value.code, refused.value.field) == ("not_for_this", field)


@pytest.mark.parametrize(
    "cell", ["=1", "+49", "-", "@a", "\tx", "'=1", "''+", "plain", "'quoted'", "", "a=1", "\uff1dx"]
)
def test_a_cell_is_harmless_outside_and_itself_again_inside(cell: str) -> None:
    assert not neutral(cell).startswith(("=", "+", "-", "@", "\t", "\uff1d"))
    assert plain(neutral(cell)) == cell
