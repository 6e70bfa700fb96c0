"""The description of the API is true: schemathesis holds the running API to it, with every check it has and ours."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.tenants.roles import SCOPES
from outrider.interfaces.api.application import routes
from outrider.interfaces.api.description import describe, operations
from tests.kit.api import Api, api_of
from tests.kit.names import Table, serving
from tests.kit.worlds import world_of

PROGRAM = Path(sys.executable).with_name("st")
CONFIG = Path(__file__).with_name("schemathesis.toml")
ROOT = CONFIG.parents[2]
BOUND_S = 540
PEOPLE_ONLY = (
    r"^/api/v1/(keys|auth/(me|token|password)$|auth/sessions$|maintenance|tenants)",
    # ending the session that asks would leave nothing to ask with
    r"^(DELETE /api/v1/auth/sessions|POST /api/v1/auth/logout)",
)


WHO = re.compile(r"Needs (the role|no sign-in)|Only administrators|Open to the networks")


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    url = new_database("migrated")
    settings = {"api_rate_per_s": 100_000, "login_attempts": 100, "allow_localhost_links": True}
    async with serving(Table()) as names, api_of(url, dns_servers=[names], **settings) as running:
        await world_of(running, DEFAULT_TENANT, "described")
        await running.user("root@example.org", is_installation_admin=True)
        yield running


async def schemathesis(location: str, *options: str, folder: Path) -> tuple[int, str]:
    """Run it to its end; gives its exit code and what it printed.

    In one thread: two that parse Python's own source at a time end in Python 3.11's "AST constructor recursion depth
    mismatch" now and then.
    """
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.kit.schemathesis_checks", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        PROGRAM, "--config-file", CONFIG, "run", location, "--seed", "1", "--workers", "1", "--continue-on-failure",
        "--suppress-health-check", "all", "--no-color", *options,
        cwd=folder, env=environment, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(BOUND_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, printed.decode()


def unreached(printed: str) -> str:
    """The operations of which only the sign-in was seen."""
    return printed.partition("Authentication failed:")[2].partition("💡")[0]


async def test_every_operation_keeps_to_its_description_for_a_program(api: Api, tmp_path: Path) -> None:
    key = await api.key(*SCOPES)
    code, printed = await schemathesis(
        f"{api.url}/openapi.json", "--header", f"Authorization: Bearer {key}", "--checks", "all",
        "--exclude-name", "DELETE /api/v1/keys/{key_id}",  # the key it asks with would be among them
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "3", folder=tmp_path,
    )  # fmt: skip
    assert code == 0, printed
    described = len(list(operations(routes())))
    assert f"Tested: {described - 1}" in printed
    assert "GET /api/v1/keys" not in unreached(printed), "the key was lost on the way"


async def test_what_only_people_may_do_keeps_to_its_description_for_a_person(api: Api, tmp_path: Path) -> None:
    person = await api.signed_in("root@example.org")
    code, printed = await schemathesis(
        f"{api.url}/openapi.json", "--header", f"Cookie: session_id={person.cookies['session_id']}",
        "--checks", "all", "--exclude-checks", "ignored_auth",  # the cookie is a header here, which it cannot leave out
        "--include-path-regex", PEOPLE_ONLY[0], "--exclude-name-regex", PEOPLE_ONLY[1],
        "--phases", "examples,coverage,fuzzing", "--max-examples", "5", folder=tmp_path,
    )  # fmt: skip
    assert code == 0, printed
    assert "/api/v1/maintenance" not in unreached(printed), "nothing was reached behind the sign-in"


@pytest.mark.parametrize("wrong", ["answer", "status", "body"])
async def test_the_run_notices_a_description_that_is_not_true(api: Api, tmp_path: Path, wrong: str) -> None:
    described = (await api.caller().get("/openapi.json")).json
    alive, login = described["paths"]["/livez"]["get"], described["paths"]["/api/v1/auth/login"]["post"]
    if wrong == "answer":
        alive["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "array"}
    elif wrong == "status":
        alive["responses"] = {"418": {"description": "never"}}
    else:
        login["requestBody"]["content"]["application/json"]["schema"] = {"type": "object", "required": ["nickname"]}
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(described))
    code, printed = await schemathesis(
        str(file), "--url", api.url, "--include-path-regex", "^(/livez|/api/v1/auth/login)$", "--checks", "all",
        "--phases", "coverage", "--max-examples", "3", folder=tmp_path,
    )  # fmt: skip
    assert code == 1, printed


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = routes()
    return describe(app, cookie="session_id")


def _each(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_every_operation_has_a_name_of_its_own_and_says_what_it_does_and_who_may(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in _each(document)]
    assert len(names) == len(set(names)) > 100
    for where, operation in _each(document):
        assert operation["summary"], where
        assert re.search(
            r"Needs (the role|no sign-in)|Only administrators|Open to the networks", operation["description"]
        )
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}, where


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))
    assert len(references) > 50
    for reference in references:
        found = document
        for step in reference.split("/"):
            found = found[step]
        assert found


def test_a_type_of_a_body_refuses_in_the_description_what_it_refuses_in_fact(document: dict[str, Any]) -> None:
    for where, operation in _each(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body:
            name = body["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name].get("additionalProperties") is False, where


async def test_the_document_is_served_to_everybody(api: Api, document: dict[str, Any]) -> None:
    answer = await api.caller().get("/openapi.json")
    assert (answer.status, answer.json["openapi"]) == (200, "3.1.0")
    assert set(answer.json["paths"]) == set(document["paths"])
