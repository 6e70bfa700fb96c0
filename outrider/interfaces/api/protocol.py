"""HTTP/1.1 below the framework: limits on request line, headers and their time, and plain refusals as problem details.

Owns what can be refused before there is a request; the rest is uvicorn's protocol on httptools.
"""

from __future__ import annotations

import asyncio
import secrets
from http import HTTPStatus
from typing import Any

import httptools
import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outrider.interfaces.api import problems
from outrider.interfaces.api.middleware.door import security_headers

_log = structlog.get_logger(__name__)
MOST_HEADERS = 100
MOST_HEAD_BYTES = 65_536
LONGEST_LINE_BYTES = 16_384
HEAD_WITHIN_S = 10.0
_OWN_METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"}


class _RefusedHead(Exception):
    """Ends the parsing of a request that was refused."""


class Protocol(HttpToolsProtocol):
    """One connection. Takes the process's answer headers from the class made by `protocol_for`."""

    answer_headers: tuple[tuple[bytes, bytes], ...] = security_headers(is_https=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_byte_count = 0
        self._is_in_head = True
        self._refusal: tuple[int, str, str] | None = None
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Give the first request's head ten seconds."""
        super().connection_made(transport)
        self._start_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came; refuse what cannot be a request of ours."""
        self._unset_keepalive_if_required()
        if self.parser is None or self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_byte_count += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(501, "not_implemented", "there is no such method")
        except httptools.HttpParserError as error:
            status, code, text = self._refusal or (400, "malformed_request", "the request is not valid HTTP/1.1")
            if self._refusal is None and isinstance(error, httptools.HttpParserCallbackError):
                text = "the request target is not valid"
            self._refuse(status, code, text)
        except httptools.HttpParserUpgrade:
            # no protocol is switched to: the answer comes over HTTP/1.1, then the connection ends
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        if self._is_in_head and self._head_byte_count and not self.transport.is_closing():
            self._await_head()

    def _await_head(self) -> None:
        """There is more of a head to come: give it its time; most heads come whole, and need no clock."""
        if self._head_byte_count > MOST_HEAD_BYTES:
            self._refuse(431, "head_too_large", f"request line and headers may have {MOST_HEAD_BYTES} bytes")
        elif self._head_timer is None:
            self._start_head()

    def on_url(self, url: bytes) -> None:
        """Collect the request target."""
        super().on_url(url)
        if len(self.url) > LONGEST_LINE_BYTES:
            self._stop(414, "target_too_long", f"the request target may have {LONGEST_LINE_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect one header."""
        super().on_header(name, value)
        if len(self.headers) > MOST_HEADERS:
            self._stop(431, "too_many_headers", f"at most {MOST_HEADERS} headers")
        if len(value) > LONGEST_LINE_BYTES:
            self._stop(431, "header_too_large", f"a header may have {LONGEST_LINE_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._is_in_head = False
        self._stop_head()
        if self._head_byte_count > MOST_HEAD_BYTES and self._head_size() > MOST_HEAD_BYTES:
            self._stop(431, "head_too_large", f"request line and headers may have {MOST_HEAD_BYTES} bytes")
        if self.parser.get_method() not in _OWN_METHODS:
            self._stop(405, "method_not_allowed", "this method is not used here")
        if self.parser.get_http_version() == "1.1" and not any(name == b"host" for name, _ in self.headers):
            self._stop(400, "host_missing", "the header Host is missing")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """End the request's body."""
        super().on_message_complete()
        self._is_in_head = True
        self._head_byte_count = 0

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's own refusals."""
        self._refuse(400, "malformed_request", msg)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _stop(self, status: int, code: str, text: str) -> None:
        """Leave the parser's callback; `data_received` sends the refusal."""
        self._refusal = (status, code, text)
        raise _RefusedHead(code)

    def _start_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_WITHIN_S, self._head_is_late)

    def _stop_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._head_byte_count:
            self._refuse(408, "head_timeout", "the request's head came too slowly")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, text: str) -> None:
        """Answer and close; when an answer is already under way on this connection, only close."""
        self._stop_head()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(self._answer(status, code, text))
        if self.cycle is not None and not self.cycle.response_complete:
            # the application waits for a body that cannot come: let it end without an answer of its own
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        _log.info("request_refused", status=status, code=code, ip=self.client[0] if self.client else "unknown")
        self.transport.close()

    def _answer(self, status: int, code: str, text: str) -> bytes:
        request_id = secrets.token_hex(16)
        body = problems.encode(problems.problem(status, code, text, request_id))
        headers = [
            (b"content-type", problems.MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            *self.answer_headers,
        ]
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", b", ".join(sorted(_OWN_METHODS))))
        line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
        return line + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + body


def protocol_for(*, is_https: bool) -> type[Protocol]:
    """The protocol class of a process."""
    return type("OwnProtocol", (Protocol,), {"answer_headers": security_headers(is_https=is_https)})
