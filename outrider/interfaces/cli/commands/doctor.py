"""Look at everything this installation needs and say what is wrong and what to do; changes and sends nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import OutriderError
from outrider.interfaces.cli import checks, exits, output
from outrider.interfaces.cli.checks import Finding
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.progress import progress
from outrider.interfaces.cli.write_ahead import write_ahead

APP = App(name="doctor", help_epilogue="Example: `outrider doctor --connections`")

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@APP.default
async def doctor(
    *,
    connections: Annotated[bool, Parameter(help="Also try every connection of every tenant.")] = True,
    dns: Annotated[
        bool | None, Parameter(help="Also ask DNS for the domains of every sender; in production it is asked anyway.")
    ] = None,
    options: Json = JSON,
) -> Answer:
    """Examine this installation: exit 0 when nothing fails, 1 when something does. Warnings alone are exit 0."""
    del options
    findings = []
    with progress("looking", None):
        async for finding in _everything(with_connections=connections, with_dns=dns):
            findings.append(finding)  # noqa: PERF401 - each is kept even when a later one is interrupted
    is_good = all(each.verdict != "fail" for each in findings)
    text = "\n".join(_told(each) for each in findings)
    return Answer(
        {"is_ok": is_good, "findings": [msgspec.to_builtins(each) for each in findings]},
        text,
        exits.OK if is_good else exits.CHECK_FAILED,
    )


async def _everything(*, with_connections: bool, with_dns: bool | None) -> AsyncIterator[Finding]:
    """Findings in the order in which one thing needs the other; what cannot be looked at is not guessed."""
    for finding in checks.interpreter():
        yield finding
    try:
        settings = doors().settings()
    except OutriderError as error:
        yield Finding("settings", "fail", error.message, "correct the setting named")
        return
    yield Finding("settings", "ok", f"environment {settings.environment}")
    for finding in checks.machine(settings):
        yield finding
    try:
        async for finding in _with_database(with_connections=with_connections, with_dns=with_dns):
            yield finding
    except OutriderError as error:
        yield checks.unusable("database", error)


async def _with_database(*, with_connections: bool, with_dns: bool | None) -> AsyncIterator[Finding]:
    async with doors().address() as url:
        found = await checks.reachable(url)
        yield found
        if found.verdict == "fail":
            return
        yield await checks.durable(url)
        yield await write_ahead(url)
        found = await checks.schema(url)
        yield found
        if found.verdict == "fail":
            return
        async for finding in _with_runtime(with_connections=with_connections, with_dns=with_dns):
            yield finding


async def _with_runtime(*, with_connections: bool, with_dns: bool | None) -> AsyncIterator[Finding]:
    """What needs the secret key and the plugins."""
    try:
        async with doors().runtime() as runtime:
            yield Finding("secret key", "ok", f"key {runtime.keyring.key_id}, the one this database was sealed with")
            kinds = (("channels", runtime.channels), ("providers", runtime.providers))
            names = "; ".join(f"{kind} {', '.join(each)}" for kind, each in kinds)
            yield Finding("plugins", "ok", f"{names}; gates {', '.join(gate.key for gate in runtime.gates)}")
            yield await checks.clock(runtime.db)
            async for finding in checks.running(runtime):
                yield finding
            if with_connections:
                async for tenant, view, stages in checks.connection_stages(runtime):
                    yield checks.judged(tenant, view, stages)
            if runtime.settings.environment == "production" if with_dns is None else with_dns:
                async for finding in checks.sender_domains(runtime):
                    yield finding
    except OutriderError as error:
        subject = "secret key" if error.code.startswith("secret_key") else error.code.replace("_", " ")
        yield checks.unusable(subject, error)


def _told(finding: Finding) -> str:
    line = f"{_MARKS[finding.verdict]}  {finding.subject}: {output.one_line(finding.detail)}"
    return f"{line}\n      -> {finding.remedy}" if finding.remedy else line
