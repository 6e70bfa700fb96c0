"""Files attached to messages and templates by the command line: what arrives in the database, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.domain.templates.attachments import MOST_BYTES, MOST_FILES
from tests.kit.command import Command, Done, migrated_command
from tests.kit.postgres import run_apart

PDF = b"%PDF-1.7\n\x00\xff"
SEND = ("messages", "send", "ann@example.org", "--subject", "s", "--text", "t")


@pytest.fixture
def outrider(new_database: Callable[..., str], tmp_path: Path) -> Command:
    """A command on a migrated database with one sender."""
    made = migrated_command(new_database, tmp_path)
    prepared = made.many(
        [
            ("connection", "create", "mx", "--set", "host=mail.example.org"),
            ("sender", "create", "news", "--connection", "mx", "--from", "News <news@example.com>"),
        ]
    )
    assert [done.code for done in prepared] == [0, 0], prepared
    return made


def _ok(done: Done) -> Any:
    assert done.code == 0, done
    return json.loads(done.out)


def _files(outrider: Command) -> list[tuple[str, str, bytes]]:
    """Every stored file, in the order of the contents and in theirs."""

    async def ask() -> list[tuple[str, str, bytes]]:
        connection = await asyncpg.connect(outrider.environment["OUTRIDER_DATABASE_URL"])
        try:
            async with connection.transaction():
                await connection.execute("SET LOCAL ROLE outrider_engine")
                rows = await connection.fetch(
                    "SELECT name, content_type, content FROM content_attachments ORDER BY content_id, position"
                )
                return [(row[0], row[1], row[2]) for row in rows]
        finally:
            await connection.close()

    return run_apart(ask())


def test_files_of_a_message_are_kept_as_they_are_and_belong_to_its_key(outrider: Command, tmp_path: Path) -> None:
    invoice, terms = tmp_path / "invoice.pdf", tmp_path / "terms.bin"
    invoice.write_bytes(PDF)
    terms.write_bytes(PDF * 2)
    send = (*SEND, "--idempotency-key", "order-17", "--json", "--attach", str(invoice))
    sent, again, fewer, with_template = outrider.many(
        [
            (*send, "--attach", f"{terms};type=application/pdf"),
            (*send, "--attach", f"{terms};type=application/pdf"),
            send,
            ("messages", "send", "ann@example.org", "--template", "sale", "--attach", str(invoice)),
        ]
    )
    assert _ok(again) == {"id": _ok(sent)["id"], "is_replayed": True}
    assert (fewer.code, "--idempotency-key" in fewer.err) == (2, True), "other files are another message"
    assert (with_template.code, "attachments" in with_template.err) == (2, True)
    assert _files(outrider) == [("invoice.pdf", "application/pdf", PDF), ("terms.bin", "application/pdf", PDF * 2)]


def test_files_of_a_template_are_shown_and_an_update_without_them_has_none(outrider: Command, tmp_path: Path) -> None:
    text, notes = tmp_path / "text.txt", tmp_path / "notes.txt"
    text.write_text("Hello.\n")
    notes.write_bytes(b"caf\xe9")
    source = ("--subject", "s", "--text", str(text))
    made, first, in_words, updated, latest = outrider.many(
        [
            ("template", "create", "sale", *source, "--attach", str(notes), "--json"),
            ("template", "show", "sale", "--json"),
            ("template", "show", "sale"),
            ("template", "update", "sale", *source, "--json"),
            ("template", "show", "sale", "--json"),
        ]
    )
    assert _ok(made)["latest_version"] == 1
    assert _ok(first)["attachments"] == [{"name": "notes.txt", "content_type": "text/plain", "size_bytes": 4}]
    assert (in_words.code, "notes.txt" in in_words.out) == (0, True)
    assert (_ok(updated)["version"], _ok(latest)["attachments"]) == (2, [])
    assert _files(outrider) == [("notes.txt", "text/plain", b"caf\xe9")]


def test_what_cannot_be_attached_is_refused_by_its_name_and_nothing_is_accepted(
    outrider: Command, tmp_path: Path
) -> None:
    for name, size in {
        "empty.pdf": 0,
        ".hidden": 3,
        "great.bin": MOST_BYTES + 1,
        "half.bin": MOST_BYTES // 2 + 1,
    }.items():
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(size)
    (tmp_path / "small.txt").write_text("x")
    refused = {
        "missing.pdf": "cannot be read",
        "empty.pdf": "is empty",
        ".": "is not a file",
        ".hidden": "must not begin",
        "great.bin": f"{MOST_BYTES + 1:,} bytes",
        "small.txt;type=pdf": "media type",
        "small.txt;type=message/rfc822": "media type",
    }
    lines: list[tuple[str, ...]] = [(*SEND, "--attach", str(tmp_path / name)) for name in refused]
    lines.append((*SEND, *("--attach", str(tmp_path / "half.bin")) * 2))
    lines.append((*SEND, *("--attach", str(tmp_path / "small.txt")) * (MOST_FILES + 1)))
    *single, together, many = outrider.many(lines)
    for done, (name, why) in zip(single, refused.items(), strict=True):
        assert (done.code, "--attach" in done.err, why in done.err) == (2, True, True), (name, done.err)
        assert tmp_path.joinpath(name).name in done.err, done.err
    assert (together.code, "half.bin" in together.err, "together" in together.err) == (2, True, True), together.err
    assert (many.code, f"at most {MOST_FILES}" in many.err) == (2, True), many.err
    assert outrider.run("messages", "list", "--json").json() == []
    assert _files(outrider) == []
