"""docs/reference/api.md: every call of the HTTP API with parameters, bodies and answers, from its own description."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from outrider.interfaces.api.application import routes
from outrider.interfaces.api.description import describe
from tools.reference.markdown import page, table

_INTRODUCTION = """
The same as `/openapi.json` of a running API, for reading. What all calls have in common (signing in, errors, pages,
limits) is in [Signing in](api-auth.md); the codes of errors are in [Errors](errors.md). Programs in Python use
[the client](../how-to/use-the-python-client.md).
"""
_LONGEST = 120


def document() -> dict[str, Any]:
    """The description of an API that nobody runs."""
    return describe(routes(), cookie="session_id")


def render() -> str:
    """The page."""
    described = document()
    by_tag: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            by_tag[operation["tags"][0]].append((f"{method.upper()} {path}", operation))
    parts = [_described(tag, by_tag[tag]) for tag in sorted(by_tag)]
    schemas = described["components"]["schemas"]
    shapes = [
        f"### {_title(name)}\n\n{_shape(schema)}" for name, schema in sorted(schemas.items()) if "properties" in schema
    ]
    return page("HTTP API", _INTRODUCTION, *parts, "## Shapes", *shapes)


def _described(tag: str, operations: list[tuple[str, dict[str, Any]]]) -> str:
    lines = [f"## {tag[0].upper()}{tag[1:]}"]
    for name, operation in operations:
        lines.append(f"### `{name}`\n\n{operation['description']}")
        parameters = [_parameter(one) for one in operation.get("parameters", ())]
        if parameters:
            lines.append(table(("parameter", "in", "may be", "what it is"), parameters))
        lines.append(_bodies(operation))
    return "\n\n".join(lines)


def _parameter(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    name = f"`{one['name']}`" + (" (required)" if one["required"] and one["in"] != "path" else "")
    default = one["schema"].get("default")
    text = str(one.get("description", "")) + (f" Preset `{default}`." if default is not None else "")
    return name, one["in"], _kind(one["schema"]), text


def _bodies(operation: Mapping[str, Any]) -> str:
    """Body and answers in a line each."""
    said = [f"Body: {_content(operation['requestBody']['content'])}." if "requestBody" in operation else ""]
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:
            content = _content(answer["content"]) if answer.get("content") else "nothing"
            said.append(f"Answer {status}: {content}.")
    problems = [status for status, answer in operation["responses"].items() if "$ref" in answer]
    said.append(f"Problems: {', '.join(problems)}." if problems else "")
    return "\n".join(f"- {line}" for line in said if line)


def _content(content: Mapping[str, Any]) -> str:
    return ", or ".join(
        _kind(what["schema"]) if kind == "application/json" else f"`{kind}`" for kind, what in content.items()
    )


def _shape(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = [
        (f"`{name}`" + (" (required)" if name in required else ""), _kind(one), _preset(one))
        for name, one in schema["properties"].items()
    ]
    text = schema.get("description", "")
    return f"{text}\n\n{table(('field', 'may be', 'preset'), rows)}"


def _preset(schema: Mapping[str, Any]) -> str:
    if "default" not in schema or schema["default"] is None:
        return ""
    return f"`{str(schema['default'])[:_LONGEST]}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in words."""
    return " or ".join(dict.fromkeys(_words(schema)))


def _words(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield f"[{_title(name)}](#{_title(name).lower().replace(' ', '-')})"
    elif "enum" in schema:
        yield ", ".join(f"`{one}`" for one in schema["enum"])
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _words(one)
    elif schema.get("type") == "array":
        yield f"list of {_kind(schema.get('items', {})) or 'anything'}" + _bounds(schema, "Items", "entries")
    elif schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        yield f"object of {_kind(schema['additionalProperties']) or 'anything'}"
    elif "type" in schema:
        kind = schema["type"]
        yield f"{schema.get('format') or kind}" + (
            _bounds(schema, "Length", "characters") if kind == "string" else _range(schema)
        )
    else:
        yield "anything"


def _bounds(schema: Mapping[str, Any], what: str, unit: str) -> str:
    found = _between(schema.get(f"min{what}"), schema.get(f"max{what}"))
    return f" ({found} {unit})" if found else ""


def _range(schema: Mapping[str, Any]) -> str:
    found = _between(schema.get("minimum"), schema.get("maximum"))
    return f" ({found})" if found else ""


def _between(least: float | None, most: float | None) -> str:
    if least is None:
        return "" if most is None else f"at most {most:,}"
    return f"at least {least:,}" if most is None else f"{least:,} to {most:,}"


def _title(name: str) -> str:
    """`Page_outrider.domain.tenants.keys.Key_` is a page of Key."""
    if name.startswith("Page_"):
        return f"Page of {name.removeprefix('Page_').rstrip('_').rpartition('.')[2]}"
    return name.rpartition(".")[2]
