"""The sandbox's HTTP side: statistics, records, raw messages, the inbox, and whom it refuses."""

from __future__ import annotations

import asyncio
import http.client
import json
import smtplib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.interfaces.sandbox.rules import Refuse
from tests.kit.smtp_talk import MESSAGE, RunningSandbox, open_sandbox, with_smtplib

HTML = (
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <script>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>Hello <script>alert(1)</script></p>\r\n"
)


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[RunningSandbox]:
    rule = Refuse(recipient="*@bounce.example", name="bounces")
    async with open_sandbox(tmp_path, rule, http_port=0, keeps_bodies=True, http_hosts=("inbox.test",)) as running:

        def send(client: smtplib.SMTP) -> None:
            client.sendmail("from@example.org", ["ana@example.org", "x@bounce.example"], MESSAGE)
            client.sendmail("from@example.org", ["bo@example.org"], HTML)

        await with_smtplib(running, send)
        yield running


async def get(
    sandbox: RunningSandbox, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """One request; gives status, headers (lower case) and body."""
    address = sandbox.addresses.http
    assert address is not None

    def request() -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(*address, timeout=60)
        try:
            connection.request(method, path, headers={} if host is None else {"Host": host})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    return await asyncio.to_thread(request)


async def get_json(sandbox: RunningSandbox, path: str) -> Any:
    status, headers, body = await get(sandbox, path)
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(body)


async def test_health_and_statistics_are_json(sandbox: RunningSandbox) -> None:
    assert await get_json(sandbox, "/health") == {"status": "ok"}
    stats = await get_json(sandbox, "/stats")
    wanted = {
        "accepted": 2,
        "refused": 1,
        "deferred": 0,
        "dropped": 0,
        "sessions": 1,
        "bytes": len(MESSAGE) + len(HTML),
    }
    assert {name: stats[name] for name in wanted} == wanted
    assert stats["fault_hits"] == {"bounces": 1}


async def test_records_are_listed_newest_first_and_by_recipient(sandbox: RunningSandbox) -> None:
    everything = await get_json(sandbox, "/messages")
    assert [record["rcpt_to"] for record in everything] == ["bo@example.org", "ana@example.org", "x@bounce.example"]
    some = await get_json(sandbox, "/messages?rcpt=ANA%40example.org")
    assert [(record["seq"], record["message_id"]) for record in some] == [(2, "<m1@example.org>")]
    assert await get_json(sandbox, "/messages/2") == some[0]


async def test_raw_messages_are_the_bytes_as_text(sandbox: RunningSandbox) -> None:
    status, headers, body = await get(sandbox, "/messages/3/raw")
    assert (status, body) == (200, HTML)
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]
    status, _, body = await get(sandbox, "/messages/1/raw")
    assert (status, json.loads(body)["code"]) == (404, "no_body")


async def test_the_inbox_lists_and_shows_without_running_anything(sandbox: RunningSandbox) -> None:
    status, headers, body = await get(sandbox, "/")
    page = body.decode()
    assert status == 200
    assert "Grüße &lt;script&gt;" in page
    assert "<script" not in page
    assert "script-src" not in headers["content-security-policy"]
    assert headers["content-security-policy"].startswith("default-src 'none'")
    status, _, body = await get(sandbox, "/inbox/3")
    assert '<iframe sandbox="" src="/inbox/3/html"' in body.decode()
    assert b"<script" not in body
    status, headers, body = await get(sandbox, "/inbox/3/html")
    assert body == b"<p>Hello <script>alert(1)</script></p>\r\n"
    assert headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    status, headers, body = await get(sandbox, "/style.css")
    assert headers["content-type"].startswith("text/css")
    assert b"prefers-color-scheme: dark" in body
    status, _, body = await get(sandbox, "/?rcpt=nobody%40x&live=1")
    assert b"Nothing for nobody@x yet." in body
    assert b'http-equiv="refresh"' in body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/messages/99", 404),
        ("/messages/0", 404),
        ("/messages/-1", 404),
        ("/messages/1e3", 404),
        ("/messages/" + "9" * 30, 404),
        ("/messages/2/nothing", 404),
        ("/inbox/2/nothing", 404),
        ("/../../etc/passwd", 404),
        ("/messages?" + "&".join(["a=b"] * 50), 400),
        ("/" + "x" * 20_000, 431),
    ],
)
async def test_what_is_not_there_is_a_problem_document(sandbox: RunningSandbox, path: str, status: int) -> None:
    answered, headers, body = await get(sandbox, path)
    assert (answered, headers["content-type"]) == (status, "application/problem+json")
    assert json.loads(body)["status"] == status


async def test_a_damaged_ledger_is_said_to_be_damaged(sandbox: RunningSandbox) -> None:
    with sandbox.options.ledger_path.open("ab") as file:
        file.write(b"{damaged\n")
    for path in ("/messages", "/", "/messages/99"):
        status, _, body = await get(sandbox, path)
        assert (status, json.loads(body)["code"]) == (500, "ledger_damaged")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_can_be_changed(sandbox: RunningSandbox, method: str) -> None:
    status, headers, _ = await get(sandbox, "/messages", method=method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8025", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("[::1]", 200), ("Inbox.Test:80", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example:80", 421), ("", 421),
    ],
)  # fmt: skip
async def test_only_known_host_names_are_answered(sandbox: RunningSandbox, host: str, status: int) -> None:
    assert (await get(sandbox, "/stats", host=host))[0] == status


async def test_head_has_no_body_and_garbage_is_answered(sandbox: RunningSandbox) -> None:
    status, headers, body = await get(sandbox, "/stats", method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 100
    assert sandbox.addresses.http is not None
    for garbage in (
        b"hello\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"GET / SPDY/9\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(*sandbox.addresses.http)
        writer.write(garbage)
        assert (await asyncio.wait_for(reader.read(), 90)).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await writer.wait_closed()
