"""Every error as problem details (RFC 9457) with a stable code, the place of the mistake and the request id.

Owns the translation of exceptions; never shows a trace, a query or a secret.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException

from outrider.base.errors import Misconfigured, OutriderError, Refused, RefusedMany, Unavailable
from outrider.interfaces.api.exchange import exchange_of

_log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
_MOST_ERRORS = 100
_LONGEST_DETAIL = 1000
_SERVER_ERROR = 500


class Mistake(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wrong place of a request: `pointer` into the body, `parameter` of the query, path or header."""

    code: str
    detail: str
    pointer: str = ""
    parameter: str = ""


class Problem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Problem details as they go over the wire."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    pointer: str = ""
    parameter: str = ""
    errors: list[Mistake] = []
    data: dict[str, Any] = {}


def problem(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    *,
    field: str | None = None,
    errors: list[Mistake] | None = None,
    data: dict[str, Any] | None = None,
) -> Problem:
    """Build one. `field` is a JSON pointer, a dotted path into the body, or `?name` for a parameter."""
    pointer, parameter = place(field)
    return Problem(
        type=f"urn:outrider:problem:{code}",
        title=HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail[:_LONGEST_DETAIL],
        request_id=request_id,
        pointer=pointer,
        parameter=parameter,
        errors=errors or [],
        data=data or {},
    )


def place(field: str | None) -> tuple[str, str]:
    """A field as JSON pointer or as name of a parameter."""
    if not field:
        return "", ""
    if field.startswith("?"):
        return "", field[1:]
    return (field if field.startswith("/") else "/" + field.replace(".", "/")), ""


def encode(found: Problem) -> bytes:
    """The bytes of a problem."""
    return msgspec.json.encode(found)


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The answer to any exception: the application's only exception handler."""
    exchange = exchange_of(request)
    found, headers = translate(error, exchange.request_id)
    exchange.code = found.code
    if found.status >= _SERVER_ERROR and not isinstance(error, Unavailable):
        _log.error("request_broken", request_id=exchange.request_id, code=found.code, exc_info=error)
    return Response(content=encode(found), status_code=found.status, media_type=MEDIA_TYPE, headers=headers)


def translate(error: Exception, request_id: str) -> tuple[Problem, dict[str, str]]:
    """The problem and extra headers of an exception."""
    match error:
        case RefusedMany():
            mistakes = [Mistake(one.code, one.message, *place(one.field)) for one in error.errors[:_MOST_ERRORS]]
            found = problem(error.http_status, error.code, error.message, request_id, field=error.field)
            found.errors = mistakes
            return found, {}
        case Refused():
            found = problem(
                error.http_status, error.code, error.message, request_id, field=error.field, data=_plain(error.data)
            )
            return found, _headers(error)
        case Unavailable():
            headers = {"Retry-After": str(error.retry_after_s)}
            return problem(503, error.code, error.message, request_id), headers
        case Misconfigured():
            # what the operator must do may name hosts and files: it is in the log, not in the answer
            return problem(503, error.code, "the installation is not configured correctly; see its log", request_id), {}
        case ValidationException():
            return _invalid(error, request_id), {}
        case HTTPException():
            return _http(error, request_id), _allow(error)
        case asyncpg.DataError():
            return _data_error(request_id), {}
    code = error.code if isinstance(error, OutriderError) else "internal_error"
    return problem(500, code, "an error of ours; it was logged under this request id", request_id), {}


def _headers(error: Refused) -> dict[str, str]:
    headers = {}
    if "retry_after_s" in error.data:
        headers["Retry-After"] = str(error.data["retry_after_s"])
    if error.http_status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="outrider"'
    return headers


def _invalid(error: ValidationException, request_id: str) -> Problem:
    """Litestar's own finding about parameters (bodies are checked before it sees them)."""
    extra = error.extra if isinstance(error.extra, list) else []
    mistakes = []
    for item in extra[:_MOST_ERRORS]:
        name, is_body = str(item.get("key", "")), item.get("source") == "body"
        if is_body and name == "data":
            return problem(422, "required", "a body is required", request_id)
        text = str(item.get("message", "is not valid"))
        where = ("/" + name.replace(".", "/"), "") if is_body else ("", name)
        mistakes.append(Mistake("invalid_parameter", text, *where))
    first = mistakes[0] if mistakes else Mistake("invalid_parameter", _missing(error.detail))
    found = problem(422, first.code, first.detail, request_id, errors=mistakes if len(mistakes) > 1 else [])
    found.pointer, found.parameter = first.pointer, first.parameter
    return found


def _missing(detail: str) -> str:
    """`Missing required query parameter 'q' for path …` without the path, which may be long."""
    return detail.split(" for path ", maxsplit=1)[0].split(" for ", maxsplit=1)[0][:200]


_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
}


def _http(error: HTTPException, request_id: str) -> Problem:
    status = error.status_code
    if status >= _SERVER_ERROR:
        return problem(500, "internal_error", "an error of ours; it was logged under this request id", request_id)
    detail = "there is nothing here" if status == HTTPStatus.NOT_FOUND else error.detail
    return problem(status, _CODES.get(status, "bad_request"), detail or HTTPStatus(status).phrase, request_id)


def _allow(error: HTTPException) -> dict[str, str]:
    if isinstance(error, MethodNotAllowedException) and error.headers:
        allowed = {name.lower(): value for name, value in error.headers.items()}.get("allow", "")
        return {"Allow": ", ".join(sorted({*filter(None, allowed.split(", ")), "OPTIONS"}))}
    return {}


def _data_error(request_id: str) -> Problem:
    return problem(422, "invalid_value", "a value is outside what can be stored", request_id)


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Facts that can be written as JSON."""
    return {
        key: value if isinstance(value, (str, int, float, bool, list)) else str(value) for key, value in data.items()
    }
