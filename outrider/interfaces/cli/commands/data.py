"""The data: check that what must always hold does hold."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from cyclopts import App

from outrider.contracts.invariant import Finding
from outrider.data.db import Database, Role
from outrider.domain.audit import verify as chains
from outrider.domain.campaigns import validate as campaigns
from outrider.domain.contacts import validate as contacts
from outrider.domain.limits import validate as limits
from outrider.domain.messages import validate as messages
from outrider.interfaces.cli import exits
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.progress import progress

APP = App(name="data")

_NOUNS: Final = (contacts, limits, campaigns)
_CHAIN: Final = "audit"
_COLUMNS: Final = ("invariant", "tenant_id", "ids", "detail")


@APP.command
async def validate(*, options: Json = JSON) -> Answer:
    """Check every invariant that the database alone can show; exit 1 and the ids when one does not hold.

    Example: `outrider data validate`
    """
    del options
    sweep_s = doors().settings().sweep_s
    rows: list[dict[str, Any]] = []
    async with doors().database() as db:
        with progress("checking", len(_NOUNS) + 2) as advance:
            async with db.uow(Role.ENGINE) as uow:
                rows += [msgspec.to_builtins(each) async for each in messages.validate(uow.raw, sweep_s=sweep_s)]
            for done, noun in enumerate(_NOUNS, start=1):
                advance(done)
                async with db.uow(Role.ENGINE) as uow:
                    rows += [_row(each) async for each in noun.validate(uow.raw)]
            advance(len(_NOUNS) + 1)
            rows += await _chains(db)
    shown = [{**row, "ids": _short(row["ids"])} for row in rows]
    text = table(shown, _COLUMNS, empty="every invariant holds")
    return Answer({"is_ok": not rows, "findings": rows}, text, exits.CHECK_FAILED if rows else exits.OK)


async def _chains(db: Database) -> list[dict[str, Any]]:
    """Audit chains that are not whole."""
    rows = []
    async with db.uow(Role.ENGINE) as uow:
        heads = await chains.heads(uow)
    for head in heads:
        async with db.uow(Role.ENGINE) as uow:
            found = await chains.verify(uow, head.tenant_id)
        if not found.is_whole:
            rows.append(
                {"invariant": _CHAIN, "tenant_id": found.tenant_id, "ids": [found.at_seq], "detail": found.problem}
            )
    return rows


def _row(finding: Finding) -> dict[str, Any]:
    number, _, name = finding.invariant.partition("_")
    detail = f"{name.replace('_', ' ')}: {finding.detail}"
    return {"invariant": number.upper(), "tenant_id": finding.tenant_id, "ids": [finding.id], "detail": detail}


def _short(ids: list[Any]) -> str:
    shown = ", ".join(map(str, ids[:3]))
    return shown if len(ids) <= 3 else f"{shown} and {len(ids) - 3} more"  # noqa: PLR2004 - a line
