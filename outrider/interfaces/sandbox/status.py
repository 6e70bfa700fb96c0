"""The read-only HTTP side: health, statistics, records, raw messages and the inbox.

Owns a minimal HTTP/1.1 (GET and HEAD, one request per connection) and the routes; pages are the inbox's. Changes
nothing and asks nobody who they are: it is meant for loopback, and answers only under known host names (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import orjson
from msgspec import to_builtins

from outrider.base.errors import Broken
from outrider.interfaces.sandbox import inbox
from outrider.interfaces.sandbox.house import House
from outrider.interfaces.sandbox.ledger import Record
from outrider.interfaces.sandbox.reader import LedgerReader

_LONGEST_HEAD_BYTES: Final = 16_384
_REQUEST_TIMEOUT_S: Final = 10.0
_MOST_RECORDS: Final = 100
_MOST_SEQ_DIGITS: Final = 18
_REQUEST_WORDS: Final = 3
_JSON: Final = "application/json"
_COMMON_HEADERS: Final = (
    "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n"
    "Cross-Origin-Resource-Policy: same-origin\r\nConnection: close\r\n"
)
_CLOSED_CSP: Final = "default-src 'none'; frame-ancestors 'none'"


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    body: bytes
    content_type: str = _JSON
    status: HTTPStatus = HTTPStatus.OK
    csp: str = _CLOSED_CSP


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)


class StatusPages:
    """Everything the HTTP port answers."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._reader = LedgerReader(house.ledger.path)

    def connection(self) -> asyncio.Protocol:
        """A protocol for one connection."""
        reader = asyncio.StreamReader(limit=_LONGEST_HEAD_BYTES)
        return asyncio.StreamReaderProtocol(reader, self._serve)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        method = "GET"
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_TIMEOUT_S)
            request = self._parse(head)
            if isinstance(request, Answer):
                answer = request
            else:
                method = request.method
                answer = await self._route(request)
        except Broken as error:
            answer = _problem(HTTPStatus.INTERNAL_SERVER_ERROR, error.code, error.message)
        except asyncio.LimitOverrunError:
            answer = _problem(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", "the request's head is too large"
            )
        except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
            writer.close()
            return
        try:
            writer.write(_encode(answer, has_body=method != "HEAD"))
            await asyncio.wait_for(writer.drain(), _REQUEST_TIMEOUT_S)
        except (TimeoutError, ConnectionError):
            writer.transport.abort()
        finally:
            writer.close()

    def _parse(self, head: bytes) -> _Request | Answer:
        """Read a request's head, or say what is wrong with it."""
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != _REQUEST_WORDS or not words[2].startswith("HTTP/1.") or not words[1].startswith("/"):
            return _problem(HTTPStatus.BAD_REQUEST, "bad_request", "not an HTTP/1.1 request")
        if words[0] not in {"GET", "HEAD"}:
            return _problem(
                HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "everything here is read-only: use GET"
            )
        hosts = [line.partition(":")[2].strip() for line in lines[1:] if line.lower().startswith("host:")]
        if len(hosts) != 1 or not self._is_known_host(hosts[0]):
            return _problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "unknown_host",
                "ask by localhost, an IP address or a name in http_hosts",
            )
        try:
            target = urlsplit(words[1])
            query = {name: values[-1] for name, values in parse_qs(target.query, max_num_fields=20).items()}
        except ValueError:
            return _problem(HTTPStatus.BAD_REQUEST, "bad_request", "the query cannot be read")
        return _Request(words[0], target.path, query)

    def _is_known_host(self, host: str) -> bool:
        name = host.lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name == "localhost" or name in {known.lower() for known in self._house.options.http_hosts}:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    async def _route(self, request: _Request) -> Answer:
        path = request.path
        if path == "/health":
            is_healthy = self._house.ledger.is_healthy
            status = HTTPStatus.OK if is_healthy else HTTPStatus.SERVICE_UNAVAILABLE
            return _json({"status": "ok" if is_healthy else "ledger cannot be written"}, status)
        if path == "/stats":
            return _json(self._house.stats())
        if path == "/style.css":
            return Answer(inbox.STYLE, "text/css; charset=utf-8")
        if path == "/messages":
            return await self._records(request.query)
        if path == "/":
            return await self._inbox(request.query)
        kind, _, rest = path.removeprefix("/").partition("/")
        number, _, part = rest.partition("/")
        if kind in {"messages", "inbox"} and number.isascii() and number.isdigit() and len(number) <= _MOST_SEQ_DIGITS:
            return await self._one(kind, int(number), part)
        return _problem(HTTPStatus.NOT_FOUND, "not_found", "no such page; see / for the inbox")

    async def _records(self, query: dict[str, str]) -> Answer:
        records = await asyncio.to_thread(self._reader.latest, _MOST_RECORDS, rcpt_to=query.get("rcpt") or None)
        return _json([to_builtins(record) for record in records])

    async def _inbox(self, query: dict[str, str]) -> Answer:
        rcpt_to = query.get("rcpt", "").strip()
        page = await asyncio.to_thread(self._inbox_page, rcpt_to, is_live=query.get("live") == "1")
        return Answer(page, "text/html; charset=utf-8", csp=inbox.PAGE_CSP)

    def _inbox_page(self, rcpt_to: str, *, is_live: bool) -> bytes:
        records = self._reader.latest(_MOST_RECORDS, rcpt_to=rcpt_to or None)
        rows = [(record, self._subject(record)) for record in records]
        return inbox.list_page(rows, self._house.stats(), rcpt_to=rcpt_to, is_live=is_live)

    def _subject(self, record: Record) -> str | None:
        head = self._reader.body(record, most_bytes=inbox.MOST_HEADER_BYTES)
        return None if head is None else inbox.subject_of(head)

    async def _one(self, kind: str, seq: int, part: str) -> Answer:
        """What belongs to one record: /messages/{seq}[/raw] and /inbox/{seq}[/html]."""
        record = await asyncio.to_thread(self._reader.by_seq, seq)
        if record is None:
            return _problem(HTTPStatus.NOT_FOUND, "not_found", "no such record")
        if (kind, part) == ("messages", ""):
            return _json(to_builtins(record))
        body = await asyncio.to_thread(self._reader.body, record)
        if (kind, part) == ("inbox", ""):
            return await _page(lambda: inbox.message_page(record, body), inbox.PAGE_CSP)
        if body is None:
            return _problem(HTTPStatus.NOT_FOUND, "no_body", "bytes of messages are kept with keeps_bodies only")
        if (kind, part) == ("messages", "raw"):
            return Answer(body, "text/plain; charset=utf-8")
        if (kind, part) == ("inbox", "html"):
            return await _page(lambda: inbox.html_part(body), inbox.MESSAGE_CSP)
        return _problem(HTTPStatus.NOT_FOUND, "not_found", "no such page")


async def _page(make: Callable[[], bytes], csp: str) -> Answer:
    """Make a page in a thread: parsing 25 MB must not stop the mail."""
    return Answer(await asyncio.to_thread(make), "text/html; charset=utf-8", csp=csp)


def _json(value: Any, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(orjson.dumps(value), status=status)


def _problem(status: HTTPStatus, code: str, detail: str) -> Answer:
    """A problem document [RFC 9457]."""
    body = orjson.dumps({"title": status.phrase, "status": status.value, "code": code, "detail": detail})
    return Answer(body, "application/problem+json", status)


def _encode(answer: Answer, *, has_body: bool) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if answer.status == HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\nContent-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nContent-Security-Policy: {answer.csp}\r\n{allow}{_COMMON_HEADERS}\r\n"
    )
    return head.encode("ascii") + (answer.body if has_body else b"")
