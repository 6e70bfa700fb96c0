"""The table of bad inputs for the CSV import: every id is a test here, is proved elsewhere, or does not apply."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from outrider.base.errors import Refused
from outrider.domain.contacts import read
from outrider.domain.contacts.imports.control import display_name
from outrider.domain.contacts.imports.examine import FileFacts, examine
from outrider.domain.contacts.imports.options import Holds, Options
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.channels.sms import CHANNEL as SMS
from tests.kit.audience import Audience, import_file, opened

ROWS: dict[str, dict[str, str]] = {
    row["id"]: row
    for row in json.loads((Path(__file__).with_name("bad_inputs.json")).read_text(encoding="utf-8"))["CSV import"]
}
ELSEWHERE = {
    "C57": "bench: rows per second and memory; no test asserts a time",
    "C58": "flow/test_import_api.py: an upload that ends half-way",
    "C59": "drill/test_import_kill.py: kill -9 between batches and inside one",
    "C60": "flow/test_import_files.py: cancelled at three batches",
    "C64": "unit/domain/contacts/test_import_columns.py and flow/test_import_api.py: the report of refused rows",
}
MOST_GROWTH_BYTES = 64 * 1024 * 1024


@pytest.fixture(scope="module")
async def audience(new_database: Callable[..., str]) -> AsyncIterator[Audience]:
    async with opened(new_database("migrated")) as found:
        found.channels = {"email": CHANNEL}
        yield found


def examined(folder: Path, data: str | bytes, **options: object) -> FileFacts:
    path = folder / "x.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return examine(path, Options(**options), CHANNEL)  # type: ignore[arg-type]  # each case names its own


def refused(folder: Path, data: str | bytes) -> str:
    """Why a file is refused as a whole."""
    with pytest.raises(Refused) as found:
        examined(folder, data)
    return found.value.code


def problems(folder: Path, data: str | bytes) -> list[tuple[int, str]]:
    """Line and code of each refused row."""
    return [(problem.line, problem.code) for problem in examined(folder, data).problems]


def _zipped(name: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "email\na@b.co\n")
    return packed.getvalue()


FILES: dict[str, list[tuple[str | bytes, str]]] = {
    "C01": [(b"", "empty"), (b"\xef\xbb\xbf", "empty"), (b"\n\n \n", "empty")],
    "C04": [("email\na@b.co\n".encode("utf-16"), "encoding"), ("email\na@b.co\n".encode("utf-16-le"), "encoding")],
    "C08": [(b"\x89PNG\r\n\x1a\n" + os.urandom(100_000), "not_text"), (bytes(range(256)) * 400, "not_text")],
    "C10": [(gzip.compress(b"email\na@b.co\n"), "compressed")],
    "C11": [("<!DOCTYPE html><html><body>502</body></html>", "looks_like_html")],
    "C12": [('[{"email": "a@b.co"}]', "bad_header"), ('{"email": "a@b.co"}\n', "bad_header")],
    "C16": [(",".join(f"c{n}" for n in range(100_000)) + "\n", "too_many_columns")],
    "C66": [(_zipped("x.csv"), "compressed"), (_zipped("../../x.csv"), "compressed")],
}
REFUSED_ROWS: dict[str, list[tuple[str | bytes, list[tuple[int, str]]]]] = {
    "C05": [(b"email,name\na@b.co,A\nb@b.co,Caf\xe9\nc@b.co,C\n", [(3, "not_utf8")])],
    "C14": [(f"email,name\na@b.co,{'x' * 200_000}\nb@b.co,B\n", [(2, "field_too_long")])],
    "C17": [("email,name\na@b.co\nb@b.co,B,x\nc@b.co,C\n", [(2, "column_count"), (3, "column_count")])],
    "C25": [("email,name\r\na@b.co,Jo\rhn\r\nc@b.co,C\r\n", [(2, "lone_cr"), (3, "lone_cr")])],
    "C39": [("email,name\na@b.co,=?utf-8?q?x=0D=0ABcc:_v=40e.co?=\n", [(2, "encoded_word")])],
    "C50": [("email,consent\na@b.co,maybe\nb@b.co,yes\n", [(2, "bad_consent")])],
    "C51": [("email,consent\na@b.co,ja\nb@b.co,✓\nc@b.co,TRUE\nd@b.co,1\n", [(2, "bad_consent"), (3, "bad_consent")])],
    "C53": [(f"email,a,b,c\na@b.co,{'x' * 9_000},{'y' * 9_000},z\n", [(2, "too_large")])],
}
ACCEPTED: dict[str, list[tuple[str | bytes, int, dict[str, str]]]] = {
    # text, rows, and for the address a@b.co: field or attribute -> what is stored
    "C19": [(' " E-Mail ",NAME\na@b.co,Ann\n'.lstrip(), 1, {"name": "Ann"})],
    "C22": [
        ("email;name\na@b.co;Ann\n", 1, {"name": "Ann"}),
        ("email\tname\na@b.co\tAnn\n", 1, {"name": "Ann"}),
        ("email|name\na@b.co|Ann\n", 1, {"name": "Ann"}),
    ],
    "C23": [("email,name\ra@b.co,Ann\rb@b.co,B\r", 2, {"name": "Ann"})],
    "C24": [("email,name\r\na@b.co,Ann\nb@b.co,B\rc@b.co,C\r\n", 3, {"name": "Ann"})],
    "C27": [('email,name\na@b.co,"He said ""hi"""\n', 1, {"name": 'He said "hi"'})],
    "C30": [
        ("email,name,\na@b.co,Ann,\n\n", 1, {"name": "Ann"}),
        ("email,name\na@b.co,Ann,\n,\n   \n", 1, {"name": "Ann"}),
        ("email ,name \n a@b.co , Ann \n", 1, {"name": "Ann"}),
    ],
    "C31": [("email,note\na@b.co,x\u2028y\x85z\n", 1, {"note": "x\u2028y\x85z"})],
    "C33": [('email,name\na@b.co,"=HYPERLINK(""http://x"",""y"")"\n', 1, {"name": '=HYPERLINK("http://x","y")'})],
    "C34": [(f"email,note\na@b.co,{start}1\n", 1, {"note": f"{start}1"}) for start in ("+", "-", "@")],
    "C36": [("email,name\na@b.co,<script>alert(1)</script>\n", 1, {"name": "<script>alert(1)</script>"})],
    "C37": [
        ("email,name\na@b.co,{{7*7}}\n", 1, {"name": "{{7*7}}"}),
        ("email,name\na@b.co,{% raw %}\n", 1, {"name": "{% raw %}"}),
    ],
    "C55": [("email,tenant_id,Tenant ID\na@b.co,7,8\n", 1, {"tenant_id": ""})],
}
OWN_TESTS = {"C15", "C45", "C47", "C48", "C65"}


def test_every_id_of_the_table_is_decided_somewhere() -> None:
    decided = [*FILES, *REFUSED_ROWS, *ACCEPTED, *OWN_TESTS, *ELSEWHERE]
    assert len(decided) == len(set(decided))
    assert set(decided) == set(ROWS)


@pytest.mark.parametrize("row", FILES)
def test_a_file_that_cannot_be_imported_is_refused_for_what_it_is(row: str, tmp_path: Path) -> None:
    for data, code in FILES[row]:
        assert refused(tmp_path, data) == code


@pytest.mark.parametrize("row", REFUSED_ROWS)
async def test_a_bad_row_is_refused_with_its_line_and_the_others_are_stored(
    audience: Audience, row: str, tmp_path: Path
) -> None:
    for data, expected in REFUSED_ROWS[row]:
        facts = examined(tmp_path, data, consent_source="x")
        assert [(problem.line, problem.code) for problem in facts.problems] == expected
        view = await import_file(audience, tmp_path / "x.csv", consent_source="x")
        stored = view.created_count + view.updated_count + view.unchanged_count
        assert (view.rejected_count, stored) == (len(expected), facts.row_count - len(expected))


@pytest.mark.parametrize("row", ACCEPTED)
async def test_what_is_only_unusual_is_stored_as_it_is_meant(audience: Audience, row: str, tmp_path: Path) -> None:
    for data, row_count, stored in ACCEPTED[row]:
        facts = examined(tmp_path, data)
        assert (facts.row_count, facts.problems) == (row_count, [])
        view = await import_file(audience, tmp_path / "x.csv")
        assert (view.state, view.rejected_count) == ("completed", 0)
        async with audience.app() as uow:
            ann = await read.by_address(uow, audience.channels, "email", "a@b.co")
        assert ann is not None
        for name, value in stored.items():
            assert (ann.name if name == "name" else ann.attributes.get(name, "")) == value


def test_c15_a_line_of_100_megabytes_is_refused_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with path.open("wb") as file:
        file.write(b"email,name\na@b.co,")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Refused) as found:
        examine(path, Options(), CHANNEL)
    assert found.value.code == "line_too_long"
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_GROWTH_BYTES


def numbers(folder: Path, cell: str, **options: str) -> list[tuple[int, str, str, str]]:
    """What is wrong with a file of telephone numbers, the one to look at in its second line."""
    path = folder / "x.csv"
    path.write_text(f"phone,name\n{cell},Ann\n+14155552672,Bob\n", encoding="utf-8")
    found = examine(path, Options(channel="sms", **options), SMS)  # type: ignore[arg-type]  # each case names its own
    return [(each.line, each.field, each.code, each.message) for each in found.problems]


def test_c45_a_number_without_a_country_is_refused_unless_there_is_a_default(tmp_path: Path) -> None:
    ((line, field, code, message),) = numbers(tmp_path, "4155552671")
    assert (line, field, code) == (2, "address", "no_country")
    assert "country code" in message
    assert "default_region" in message
    assert numbers(tmp_path, "4155552671", region="US") == []


@pytest.mark.parametrize("region", ["", "US"])
def test_c47_a_number_that_a_spreadsheet_made_a_fraction_is_refused(region: str, tmp_path: Path) -> None:
    ((line, field, code, _message),) = numbers(tmp_path, "14155552671.0", region=region)
    assert (line, field, code) == (2, "address", "invalid_address")


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (None, [(2, "ambiguous_date"), (4, "ambiguous_date")]),
        ("day_first", [(4, "wrong_type")]),
        ("month_first", []),
    ],
)
def test_c48_a_day_is_read_in_the_order_that_was_chosen_and_never_guessed(
    dates: str | None, expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("email,born\na@b.co,01/02/2026\nb@b.co,2026-02-01\nc@b.co,12/31/2026\n", encoding="utf-8")
    options = Options(dates=dates)  # type: ignore[arg-type]  # each case names its own
    facts = examine(path, options, CHANNEL, {"born": Holds("date")})
    assert [(problem.line, problem.code) for problem in facts.problems] == expected


@pytest.mark.parametrize("name", ["../../../etc/cron.d/x", "CON", "x" * 300, "📄.csv", "\u202egpj.csv", "a\nb", ""])
def test_c65_the_name_of_a_file_is_only_shown_and_cannot_mislead(name: str) -> None:
    shown = display_name(name)
    assert 1 <= len(shown) <= 255
    assert shown.isprintable() or "\ufffd" in shown
    assert not any(character in shown for character in "\n\r\0\u202e")
