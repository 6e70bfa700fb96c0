"""Which column of a file is which field, and what a row of cells becomes."""

from __future__ import annotations

import pytest

from outrider.base.errors import Refused
from outrider.domain.contacts.imports.csv_rows import Row
from outrider.domain.contacts.imports.examine import ProblemView
from outrider.domain.contacts.imports.options import Column, Holds, Options, check_options, map_columns
from outrider.domain.contacts.imports.people import Person, RowReader
from outrider.domain.contacts.imports.report import as_csv
from outrider.domain.contacts.imports.sniff import check_sample
from tests.kit.audience import PlainEmail


def targets(*header: str, **options: object) -> list[str]:
    return [column.target for column in map_columns(list(header), Options(**options))]  # type: ignore[arg-type]  # each case names its own


def read(
    header: list[str], cells: list[str], holds: dict[str, Holds] | None = None, **options: object
) -> Person | list[tuple[str, str]]:
    """A person, or field and code of each problem."""
    chosen = Options(**options)  # type: ignore[arg-type]  # each case names its own
    found = RowReader(map_columns(header, chosen, holds), chosen, PlainEmail()).read(
        Row(7, 7, cells, None, ends_with_cr=False)
    )
    return found if isinstance(found, Person) else [(problem.field, problem.code) for problem in found]


def test_headers_are_matched_whatever_their_case_spaces_and_punctuation() -> None:
    assert targets(" E-Mail ", "NAME", "External ID", "Time_Zone", "Language", "Consent") == [
        "address",
        "name",
        "external_id",
        "timezone",
        "locale",
        "consent",
    ]


def test_other_columns_become_attributes_and_some_are_never_bound() -> None:
    assert targets("mail", "First Name", "Straße", "Größe (cm)", "tenant_id", "id", "") == [
        "address",
        "attribute:first_name",
        "attribute:strasse",
        "attribute:grosse_cm",
        "ignore",
        "ignore",
        "ignore",
    ]


def test_a_mapping_overrules_the_names_of_columns() -> None:
    mapping = {"Kontakt": "address", "Name": "attribute:full_name", "Notiz": "ignore"}
    assert targets("Kontakt", "Name", "Notiz", mapping=mapping) == ["address", "attribute:full_name", "ignore"]


@pytest.mark.parametrize(
    ("header", "options", "code"),
    [
        (["name", "city"], {}, "bad_header"),
        (["email;name"], {}, "bad_header"),
        (["email", "E-Mail"], {}, "duplicate_column"),
        (["email", "City", "city "], {}, "duplicate_column"),
        (["email", "123"], {}, "bad_header"),
        (["email", "例"], {}, "bad_header"),
        (["email", "a\x00b"], {}, "bad_header"),
        (["email", "x" * 101], {}, "bad_header"),
        (["email"], {"mapping": {"Nobody": "name"}}, "bad_mapping"),
        (["email", "x"], {"mapping": {"x": "tenant_id"}}, "bad_mapping"),
        (["email", "x"], {"mapping": {"x": "attribute:__proto__"}}, "bad_mapping"),
    ],
)
def test_a_header_that_cannot_be_understood_refuses_the_file(
    header: list[str], options: dict[str, object], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        targets(*header, **options)
    assert refused.value.code == code


def test_consent_that_is_asserted_must_say_where_it_is_known_from() -> None:
    with pytest.raises(Refused) as refused:
        check_options(Options(consent="granted"))
    assert refused.value.field == "consent_source"
    assert check_options(Options(consent="granted", consent_source="trade fair 2026")).consent == "granted"


def test_a_row_becomes_a_person_with_its_address_in_the_stored_form() -> None:
    person = read(["email", "name", "city", "empty"], [" Ann@Example.ORG ", " Ann ", "Bonn", " "])
    assert isinstance(person, Person)
    assert (person.address, person.name, person.attributes) == ("ann@example.org", "Ann", {"city": "Bonn"})


@pytest.mark.parametrize(
    ("word", "stored"),
    [("yes", "granted"), ("TRUE", "granted"), ("1", "granted"), ("Opt-Out", "withdrawn"), ("0", "withdrawn")],
)
def test_a_consent_column_says_one_of_the_documented_words(word: str, stored: str) -> None:
    person = read(["email", "consent"], ["a@b.co", word], consent="granted", consent_source="x")
    assert isinstance(person, Person)
    assert person.consent == stored


def test_a_row_that_says_nothing_of_consent_takes_what_the_import_asserts() -> None:
    person = read(["email", "consent"], ["a@b.co", ""], consent="granted", consent_source="x")
    assert isinstance(person, Person)
    assert person.consent == "granted"
    silent = read(["email", "consent"], ["a@b.co", ""])
    assert isinstance(silent, Person)
    assert silent.consent is None


def test_every_problem_of_a_row_is_told_at_once() -> None:
    header = ["email", "name", "timezone", "consent", "note", "locale"]
    cells = ["no address", "=?x?=", "Mars/Olympus", "maybe", "a\0b", "x" * 50]
    assert read(header, cells) == [
        ("address", "invalid_address"),
        ("name", "encoded_word"),
        ("timezone", "unknown_timezone"),
        ("consent", "bad_consent"),
        ("locale", "unknown_locale"),
        ("note", "control_character"),
    ]


def test_a_row_without_an_address_is_refused() -> None:
    assert read(["email", "name"], [" ", "Ann"]) == [("address", "required")]


def test_attributes_of_a_row_are_limited_together() -> None:
    header = ["email", *(f"c{n}" for n in range(3))]
    assert read(header, ["a@b.co", *("x" * 8_000 for _ in range(3))]) == [("attributes", "too_large")]


@pytest.mark.parametrize(
    ("sample", "code"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \r\n", "empty"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"PK\x03\x04xx", "compressed"),
        (b"\x89PNG\r\n\x1a\n", "not_text"),
        (bytes(range(256)) * 8, "not_text"),
        ("email\r\na@b.co".encode("utf-16"), "encoding"),
        ("email\r\na@b.co".encode("utf-16-le"), "encoding"),
        (b"<!DOCTYPE html><html>", "looks_like_html"),
        (b'  [{"email": "a@b.co"}]', "bad_header"),
    ],
)
def test_what_is_no_csv_is_named_for_what_it_is(sample: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_sample(sample)
    assert refused.value.code == code


def test_text_with_a_stray_control_character_is_still_text() -> None:
    check_sample(("email,name\n" + "a@b.co,Zoë\x00\n").encode())


def test_the_report_of_refused_rows_is_harmless_in_a_spreadsheet() -> None:
    cells = ['=HYPERLINK("http://x","y")', "+1", "-1", "@SUM(1)", "\tx", 'plain, "quoted"']
    text = as_csv([ProblemView(n, "name", "c", "m", cell) for n, cell in enumerate(cells)])
    lines = text.split("\r\n")
    assert lines[1] == '0,name,c,m,"\'=HYPERLINK(""http://x"",""y"")"'
    assert [line.rpartition(",m,")[2] for line in lines[2:6]] == ["'+1", "'-1", "'@SUM(1)", "'\tx"]
    assert lines[6] == '5,name,c,m,"plain, ""quoted"""'


def test_columns_are_shown_with_their_targets() -> None:
    assert map_columns(["E-Mail", "x"], Options()) == [Column("E-Mail", "address"), Column("x", "attribute:x")]


HOLDS = {
    "age": Holds("number"),
    "vip": Holds("boolean"),
    "plan": Holds("choice", ["free", "gold"]),
    "born": Holds("date"),
    "seen": Holds("moment"),
}


def test_cells_become_what_their_attributes_were_defined_to_hold() -> None:
    found = read(
        ["email", "Age", "VIP", "Plan", "Born", "Seen", "Other"],
        ["a@example.org", "41", "Yes", "gold", "2.3.1990", "2026-01-01T01:00:00+01:00", "007"],
        HOLDS,
        dates="day_first",
    )
    assert isinstance(found, Person)
    assert found.attributes == {
        "age": 41, "vip": True, "plan": "gold", "born": "1990-03-02", "seen": "2026-01-01T00:00:00Z", "other": "007",
    }  # fmt: skip


def test_every_cell_that_does_not_fit_its_attribute_is_told_with_its_code() -> None:
    header, cells = ["email", "age", "vip", "plan", "born"], ["a@example.org", "old", "ja", "silver", "1/2/2026"]
    assert read(header, cells, HOLDS) == [
        ("age", "wrong_type"),
        ("vip", "wrong_type"),
        ("plan", "unknown_choice"),
        ("born", "ambiguous_date"),
    ]


def test_an_empty_cell_of_a_defined_attribute_says_nothing() -> None:
    found = read(["email", "age"], ["a@example.org", " "], HOLDS)
    assert isinstance(found, Person)
    assert found.attributes == {}


def test_tags_of_a_row_are_separated_by_commas_and_take_their_one_form() -> None:
    found = read(["email", "Tags"], ["a@example.org", " VIP, new  customer,,vip "])
    assert isinstance(found, Person)
    assert found.tags == ("new customer", "vip")


@pytest.mark.parametrize(
    ("cell", "code"), [("x" * 81, "invalid_tag"), (",".join(f"t{n}" for n in range(51)), "too_many")]
)
def test_tags_that_cannot_be_refuse_their_row(cell: str, code: str) -> None:
    assert read(["email", "tags"], ["a@example.org", cell]) == [("tags", code)]
