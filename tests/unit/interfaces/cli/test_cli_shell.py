"""Parsing, printing and exit codes of the command line, without a database."""

from __future__ import annotations

import asyncio
import json
import logging
import pkgutil
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from cyclopts import App

from outrider.app import commands as processes
from outrider.app.start import PROCESSES
from outrider.base.errors import Broken, Misconfigured, Refused, RefusedMany, Unavailable
from outrider.data import log
from outrider.interfaces.cli import commands, exits, named, output, shell
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, OutputLost


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """The log as a one-shot command has it."""
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    log.quiet()
    yield
    logging.getLogger().handlers[:] = before
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()


def _run(work: Any, *, processes_: frozenset[str] = frozenset(), arguments: tuple[str, ...] = ("do",)) -> int:
    app = App(name="outrider", version_flags=["--version"])
    app.command(work, name="do")
    return shell.run(arguments, app, processes=processes_)


def _raising(error: BaseException) -> Any:
    def do() -> None:
        raise error

    return do


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Refused("bad", "is wrong", field="/name"), exits.USAGE),
        (Refused("not_found", "no such thing", status=404), exits.NOT_FOUND),
        (Refused("taken", "somebody has it", status=409), exits.CONFLICT),
        (Refused("forbidden", "you may not", status=403), exits.NOT_ALLOWED),
        (RefusedMany([Refused("a", "first"), Refused("b", "second")]), exits.USAGE),
        (Unavailable("away", "try again"), exits.UNAVAILABLE),
        (Misconfigured("settings", "wrong"), exits.USAGE),
        (Misconfigured("database_rights", "no right"), exits.NOT_ALLOWED),
        (Broken("bug", "a bug"), exits.BUG),
        (ZeroDivisionError("x"), exits.BUG),
        (KeyboardInterrupt(), exits.INTERRUPTED),
        (asyncio.CancelledError(), exits.INTERRUPTED),
        (MemoryError(), exits.SYSTEM),
        (OSError(24, "Too many open files"), exits.SYSTEM),
        (RuntimeError("can't start new thread"), exits.SYSTEM),
        (RuntimeError("something else"), exits.BUG),
        (ImportError("no module"), exits.SYSTEM),
        (OutputLost(exits.READER_GONE), exits.READER_GONE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_every_failure_is_one_line_and_has_its_exit_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(_raising(error)) == code
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert len(lines) == {RefusedMany: 2, OutputLost: 0}.get(type(error), 1)
    assert all(line.startswith("error: ") for line in lines)


def test_a_process_refuses_to_start_with_a_code_of_its_own() -> None:
    error = Misconfigured("secret_key_wrong", "another key")
    assert _run(_raising(error), processes_=frozenset({"do"})) == exits.REFUSES_TO_START


def test_the_secret_in_a_bug_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    _run(_raising(RuntimeError("cannot use postgresql://me:hunter2@host/db\nsecond line")))
    told = capsys.readouterr().err
    assert "hunter2" not in told
    assert "second line" not in told


def test_an_answer_is_text_for_people_and_one_document_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    async def do(*, options: Json = JSON) -> Answer:
        del options
        return Answer({"id": UUID(int=1), "name": "Zoë"}, "made Zoë", exits.CHECK_FAILED)

    assert _run(do) == exits.CHECK_FAILED
    assert capsys.readouterr().out == "made Zoë\n"
    assert _run(do, arguments=("do", "--json")) == exits.CHECK_FAILED
    assert capsys.readouterr().out == '{"id": "00000000-0000-0000-0000-000000000001", "name": "Zo\\u00eb"}\n'


def test_what_people_wrote_cannot_steer_a_terminal_or_make_a_line() -> None:
    text = output.table([{"name": "a\x1b[31mred\nerror: forged"}], ("name",))
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
    assert "\\x1b[31mred\\nerror: forged" in text


def test_every_command_says_what_it_is_for_and_is_called_as_its_file() -> None:
    for package in (commands, processes):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            name = module.name.rpartition(".")[2].replace("_", "-")
            app = shell.build([package.__name__])
            assert app[name].name == (name,)
            assert app[name].help, f"{module.name} has no first line"
    assert {"up", "worker", "api", "scheduler", "sandbox"} <= PROCESSES


def test_every_exit_code_is_in_the_table_once() -> None:
    codes = [each.code for each in exits.EXITS]
    assert len(codes) == len(set(codes))
    named_codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert named_codes == set(codes)


async def test_a_thing_is_found_by_its_id_or_exact_name_on_any_page() -> None:
    class Thing:
        def __init__(self, name: str) -> None:
            self.id, self.name = uuid4(), name

    things = [Thing(f"thing {number}") for number in range(2500)]

    async def page(after: UUID | None, limit: int) -> list[Thing]:
        begin = 0 if after is None else [thing.id for thing in things].index(after) + 1
        return things[begin : begin + limit]

    for wanted in (things[0], things[1000], things[2499]):
        assert await named.find(wanted.name, "thing", page, field="thing") is wanted
        assert await named.find(str(wanted.id), "thing", page, field="thing") is wanted
    for unknown in ("Thing 1", "thing", str(uuid4())):
        with pytest.raises(Refused, match="no thing named"):
            await named.find(unknown, "thing", page, field="thing")


def test_the_plugins_are_listed_with_their_settings(capsys: pytest.CaptureFixture[str]) -> None:
    app = shell.build([commands.__name__])
    assert shell.run(["plugins"], app) == exits.OK
    assert "host (text, required)" in capsys.readouterr().out
    assert shell.run(["plugins", "--json"], app) == exits.OK
    found = json.loads(capsys.readouterr().out)
    assert {each["key"] for each in found["providers"]} >= {"smtp", "resend", "twilio"}
    assert {"name", "kind", "help", "default"} <= set(found["providers"][0]["fields"][0])
