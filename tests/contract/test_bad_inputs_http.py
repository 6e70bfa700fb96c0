"""The table of bad inputs for the HTTP API: one test per id that the door decides, and where the others are decided."""

from __future__ import annotations

import ast
import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from outrider.domain.tenants import passwords
from outrider.interfaces.api.middleware import body_clock
from tests.kit.api import PASSWORD, Answer, Api, api_of, raw

ROWS: dict[str, dict[str, str]] = {
    row["id"]: row
    for row in json.loads((Path(__file__).with_name("bad_inputs.json")).read_text(encoding="utf-8"))["HTTP API"]
}
ELSEWHERE = {
    # id -> the tests that decide it: file and name
    "H08": ("flow/test_auth_users_keys.py", "test_a_revoked_key_is_refused_at_once_here_and_within_a_second_elsewhere"),
    "H44": ("flow/test_api_core.py", "test_forwarded_addresses_are_believed_from_trusted_proxies_only"),
    "H47": ("contract/test_api_contract.py", "test_head_and_options_are_answered"),
    "H50": ("contract/test_api_contract.py", "test_odd_ids_are_not_found_or_refused"),
    "H51": ("contract/test_api_contract.py", "test_odd_ids_are_not_found_or_refused"),
    "H52": ("contract/test_api_contract.py", "test_pages_are_1_to_1000_long_and_cursors_are_ours"),
    "H54": ("contract/test_api_contract.py", "test_pages_are_1_to_1000_long_and_cursors_are_ours"),
    "H75": ("flow/test_api_core.py", "test_a_key_that_asks_too_often_is_slowed_down_and_others_are_not"),
    "H79": ("contract/test_api_contract.py", "test_a_page_of_another_site_changes_nothing"),
}
DOES_NOT_APPLY = {
    "H83": "there is no second factor yet; that a reset ends every other session is in flow/test_auth_users_keys.py",
}
HERE = ("test_bad_inputs_http.py", "test_bad_inputs_http_content.py")

ME = "GET /api/v1/auth/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
LOGIN = "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
AS_JSON = f"{LOGIN}Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated"), login_attempts=10) as running:
        await running.user("ann@example.org")
        yield running


async def wire(api: Api, head: str, body: bytes = b"", *, is_framed: bool = True) -> tuple[int, str]:
    """Send a request as bytes; gives status and code of the answer, (0, "") for a closed connection."""
    length = f"Content-Length: {len(body)}\r\n" if is_framed and body else ""
    received = await raw(api.url, f"{head}{length}\r\n".encode() + body)
    if not received:
        return 0, ""
    top, _, rest = received.partition(b"\r\n\r\n")
    assert b"Traceback" not in received
    return int(top.split(b" ")[1]), str(json.loads(rest)["code"]) if b"problem+json" in top else ""


async def login(api: Api, email: str, password: str) -> Answer:
    return await api.caller().post("/api/v1/auth/login", {"email": email, "password": password})


def test_every_row_is_tested_or_says_where_or_why_not() -> None:
    tested = set()
    for file in HERE:
        for name in _tests(f"contract/{file}"):
            if match := re.match(r"test_((?:h\d\d_)+)", name):
                tested |= {part.upper() for part in match[1].strip("_").split("_")}
    assert tested | set(ELSEWHERE) | set(DOES_NOT_APPLY) == set(ROWS)
    assert not tested & (set(ELSEWHERE) | set(DOES_NOT_APPLY))
    assert not set(ELSEWHERE) & set(DOES_NOT_APPLY)


@pytest.mark.parametrize("row", ELSEWHERE)
def test_what_is_decided_elsewhere_is_tested_there(row: str) -> None:
    file, name = ELSEWHERE[row]
    assert name in _tests(file)


def _tests(file: str) -> set[str]:
    """The names of the tests of a file below tests/."""
    tree = ast.parse((Path(__file__).parents[1] / file).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return {node.name for node in functions if node.name.startswith("test_")}


@pytest.mark.parametrize("credential", ["Bearer ", "Bearer", "bearer  ", "", "Bearer\t"])
async def test_h02_an_empty_token_is_no_sign_in(api: Api, credential: str) -> None:
    assert await wire(api, f"{ME}Authorization: {credential}\r\n") == (401, "unauthenticated")


async def test_h03_a_token_of_100_kb_is_refused_and_never_logged(api: Api) -> None:
    with capture_logs() as lines:
        status, _ = await wire(api, f"{ME}Authorization: Bearer {'A' * 100_000}\r\n")
        shorter, _ = await wire(api, f"{ME}Authorization: Bearer {'A' * 10_000}\r\n")
    assert (status, shorter) == (431, 401)
    assert "AAAA" not in str(lines)


async def test_h04_there_is_no_basic_authentication(api: Api) -> None:
    assert await wire(api, f"{ME}Authorization: Basic dXNlcjpwYXNz\r\n") == (401, "unauthenticated")


async def test_h05_two_credentials_are_refused(api: Api) -> None:
    key = await api.key("messages:read")
    twice = f"{ME}Authorization: Bearer {key}\r\nAuthorization: Bearer {key[:-1]}x\r\n"
    assert await wire(api, twice) == (400, "duplicate_header")


async def test_h06_a_key_in_the_query_opens_nothing_and_is_not_logged(api: Api) -> None:
    key = await api.key("messages:read")
    with capture_logs() as lines:
        answer = await api.caller().get(f"/api/v1/auth/me?api_key={key}")
    assert answer.status == 401
    assert key not in str(lines)


async def test_h11_truncated_json_names_the_offset(api: Api) -> None:
    answer = await api.caller().post("/api/v1/auth/login", data=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status, answer.code, answer.json["data"]["offset"]) == (400, "malformed_json", 1)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"[1" + b"0" * 5000 + b"]", (400, "malformed_json"), id="H13"),
        pytest.param(b'{"email":"a@b.co","email":"c@d.co"}', (400, "duplicate_key"), id="H14"),
        pytest.param(b'{"email":"\\ud800","password":"x"}', (422, "lone_surrogate"), id="H17"),
        pytest.param(b'\xef\xbb\xbf{"email":"a","password":"x"}', (400, "byte_order_mark"), id="H19"),
    ],
)
async def test_h13_h14_h17_h19_json_that_parsers_disagree_about(
    api: Api, body: bytes, expected: tuple[int, str]
) -> None:
    assert await wire(api, AS_JSON, body) == expected


@pytest.mark.parametrize(
    "kind", ["text/plain", "text/json", "application/jsonx", "application/x-www-form-urlencoded", "json"]
)
async def test_h21_json_under_another_type_is_refused(api: Api, kind: str) -> None:
    body = json.dumps({"email": "ann@example.org", "password": PASSWORD}).encode()
    assert await wire(api, f"{LOGIN}Content-Type: {kind}\r\n", body) == (415, "unsupported_media_type")


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_h21_json_under_its_type_is_taken(api: Api, kind: str) -> None:
    body = json.dumps({"email": "ann@example.org", "password": PASSWORD}).encode()
    assert await wire(api, f"{LOGIN}Content-Type: {kind}\r\n", body) == (200, "")


async def test_h23_a_missing_type_is_refused_where_there_is_a_body(api: Api) -> None:
    assert await wire(api, LOGIN, b"{}") == (415, "unsupported_media_type")
    assert await wire(api, LOGIN) == (415, "unsupported_media_type")


async def test_h27_an_endless_upload_is_refused_while_others_are_served(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body_clock, "START_S", 0.4)
    kind = "Content-Type: application/json\r\n"
    announced = asyncio.create_task(wire(api, f"{LOGIN}{kind}Content-Length: 5000000000\r\n", b"{", is_framed=False))
    head = f"{LOGIN}{kind}Content-Length: 1000\r\n\r\n".encode()
    trickle = asyncio.create_task(raw(api.url, head, *[b" "] * 200, pause_s=0.01))
    assert [(await api.caller().get("/health")).status for _ in range(20)] == [200] * 20
    assert await announced == (413, "too_large")
    assert (await trickle).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "x-unknown"])
async def test_h28_compressed_bodies_are_not_unpacked(api: Api, encoding: str) -> None:
    assert await wire(api, f"{AS_JSON}Content-Encoding: {encoding}\r\n", b"\x1f\x8b" * 50) == (
        415,
        "unsupported_encoding",
    )


async def test_h29_a_body_that_stalls_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert body_clock.STALL_S <= 30
    monkeypatch.setattr(body_clock, "STALL_S", 0.3)
    received = await raw(api.url, f"{AS_JSON}Content-Length: 10\r\n\r\n".encode() + b'{"a":')
    assert received.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("length", ["-1", "1e3", "+10", "10, 10", "0x10", "1 0", "99999999999999999999", ""])
async def test_h30_lengths_that_are_no_numbers_are_refused(api: Api, length: str) -> None:
    status, _ = await wire(api, f"{AS_JSON}Content-Length: {length}\r\n", b"{}" * 5, is_framed=False)
    assert status in {400, 413, 422}
    assert status == 400 or not length.isdecimal() or length == "99999999999999999999"


async def test_h31_two_ways_of_framing_are_refused_and_the_connection_closed(api: Api) -> None:
    both = "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"
    smuggled = b"2\r\n{}\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    for head in (AS_JSON + both, AS_JSON + "Content-Length: 2\r\nContent-Length: 2\r\n"):
        received = await raw(api.url, f"{head}\r\n".encode() + smuggled)
        assert received.startswith(b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in received


@pytest.mark.parametrize("coding", ["xchunked", "chunked, identity", "identity", "chunked, chunked", "gzip, chunked"])
async def test_h32_other_transfer_codings_are_refused(api: Api, coding: str) -> None:
    status, _ = await wire(api, f"{AS_JSON}Transfer-Encoding: {coding}\r\n", b"2\r\n{}\r\n0\r\n\r\n", is_framed=False)
    assert status in {400, 422}
    assert status == 400 or coding in {"chunked, chunked", "gzip, chunked"}


@pytest.mark.parametrize("size", ["FFFFFFFFFFFFFFFF", "FFFFFFFFFFFFFFFFF", "-1", "0x5", "zz"])
async def test_h33_chunk_sizes_beyond_reason_are_refused(api: Api, size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert body_clock.STALL_S <= 10
    monkeypatch.setattr(body_clock, "STALL_S", 0.3)
    body = f"{size}\r\n{{}}".encode()
    status, _ = await wire(api, f"{AS_JSON}Transfer-Encoding: chunked\r\n", body, is_framed=False)
    assert status in {400, 408}


@pytest.mark.parametrize(
    "line", ["X-A : b", "X A: b", ": b", "X\x00A: b", "X-A: b\x00c", "X-A: b\rX-B: c", "no colon", " folded: x"]
)
async def test_h36_malformed_header_lines_are_refused(api: Api, line: str) -> None:
    assert (await wire(api, f"{ME}{line}\r\n"))[0] == 400


async def test_h38_too_many_or_too_large_headers_are_refused(api: Api) -> None:
    assert (await wire(api, ME + "".join(f"X-{number}: a\r\n" for number in range(1000))))[0] == 431
    assert (await wire(api, f"{ME}X-A: {'a' * 131_072}\r\n"))[0] == 431
    assert (await wire(api, ME + f"X-A: {'a' * 9000}\r\n" * 9))[0] == 431


async def test_h39_a_request_line_of_64_kb_is_refused(api: Api) -> None:
    assert (await wire(api, f"GET /{'a' * 65_536} HTTP/1.1\r\nHost: x\r\n"))[0] == 414


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/messages/../../admin",
        "/api/v1/%2e%2e%2f%2e%2e%2fadmin",
        "/api/v1/..%5cadmin",
        "/api/v1/auth/me/..",
        "/api/v1/./auth/me",
        "/api/v1/auth%2fme",
        "/api/v1/auth/me%00",
        "/../../etc/passwd",
        "/..%c0%af../etc/passwd",
    ],
)
async def test_h40_no_path_is_normalised_past_the_router(api: Api, path: str) -> None:
    assert await wire(api, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n") == (404, "not_found")


@pytest.mark.parametrize(
    "path", ["//api/v1/messages", "/v1//messages", "/api//v1/auth/me", "//evil.example/health", "/health//"]
)
async def test_h41_doubled_slashes_lead_nowhere(api: Api, path: str) -> None:
    received = await raw(api.url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert received.startswith(b"HTTP/1.1 404 ")
    assert b"location:" not in received.lower()


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_h45_the_method_is_the_one_of_the_request_line(api: Api, name: str) -> None:
    assert await wire(api, f"{AS_JSON}{name}: GET\r\n", b"{}") == (422, "required")
    me = f"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{name}: DELETE\r\n"
    assert (await wire(api, me))[0] == 200


@pytest.mark.parametrize(
    "line", ["TRACE /health", "CONNECT evil.example:443", "FOO /health", "PROPFIND /health", "get /health"]
)
async def test_h46_methods_nobody_uses_are_refused(api: Api, line: str) -> None:
    assert (await wire(api, f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"))[0] in {405, 501}


@pytest.mark.parametrize(
    "zone", ["Mars/Olympus", "../../etc/passwd", "Europe/London\0", "/etc/localtime", "posixrules/.."]
)
async def test_h59_time_zones_are_looked_up_in_a_list(api: Api, zone: str) -> None:
    ann = await api.signed_in("ann@example.org")
    tenant = (await ann.get("/api/v1/auth/me")).json["tenant_id"]
    assert (await ann.patch(f"/api/v1/tenants/{tenant}", {"timezone": zone})).status == 422


async def test_h64_unknown_fields_are_refused_and_never_bound(api: Api) -> None:
    ann = await api.signed_in("ann@example.org")
    body = {"email": "mass@example.org", "role": "viewer", "is_active": False, "tenant": "t2", "status": "sent"}
    answer = await ann.post("/api/v1/users", body)
    assert (answer.status, answer.code) == (422, "unknown_field")
    assert "mass@example.org" not in (await ann.get("/api/v1/users")).text


@pytest.mark.parametrize("password", ["p" * 1_000_000, "🐘" * 5000, "with \0 inside", "\ud800" * 9])
async def test_h80_absurd_passwords_are_refused_without_hashing(
    api: Api, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: str) -> bool:
        raise AssertionError("hashed")

    monkeypatch.setattr(passwords, "_verify", never)
    answer = await login(api, "ann@example.org", password)
    assert answer.status in {400, 422}
    assert len(answer.text) < 1000


async def test_h81_twenty_wrong_passwords_lock_and_tell_nobody_who_exists(api: Api) -> None:
    await api.user("locked@example.org")
    seen = {}
    for email in ("locked@example.org", "nobody@example.org"):
        answers = [await login(api, email, f"wrong {number}") for number in range(20)]
        answers.append(await login(api, email, PASSWORD))
        seen[email] = [(answer.status, answer.code, answer.json["detail"]) for answer in answers]
        assert answers[-1].status == 429
    assert seen["locked@example.org"] == seen["nobody@example.org"]
