"""Reading CSV: line ends, quotes, counts and limits, each with the right line number."""

from __future__ import annotations

import csv
import io
import random

import pytest

from outrider.base.errors import Refused
from outrider.domain.contacts.imports import csv_rows
from outrider.domain.contacts.imports.csv_rows import Row, check_counts, read_rows


def rows_of(data: bytes | str, delimiter: str = ",") -> list[Row]:
    return list(read_rows(io.BytesIO(data.encode() if isinstance(data, str) else data), delimiter))


def cells_of(data: bytes | str, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    return [(row.line, row.cells) for row in rows_of(data, delimiter)]


def counted(data: str) -> list[tuple[int, str | None]]:
    """Line and code of each row below the header."""
    rows = read_rows(io.BytesIO(data.encode()), ",")
    header = next(rows)
    body = check_counts(rows, len(header.cells), is_cr_file=header.ends_with_cr)
    return [(row.line, row.problem.code if row.problem else None) for row in body]


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r"])
def test_every_kind_of_line_end_ends_a_row(end: str) -> None:
    text = f"email,name{end}a@b.co,Ann{end}c@d.co,Bob"
    assert cells_of(text) == [(1, ["email", "name"]), (2, ["a@b.co", "Ann"]), (3, ["c@d.co", "Bob"])]


def test_mixed_line_ends_keep_right_line_numbers() -> None:
    assert [line for line, _ in cells_of("h\r\na\nb\rc\r\n\r\nd\n")] == [1, 2, 3, 4, 6]


def test_a_crlf_cut_by_the_end_of_a_chunk_is_one_line_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_CHUNK_BYTES", 4)
    assert cells_of("abc\r\ndef\r\nghi\r") == [(1, ["abc"]), (2, ["def"]), (3, ["ghi"])]


def test_a_byte_order_mark_is_no_part_of_the_first_cell() -> None:
    assert cells_of(b"\xef\xbb\xbfemail\na@b.co\n")[0] == (1, ["email"])


def test_quotes_hold_delimiters_line_ends_and_quotes() -> None:
    text = 'email,name\n"a@b.co","He said ""hi"", then\r\nleft"\nc@d.co,x\n'
    assert cells_of(text)[1:] == [(2, ["a@b.co", 'He said "hi", then\nleft']), (4, ["c@d.co", "x"])]


def test_unusual_line_ends_of_unicode_are_no_line_ends() -> None:
    assert cells_of("h\na\u2028b\x85c\n")[1] == (2, ["a\u2028b\x85c"])


def test_blank_rows_and_rows_of_delimiters_alone_are_left_out() -> None:
    assert [line for line, _ in cells_of("h,i\n\n,\n   ,  \na,b\n\n")] == [1, 5]


def test_a_byte_that_is_not_utf8_refuses_its_row_alone_and_is_never_guessed() -> None:
    rows = rows_of(b"h\nok@b.co\ncaf\xe9@b.co\nalso@b.co\n")
    assert [row.problem.code if row.problem else None for row in rows] == [None, None, "not_utf8", None]
    assert rows[2].problem is not None
    assert "byte 4 " in rows[2].problem.message
    assert rows[2].line == 3


def test_a_field_beyond_the_limit_of_the_parser_refuses_its_row_alone() -> None:
    rows = rows_of(f"h,i\na,{'x' * 200_000}\nb,c\n")
    assert [(row.line, row.problem.code if row.problem else None) for row in rows] == [
        (1, None),
        (2, "field_too_long"),
        (3, None),
    ]


def test_text_after_a_closing_quote_refuses_its_row_alone() -> None:
    rows = rows_of('h,i\n"a"b,c\nd,e\n')
    assert [row.problem.code if row.problem else None for row in rows] == [None, "bad_quotes", None]


@pytest.mark.parametrize(
    "text",
    ['h,i\na,"never closed\n' + "b,c\n" * 500, 'h,i\na,"never closed\nb,c', 'h\n"' + "x\n" * 100_000],
)
def test_a_quote_that_is_never_closed_refuses_the_file_and_names_where_it_opens(text: str) -> None:
    with pytest.raises(Refused) as refused:
        rows_of(text)
    assert refused.value.code == "unclosed_quote"
    assert refused.value.data["line"] == 2


def test_a_line_without_end_refuses_the_file_before_it_is_held_whole() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int = -1) -> bytes:
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(Refused) as refused:
        next(read_rows(stream, ","))  # type: ignore[arg-type]  # only `read` is used
    assert refused.value.code == "line_too_long"
    assert stream.given < 4_000_000


def test_rows_with_another_number_of_columns_are_refused() -> None:
    assert counted("a,b\n1,2\n1\n1,2,3\n1,2,\n1,2,,  \n") == [
        (2, None),
        (3, "column_count"),
        (4, "column_count"),
        (5, None),
        (6, None),
    ]


def test_a_lone_carriage_return_inside_a_field_refuses_both_halves() -> None:
    assert counted("email,name\r\na@b.co,Jo\rhn\r\nc@d.co,Ann\r\n") == [(2, "lone_cr"), (3, "lone_cr"), (4, None)]
    assert counted("email,name\nJo\rhn,a@b.co\nc@d.co,Ann\n") == [(2, "lone_cr"), (3, "lone_cr"), (4, None)]


def test_carriage_returns_between_whole_rows_are_line_ends() -> None:
    assert counted("email,name\r\na@b.co,A\rb@b.co,B\nc@b.co,C\r\n") == [(2, None), (3, None), (4, None)]


def test_in_a_file_of_carriage_returns_a_short_row_is_only_short() -> None:
    assert counted("a,b\r1,2\r1\r1,2\r") == [(2, None), (3, "column_count"), (4, None)]


def test_what_the_csv_module_writes_is_read_back_the_same() -> None:
    choice = random.Random(7)  # noqa: S311 - a fixed seed, hides nothing
    alphabet = ["a", '"', ",", "\n", "é", " ", "\u2028", "x"]
    rows = [["".join(choice.choices(alphabet, k=choice.randrange(6))) for _ in range(3)] for _ in range(500)]
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    for end in ("\r\n", "\n"):
        text = io.StringIO()
        csv.writer(text, lineterminator=end).writerows(rows)
        assert [row.cells for row in rows_of(text.getvalue())] == rows


def test_what_is_shown_back_is_short_and_printable() -> None:
    assert csv_rows.echo("a\x1b[31m\u202eb" + "x" * 500) == "a\ufffd[31m\ufffdb" + "x" * 92
