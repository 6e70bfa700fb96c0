"""The API's description in OpenAPI 3.1, drawn from its routes: paths, parameters, bodies, answers, who may call.

Owns `/openapi.json`. Everything comes from the handlers themselves; the few things a handler's types cannot say stand
in the tables below. tests/contract/test_openapi.py holds the running API to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from litestar import Litestar, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from outrider.interfaces.api import problems
from outrider.interfaces.api.browsers import cookie_name
from outrider.interfaces.api.parts import parts_of
from outrider.interfaces.api.schemas import Schemas, given, parameter, without_none
from outrider.interfaces.api.strictness import JSON, is_public
from outrider.interfaces.api.v1.messages import AcceptedOut, BatchOut
from outrider.interfaces.auth import PUBLIC, Needs, needs_installation_admin

API_VERSION: Final = "1"
_MEMORY: Final = "openapi"
_TEXT: Final = {"type": "string"}
_ID: Final = {"type": "string", "format": "uuid"}

_PATHS: Final[dict[str, dict[str, Any]]] = {
    # parameters of paths that are no ids
    "session_id": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "version": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
    "token": _TEXT,
}
_PATH_OF: Final[dict[str, dict[str, Any]]] = {
    "/api/v1/limits/{kind}/{scope_id} kind": {"type": "string", "enum": ["tenant", "sender"]},
}
_HEADER_OF: Final[dict[str, dict[str, Any]]] = {
    # what a handler checks by itself, to answer with a code of its own
    "Idempotency-Key": {"minLength": 1, "maxLength": 256, "pattern": "^[ -~]+$"},
}
_ANSWERS: Final[dict[str, tuple[Any, ...]]] = {
    # answers whose bytes are made by hand: one of these types
    "POST /api/v1/messages": (AcceptedOut, BatchOut),
}
_OWN_TYPES: Final = {".csv": "text/csv", ".json": "application/json", ".html": "text/html"}
_ALSO: Final[dict[str, HTTPStatus]] = {
    # answers of a kind of their own that are no problems: the same body with another status
    "/health": HTTPStatus.SERVICE_UNAVAILABLE,
    "/api/health": HTTPStatus.SERVICE_UNAVAILABLE,
    "/api/v1/health": HTTPStatus.SERVICE_UNAVAILABLE,
    "/readyz": HTTPStatus.SERVICE_UNAVAILABLE,
}
_HEADERS: Final = {
    "X-Request-Id": {"description": "Names this exchange in logs and problems.", "required": True, "schema": _TEXT},
    "RateLimit": {"description": "What is left: `r` requests, full again in `t` seconds.", "schema": _TEXT},
    "RateLimit-Policy": {"description": "The limit: `q` requests in `w` seconds.", "schema": _TEXT},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}},
}
_REFUSED, _LATER = "Problem", "ProblemForNow"
_TRY_LATER: Final = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}
_INTRODUCTION: Final = (
    "Bodies are JSON in UTF-8. Unknown fields and parameters are refused. Errors are problem details (RFC 9457) with a "
    "stable `code` and the place of the mistake. Lists are read in pages: give `next_cursor` back as `cursor` until it "
    "is null. Every answer says how many more requests fit (`RateLimit`); 429 says when to come back (`Retry-After`)."
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    handler: HTTPRouteHandler
    route: HTTPRoute

    @property
    def name(self) -> str:
        """Method and path, as the tables here name it."""
        return f"{self.method} {self.path}"

    @property
    def answers(self) -> tuple[Any, ...]:
        """The types that the answer's body may be of; none for an empty one."""
        kind = given(self.handler.parsed_fn_signature.return_type.annotation)
        return _ANSWERS.get(self.name, () if kind is type(None) else (kind,))

    @property
    def is_text(self) -> bool:
        """Whether the answer is something else than JSON."""
        return bool(set(self.answers) & {bytes, str})

    @property
    def rule(self) -> Needs | None:
        """What a caller needs; None where nobody signs in."""
        return next((guard for guard in self.handler.resolve_guards() if isinstance(guard, Needs)), None)

    @property
    def takes_bytes(self) -> tuple[str, ...]:
        """The types of a body that no type of ours describes."""
        kinds: tuple[str, ...] = self.handler.opt.get("content_types", ())
        return tuple(kind for kind in kinds if kind not in JSON)


def operations(app: Litestar) -> Iterator[Operation]:
    """Every described operation, by path."""
    for route in sorted((route for route in app.routes if isinstance(route, HTTPRoute)), key=lambda route: route.path):
        path = re.sub(r":[a-z]+\}", "}", route.path)
        for method, (handler, _) in sorted(route.route_handler_map.items()):
            if method != "OPTIONS" and handler.include_in_schema is not False:
                yield Operation(method, path, handler, route)


def describe(app: Litestar, *, cookie: str) -> dict[str, Any]:
    """The whole document.

    Takes:   cookie   name of the session's cookie in this installation
    """
    found = list(operations(app))
    schemas = Schemas([problems.Problem, *(kind for operation in found for kind in _kinds(operation))])
    paths: dict[str, dict[str, Any]] = {}
    for operation in found:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Outrider", "version": API_VERSION, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in sorted({_tag(operation.path) for operation in found})],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components.items())),
            "headers": _HEADERS,
            "responses": _problems(schemas),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, or the token of a sign-in."},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "A person's session."},
            },
        },
    }


def _kinds(operation: Operation) -> Iterator[Any]:
    """Every type that has to be described."""
    signature = operation.handler.parsed_fn_signature.parameters
    if not operation.is_text:
        yield from operation.answers
    if "data" in signature:
        yield signature["data"].annotation
    model = operation.route.route_handler_map[operation.method][1]  # type: ignore[index]  # the map's own key
    for one in (*model.expected_query_params, *model.expected_header_params):
        yield without_none(signature[one.field_name].annotation)


def _operation(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    text = (operation.handler.parsed_fn_signature.return_type and operation.handler.fn.__doc__) or ""
    first, _, rest = text.strip().partition("\n")
    described: dict[str, Any] = {
        "operationId": _id(operation),
        "tags": [_tag(operation.path)],
        "summary": re.split(r"[.:;] ", first.strip())[0].rstrip(".").strip(),
        "description": " ".join(f"{first} {rest}".split()) + _who(operation),
        "security": _security(operation),
        "responses": _responses(operation, schemas),
    }
    parameters = _parameters(operation, schemas)
    if parameters:
        described["parameters"] = parameters
    body = _body(operation, schemas)
    if body:
        described["requestBody"] = body
    return described


def _parameters(operation: Operation, schemas: Schemas) -> list[dict[str, Any]]:
    """Parameters of path, query and headers."""
    model = operation.route.route_handler_map[operation.method][1]  # type: ignore[index]  # the map's own key
    signature = operation.handler.parsed_fn_signature.parameters
    found: list[dict[str, Any]] = []
    for name in re.findall(r"\{(\w+)\}", operation.path):
        known = _PATH_OF.get(f"{operation.path} {name}") or _PATHS.get(name)
        kind = known or (_ID if name.endswith("_id") else _TEXT)
        found.append({"name": name, "in": "path", "required": True, "schema": kind})
    for place, expected in (("query", model.expected_query_params), ("header", model.expected_header_params)):
        for one in sorted(expected, key=lambda each: each.field_alias):
            field = signature[one.field_name]
            schema, text = parameter(field, schemas.of(without_none(field.annotation)))
            schema = {**schema, **_HEADER_OF.get(one.field_alias, {})}
            if one.default not in {None, ""} and isinstance(one.default, (str, int, float)):
                schema["default"] = one.default
            described: dict[str, Any] = {
                "name": one.field_alias,
                "in": place,
                "required": one.is_required,
                "schema": schema,
            }
            found.append({**described, **({"description": text} if text else {})})
    return found


def _body(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    data = operation.handler.parsed_fn_signature.parameters.get("data")
    if data is not None:
        is_required = not operation.handler.opt.get("body_is_optional")
        return {"required": is_required, "content": {JSON[0]: {"schema": schemas.of(data.annotation)}}}
    if operation.takes_bytes:
        return {"required": True, "content": {kind: {"schema": _TEXT} for kind in operation.takes_bytes}}
    return {}


def _responses(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    status = HTTPStatus(operation.handler.status_code)
    success: dict[str, Any] = {"description": status.phrase, "headers": _named("X-Request-Id", *_rates(operation))}
    if operation.is_text:
        success["content"] = {_own_type(operation): {"schema": _TEXT}}
    elif operation.answers and operation.method != "HEAD":
        shapes = [schemas.of(kind) for kind in operation.answers]
        success["content"] = {JSON[0]: {"schema": shapes[0] if len(shapes) == 1 else {"anyOf": shapes}}}
    found = {str(int(status)): success}
    for refusal in _refusals(operation):
        found[str(int(refusal))] = _problem(operation, refusal)
    also = _ALSO.get(operation.path)
    if also is not None:
        found[str(int(also))] = {**success, "description": also.phrase}
    return dict(sorted(found.items()))


def _problem(operation: Operation, status: HTTPStatus) -> dict[str, Any]:
    if operation.method == "HEAD":
        return {"description": status.phrase, "headers": _named("X-Request-Id")}
    return {"$ref": f"#/components/responses/{_LATER if status in _TRY_LATER else _REFUSED}"}


def _problems(schemas: Schemas) -> dict[str, Any]:
    """The two answers that every problem is."""
    content = {problems.MEDIA_TYPE: {"schema": schemas.of(problems.Problem)}}
    names = ("X-Request-Id", "RateLimit", "RateLimit-Policy")
    return {
        _REFUSED: {
            "description": "A problem; `code` says which, `pointer` or `parameter` where.",
            "headers": _named(*names),
            "content": content,
        },
        _LATER: {
            "description": "Not now: come back after `Retry-After`.",
            "headers": _named(*names, "Retry-After"),
            "content": content,
        },
    }


def _refusals(operation: Operation) -> Iterator[HTTPStatus]:
    """The problems an operation may be answered with."""
    yield from (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    yield HTTPStatus.UNPROCESSABLE_ENTITY
    if not is_public(operation.handler) or operation.handler.opt.get("networks") or "/auth/" in operation.path:
        yield from (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    if not operation.handler.opt.get("is_unlimited") or operation.handler.opt.get("networks"):
        yield HTTPStatus.TOO_MANY_REQUESTS
    if operation.method not in {"GET", "HEAD"}:
        yield from (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)
    elif "{" in operation.path:
        yield HTTPStatus.NOT_FOUND
    if _takes_body(operation):
        yield from (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        )


def _takes_body(operation: Operation) -> bool:
    return operation.method not in {"GET", "HEAD"}


def _rates(operation: Operation) -> tuple[str, ...]:
    return () if operation.handler.opt.get("is_unlimited") else ("RateLimit", "RateLimit-Policy")


def _named(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _own_type(operation: Operation) -> str:
    for ending, kind in _OWN_TYPES.items():
        if operation.path.endswith(ending):
            return kind
    return str(operation.handler.media_type or "text/plain").partition(";")[0]


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.handler.opt.get("networks"):
        return [{}, {"key": []}]
    return [] if is_public(operation.handler) else [{"key": []}, {"session": []}]


def _who(operation: Operation) -> str:
    """Who may call, as a sentence."""
    rule = operation.rule
    if operation.handler.opt.get("networks"):
        return " Open to the networks of `OUTRIDER_METRICS_NETWORKS`; others need a key."
    if rule is None:
        return " Needs no sign-in."
    if needs_installation_admin in operation.handler.resolve_guards():
        return " Only administrators of the installation, signed in."
    if rule.people_only:
        return f" Needs the role {rule.role}; people only, no keys."
    if not rule.scopes:
        return f" Needs the role {rule.role}."
    named = " and ".join(f"`{scope}`" for scope in rule.scopes)
    return f" Needs the role {rule.role}; keys need the scope{'s' if rule.also else ''} {named}."


def _tag(path: str) -> str:
    """The noun of a path."""
    steps = [step for step in path.split("/") if step and step not in {"api", "v1"}]
    return steps[0].partition(".")[0] if path.startswith("/api/v1/") else "paths of older systems"


def _id(operation: Operation) -> str:
    """`getApiV1UsersByUserId`: unique, because it is the method and the path."""
    words = [operation.method.lower()]
    for step in operation.path.split("/"):
        name = f"by_{step[1:-1]}" if step.startswith("{") else step
        words.extend(word.capitalize() for word in re.split(r"[^A-Za-z0-9]", name) if word)
    return "".join(words)


@get("/openapi.json", opt={"auth": PUBLIC}, include_in_schema=False)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
    """Describe every route in OpenAPI 3.1."""
    cookie = cookie_name(parts_of(request).runtime.settings)
    memory = f"{_MEMORY} {cookie}"
    found: dict[str, Any] | None = request.app.state.get(memory)
    if found is None:
        found = request.app.state[memory] = describe(request.app, cookie=cookie)
    return Response(found, media_type="application/json")


ROUTES = [openapi_json]
