"""docs/reference/errors.md: every error code with who must act, and every cause of a delivery that failed.

Read from the source: the calls that make the errors, and functions that are handed a `code`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from outrider.contracts.outcome import CAUSES
from tools.reference.markdown import page, table

ROOT = Path(__file__).resolve().parent.parent.parent
KINDS = {
    "Refused": ("422", "the caller: change the request"),
    "Unavailable": ("503", "nobody: try again after the seconds in `Retry-After`"),
    "Misconfigured": ("503", "the operator: the process does not start; `outrider doctor` shows it"),
    "Broken": ("500", "the makers: a bug, logged with its trace"),
}
_INTRODUCTION = """
Every error has a stable `code`. Over HTTP it is a problem document (RFC 9457) with `type`, `title`, `status`, `code`,
`detail`, `request_id` and, where one field is to blame, `pointer`; on the command line it is one line on standard error
and the exit status. `…` stands for what is filled in. Programs should look at `code`, never at the text.
"""
_CAUSES = """
## Causes of failed deliveries

What the timeline of a message and the counts of a campaign name when a message was deferred, rejected or uncertain.
`schedule` is tried again with back-off (`OUTRIDER_RETRY_FIRST_S` …), `quarter_hour` not before 15 minutes,
`wait` as soon as the account takes messages again, without an attempt being counted, `by_hand` not by itself
(the provider took it and dropped it later: send it again), `never` not at all.
"""


@dataclass(frozen=True, slots=True, order=True)
class Found:
    """One place that makes an error."""

    code: str
    kind: str
    status: str
    message: str


def every_error() -> list[Found]:
    """All errors of the package, in the order of their codes."""
    found = set()
    for path in sorted((ROOT / "outrider").rglob("*.py")):
        found |= set(_of_module(ast.parse(path.read_text(encoding="utf-8"))))
    return sorted(found)


def render() -> str:
    """The page."""
    errors = every_error()
    parts = []
    for kind, (_, who) in KINDS.items():
        said: dict[tuple[str, str], list[str]] = {}
        for error in errors:
            if error.kind == kind:
                said.setdefault((error.code, error.status), []).append(error.message)
        rows = [(f"`{code}`", status, "<br>".join(texts)) for (code, status), texts in said.items()]
        if rows:
            parts.append(f"## {kind}\n\nMust act: {who}.\n\n" + table(("code", "status", "says"), rows))
    causes = [(f"`{c.code}`", c.title, c.why, c.remedy, c.retry) for c in CAUSES.values()]
    parts.append(_CAUSES.strip() + "\n\n" + table(("cause", "title", "why", "remedy", "repeated"), causes))
    return page("Errors", _INTRODUCTION, *parts)


def _of_module(tree: ast.Module) -> Iterator[Found]:
    for call in _calls(tree):
        kind = _name(call)
        if kind in KINDS and call.args:
            code = call.args[0]
            if isinstance(code, ast.Constant) and isinstance(code.value, str):
                yield Found(code.value, kind, _status(call, kind), _message(call))
            else:
                yield from _handed_down(tree, call, kind)


def _handed_down(tree: ast.Module, made: ast.Call, kind: str) -> Iterator[Found]:
    """Codes given to a function whose parameter `code` ends up in the error, or set beside it."""
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) or made not in list(ast.walk(function)):
            continue
        names = [argument.arg for argument in function.args.posonlyargs + function.args.args]
        if "code" not in names:
            continue
        at = names.index("code") - (1 if names[0] in {"self", "cls"} else 0)
        for call in _calls(tree):
            given = call.args[at] if _name(call) == function.name and len(call.args) > at else None
            if isinstance(given, ast.Constant) and isinstance(given.value, str):
                said = call.args[at + 1] if len(call.args) > at + 1 else None
                yield Found(given.value, kind, _status(made, kind), _text(said) if said else _message(made))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _status(call: ast.Call, kind: str) -> str:
    for keyword in call.keywords:
        if keyword.arg == "status":
            return str(keyword.value.value) if isinstance(keyword.value, ast.Constant) else "as given"
    return KINDS[kind][0]


def _message(call: ast.Call) -> str:
    return _text(call.args[1]) if len(call.args) > 1 else ""


def _text(node: ast.expr) -> str:
    """The words of a message; what is filled in becomes `…`."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    return "…"
