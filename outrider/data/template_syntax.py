"""The template language as tenants may use it: how a source splits into text and expressions, and what is left out.

Owns lexing and the lists of statements, filters, tests and functions; used at save time and by the rendering child, so
it imports nothing but the standard library. Never renders: the engine's own removal of filters is what binds, this
names the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

FILTERS = frozenset(
    {
        "abs", "batch", "bool", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "filesizeformat",
        "first", "float", "groupby", "int", "items", "join", "last", "length", "lines", "list", "lower", "map", "max",
        "min", "pluralize", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "slice", "sort",
        "split", "string", "striptags", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode",
        "zip",
    }
)  # fmt: skip
"""Left out: format, indent, replace, wordwrap (they multiply text), safe, tojson (no escaping), attr, chain, pprint."""

TESTS = frozenset(
    {
        "boolean", "defined", "divisibleby", "endingwith", "eq", "equalto", "even", "false", "float", "ge",
        "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none",
        "number", "odd", "sameas", "sequence", "startingwith", "string", "true", "undefined", "upper",
    }
)  # fmt: skip

FUNCTIONS = frozenset({"range", "dict"})

STATEMENTS = frozenset(
    {
        "if", "elif", "else", "endif", "for", "endfor", "set", "endset", "with", "endwith", "macro", "endmacro",
        "break", "continue",
    }
)  # fmt: skip

_LOADING = frozenset({"include", "import", "from", "extends", "block", "endblock"})
_OPERATORS = frozenset({"and", "or", "not", "in", "is", "if", "else"})
_LOOP_METHODS = frozenset({"cycle", "changed"})

_OPENING = re.compile(r"\{([{%#])")
_MARKUP = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_TOKEN = re.compile(
    r"""\s+
    |(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>\d[\w]*(?:\.\d\w*)?)
    |(?P<name>[^\W\d]\w*)
    |(?P<operator>//|\*\*|[=!<>]=|[-+*/%~|.,:;()\[\]{}<>=])""",
    re.VERBOSE | re.DOTALL,
)


class TemplateSyntaxProblem(Exception):
    """A template that cannot be read at all: the line and what is wrong there."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(detail)
        self.line = line
        self.detail = detail


class Token(NamedTuple):
    """One token of an expression. `start` is its offset in the source."""

    kind: str
    text: str
    start: int


_NOTHING = Token("", "", 0)


class Segment(NamedTuple):
    """A stretch of a source. `text` is the literal text, or everything between the markers of an expression.

    `start` is the offset of `text` in the source.
    """

    kind: Literal["text", "raw", "print", "block", "comment"]
    text: str
    line: int
    tokens: tuple[Token, ...] = ()
    start: int = 0


def split(source: str) -> Iterator[Segment]:
    """Split a source into literal text, expressions, statements and comments, in order.

    Raises:  TemplateSyntaxProblem when a marker is not closed or an expression has a character the language lacks.
    """
    at, line = 0, 1
    while at < len(source):
        opening = _OPENING.search(source, at)
        end = opening.start() if opening else len(source)
        if end > at:
            yield Segment("text", source[at:end], line, start=at)
            line += source.count("\n", at, end)
        if not opening:
            return
        segment, at = _markup(source, opening, line)
        yield segment
        line += source.count("\n", opening.start(), at)


def _markup(source: str, opening: re.Match[str], line: int) -> tuple[Segment, int]:
    """The segment that begins at an opening marker, and where it ends."""
    start = opening.end()
    if opening[1] == "#":
        end = source.find("#}", start)
        if end < 0:
            raise TemplateSyntaxProblem(line, "the comment {# is not closed by #}")
        return Segment("comment", source[start:end], line, start=start), end + 2
    raw = _RAW.match(source, opening.start())
    if raw:
        closing = _END_RAW.search(source, raw.end())
        if not closing:
            raise TemplateSyntaxProblem(line, "{% raw %} is not closed by {% endraw %}")
        return Segment("raw", source[raw.end() : closing.start()], line, start=raw.end()), closing.end()
    return _expression(source, start, line, is_block=opening[1] == "%")


def _expression(source: str, start: int, line: int, *, is_block: bool) -> tuple[Segment, int]:
    closing = "%}" if is_block else "}}"
    tokens: list[Token] = []
    at, depth = start, 0
    if source[at : at + 1] in ("-", "+"):
        at += 1
    while at < len(source):
        if source.startswith(closing, at) and depth == 0:
            if tokens and tokens[-1].text in ("-", "+") and tokens[-1].start == at - 1:
                tokens.pop()
            kind: Literal["block", "print"] = "block" if is_block else "print"
            return Segment(kind, source[start:at], line, tuple(tokens), start), at + 2
        found = _TOKEN.match(source, at)
        if not found:
            raise TemplateSyntaxProblem(line + source.count("\n", start, at), f"unexpected character {source[at]!r}")
        if found.lastgroup:
            tokens.append(Token(found.lastgroup, found[0], at))
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(found[0], 0)
        at = found.end()
    raise TemplateSyntaxProblem(line, f"{'{%' if is_block else '{{'} is not closed by {closing}")


def bare(source: str) -> str:
    """What a source says without its markup: what is sure to be in what is made of it."""
    return _MARKUP.sub("", source)


def problems(source: str) -> list[tuple[int, str]]:
    """What in a source is not available to tenants: (line, detail), in order; empty when nothing is."""
    try:
        segments = [segment for segment in split(source) if segment.tokens]
    except TemplateSyntaxProblem as problem:
        return [(problem.line, problem.detail)]
    macros = {
        segment.tokens[1].text
        for segment in segments
        if segment.kind == "block" and segment.tokens[0].text == "macro" and len(segment.tokens) > 1
    }
    return [(segment.line, detail) for segment in segments for detail in _segment_problems(segment, macros)]


def _segment_problems(segment: Segment, macros: set[str]) -> Iterator[str]:
    tokens = segment.tokens
    if segment.kind == "block":
        statement = tokens[0].text
        if statement in _LOADING:
            yield f"{{% {statement} %}} is not available: a template stands alone"
            return
        if statement not in STATEMENTS:
            yield f"unknown statement {statement!r}"
            return
        tokens = tokens[2:] if statement == "macro" else tokens[1:]
    for at, token in enumerate(tokens):
        detail = _token_problem(tokens, at, token, macros)
        if detail:
            yield detail


def _token_problem(tokens: tuple[Token, ...], at: int, token: Token, macros: set[str]) -> str | None:
    """What is wrong with one token, seen with its neighbours."""
    before = tokens[at - 1].text if at else ""
    if token.kind == "name":
        if before == "|":
            return None if token.text in FILTERS else f"unknown filter {token.text!r}"
        if token.text.startswith("_"):
            return f"{token.text!r} is not available: names do not begin with an underscore"
        if _is_test(tokens, at):
            return None if token.text in TESTS else f"unknown test {token.text!r}"
    if token.text == "(" and at:
        return _call_problem(tokens, at, macros)
    return None


def _is_test(tokens: tuple[Token, ...], at: int) -> bool:
    words = [token.text for token in tokens[max(0, at - 2) : at]]
    return tokens[at].text != "not" and (words[-1:] == ["is"] or words == ["is", "not"])


def _call_problem(tokens: tuple[Token, ...], at: int, macros: set[str]) -> str | None:
    """Whether what stands before an opening parenthesis may be called: known functions, filters and tests only."""
    called = tokens[at - 1]
    if called.text in (")", "]") or called.kind == "string":
        return "only functions can be called"
    if called.kind != "name" or called.text in _OPERATORS:
        return None
    before = tokens[at - 2].text if at > 1 else ""
    if before == ".":
        owner = tokens[at - 3].text if at - 3 >= 0 else ""
        is_of_loop = owner == "loop" and called.text in _LOOP_METHODS
        return None if is_of_loop else f"methods are not available: .{called.text}()"
    if before == "|" or _is_test(tokens, at - 1) or called.text in macros or called.text in FUNCTIONS:
        return None
    return f"unknown function {called.text!r}"


def hardened(source: str) -> str:
    """The source with `|e` and `|urlencode` of a missing variable made an error, as every other use of one is.

    The engine gives nothing for a missing value there; `string` before the filter refuses one and changes nothing else
    (a map that is url-encoded into a query excepted, so only a plain variable gets it).
    """
    insertions = [
        name.start
        for segment in split(source)
        for operand, bar, name in zip(segment.tokens, segment.tokens[1:], segment.tokens[2:], strict=False)
        if bar.text == "|" and _hides_missing(name, operand)
    ]
    pieces, done = [], 0
    for at in insertions:
        pieces += [source[done:at], "string|"]
        done = at
    return "".join([*pieces, source[done:]])


def _hides_missing(name: Token, operand: Token) -> bool:
    return name.text in ("e", "escape") or (name.text == "urlencode" and operand.kind == "name")


def reads_attribute(source: str, name: str) -> bool:
    """Whether a source reads something called `name` from a value: `a.name`, or the word in a text (`a['name']`)."""
    return any(
        (token.text == name and before.text == ".") or (token.kind == "string" and name in token.text)
        for segment in split(source)
        for before, token in zip((_NOTHING, *segment.tokens), segment.tokens, strict=False)
    )


def reads_computed(source: str) -> bool:
    """Whether a source may read something from a value whose name only the data decide: `labels[language]`."""
    return any(
        (token.text == "[" and _is_subscript(tokens, at) and not _is_literal_key(tokens, at + 1))
        or token.text in ("attribute", "selectattr", "rejectattr", "groupby")
        for tokens in (segment.tokens for segment in split(source))
        for at, token in enumerate(tokens)
    )


def _is_subscript(tokens: tuple[Token, ...], at: int) -> bool:
    """Whether a bracket follows a value; else it begins a list."""
    before = tokens[at - 1] if at else _NOTHING
    return (
        before.text in (")", "]", "}")
        or before.kind == "string"
        or (before.kind == "name" and before.text not in _OPERATORS)
    )


def _is_literal_key(tokens: tuple[Token, ...], at: int) -> bool:
    key, after = (*tokens[at : at + 2], _NOTHING, _NOTHING)[:2]
    return key.kind in ("number", "string") and after.text == "]"


def walks_maps(source: str) -> bool:
    """Whether a source may go through the entries of a map by a filter, test or function that does so.

    A variable called `items` is none of these: it would take from `c.items` what it is for the compiled form.
    """
    return any(
        token.text in ("items", "dictsort", "mapping", "dict")
        and before.text != "."
        and not (token.text == "items" and token.kind == "name" and before.text != "|")
        for segment in split(source)
        for before, token in zip((_NOTHING, *segment.tokens), segment.tokens, strict=False)
    )
