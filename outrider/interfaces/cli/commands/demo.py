"""Show the main job end to end on real servers: a campaign, its gates, the kill switch, a kill -9, and the proof."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database
from outrider.domain.tenants import keys
from outrider.domain.tenants.roles import SCOPES
from outrider.interfaces.cli import exits, output
from outrider.interfaces.cli.demonstration import people as cast
from outrider.interfaces.cli.demonstration import proof, readers, servers, texts
from outrider.interfaces.cli.demonstration.client import Api
from outrider.interfaces.cli.demonstration.ledger import Ledger
from outrider.interfaces.cli.demonstration.people import People
from outrider.interfaces.cli.demonstration.proof import Line
from outrider.interfaces.cli.demonstration.story import Played, Stage, play
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json, between, whole_number
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.work import within

APP = App(name="demo", help_epilogue="Example: `outrider demo`")

_MARKS = {True: "ok   ", False: "WRONG"}


@dataclass(frozen=True, slots=True)
class _Kept:
    """Whether to stay up afterwards, and whether stdout is for a program."""

    keep: bool
    is_json: bool


@APP.default
async def demo(
    *,
    contacts: Annotated[
        int, Parameter(converter=whole_number, validator=between(cast.LEAST, 1_000_000), n_tokens=1)
    ] = 20_000,
    keep: Annotated[bool, Parameter(negative="")] = False,
    folder: Path | None = None,
    options: Json = JSON,
) -> Answer | int:
    """Run the demonstration; exit 1 when a number does not add up. It touches no other installation.

    Parameters
    ----------
    contacts
        Rows of the CSV file.
    keep
        Leave everything running afterwards, until Ctrl-C.
    folder
        Where its database and files are kept; a temporary folder that is removed at the end when absent.
    """
    people = cast.plan(contacts)
    kept = _Kept(keep, options.json)
    with servers.folder(folder, keep=keep) as home:
        environment = servers.settings(home)
        os.environ.clear()
        os.environ.update(environment)  # the doors of this process lead to the demonstration's database
        lines = await _run(home, environment, people, kept)
    is_good = all(line.is_right for line in lines)
    if kept.keep:
        return exits.OK if is_good else exits.CHECK_FAILED
    return _answer(lines)


async def _run(home: Path, environment: dict[str, str], people: People, kept: _Kept) -> list[Line]:
    ledger_path, rules = home / "ledger.jsonl", home / "faults.json"
    rules.write_text(json.dumps(cast.faults()), encoding="utf-8")
    ledger_path.unlink(missing_ok=True)
    sandbox = ["sandbox", "--ledger", str(ledger_path), "--faults", str(rules), "--smtp-port", "0", "--http-port", "0"]
    if kept.keep:
        sandbox.append("--keep-bodies")  # its inbox is there to be looked at afterwards
    output.say(f"starting servers in {home}")
    async with (
        servers.started("sandbox", sandbox, environment, home / "sandbox.log") as mail,
        servers.started("outrider up", ["up", "--workers", "2"], environment, home / "up.log") as base_url,
        doors().database() as db,
    ):
        smtp_url, _, inbox = mail.partition(" ")
        output.say(f"API {base_url}, mail server {smtp_url}, its inbox {inbox}")
        key = await _key(db)
        async with Api(base_url, key) as api:
            stage = Stage(api, int(smtp_url.rpartition(":")[2]), Ledger(ledger_path), db, home, output.say)
            with within_time("the first act, a campaign under fire"):
                first = await play(stage, people)
            lines = proof.prove(people, first.counts, first.messages, stage.ledger.records, first.course)
            with within_time("the second act, its readers"):
                lines += await _second_act(stage, people, first, base_url, environment)
            with within_time("the third act, texts"):
                lines += await _third_act(stage, base_url, environment)
        if kept.keep:
            output.emit(_answer(lines), as_json=kept.is_json)
            output.say(_where(base_url, inbox, key, home))
            await asyncio.Event().wait()
    return lines


@contextmanager
def within_time(act: str) -> Iterator[None]:
    """Say which act did not come to its end in its time."""
    try:
        yield
    except TimeoutError:
        why = f"{act}, did not come to its end in its time; --keep and --folder leave the servers' logs to look at"
        raise Unavailable("demo_stuck", why) from None


async def _second_act(
    stage: Stage, people: People, first: Played, base_url: str, environment: dict[str, str]
) -> list[Line]:
    """Readers, with a mail server of their own that keeps its letters: a small one, beside the fast one."""
    path = stage.folder / "letters.jsonl"
    path.unlink(missing_ok=True)
    arguments = ["sandbox", "--ledger", str(path), "--smtp-port", "0", "--http-port", "0", "--keep-bodies"]
    async with (
        servers.started("sandbox", arguments, environment, stage.folder / "letters.log") as mail,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
    ):
        smtp_url, _, inbox = mail.partition(" ")
        room = readers.Room(stage, int(smtp_url.rpartition(":")[2]), inbox, base_url, Ledger(path), http)
        return readers.prove(people, await readers.play(room, people, first))


async def _third_act(stage: Stage, base_url: str, environment: dict[str, str]) -> list[Line]:
    """Texts, with a server that answers as Twilio does."""
    path = stage.folder / "texts.jsonl"
    path.unlink(missing_ok=True)
    arguments = ["sandbox", "twilio", "--ledger", str(path), "--port", "0"]
    async with (
        servers.started("sandbox twilio", arguments, environment, stage.folder / "texts.log") as provider_url,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as http,
    ):
        room = texts.Room(stage, provider_url, base_url, texts.SID, texts.TOKEN, http)
        return texts.prove(await texts.play(room))


async def _key(db: Database) -> str:
    """A key for the API, made as an operator would with `outrider key create`."""
    async with within(db, DEFAULT_TENANT) as work:
        _, key = await keys.create(work.uow, work.actor, name="demo", role="admin", scopes=list(SCOPES))
    return key


def _answer(lines: list[Line]) -> Answer:
    is_good = all(line.is_right for line in lines)
    width = max(len(line.name) for line in lines)
    told = [
        f"{_MARKS[line.is_right]}  {line.name:<{width}}  {_shown(line.value):>10}  {line.must}".rstrip()
        for line in lines
    ]
    told.append("every number adds up" if is_good else "NOT every number adds up, see above")
    data = {"is_ok": is_good, "lines": [msgspec.to_builtins(line) for line in lines]}
    return Answer(data, "\n".join(told), exits.OK if is_good else exits.CHECK_FAILED)


def _where(base_url: str, inbox: str, key: str, home: Path) -> str:
    facts = {
        "API": f"{base_url}/openapi.json",
        "key": key,
        "try": f"curl -H 'Authorization: Bearer {key}' {base_url}/api/v1/campaigns",
        "inbox of the mail server": inbox,
        "files": str(home),
        "stop": "Ctrl-C",
    }
    return "everything is left running\n" + output.facts(facts)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)
