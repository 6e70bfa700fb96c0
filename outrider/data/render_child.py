"""The child process that renders tenants' templates: limits itself, then answers batches until its input ends.

Run by `render_pool` by file path, isolated, with an empty environment; it imports nothing but the standard library,
minijinja and its sibling `template_syntax`, so that it stays small. Owns the engine's settings: what is removed, fuel,
escaping, plain data. Never opens a file or a connection after its start, and never sees two tenants' data at once.

Wire: a request is one line of JSON, then `bytes` octets: contexts as JSON texts joined by NUL. An answer is two
little-endian uint32 (number of lengths, number of octets), then int32 lengths, then the octets. Per context there is
one length per part; a context that cannot be rendered has minus the length of the reason, then zeros.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import resource
import struct
import sys
from array import array
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

ADDRESS_SPACE_BYTES = 96 * 1024 * 1024
FUEL = 200_000
LARGEST_MESSAGE_BYTES = 1024 * 1024
LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
_OPEN_FILES = 16
_NICENESS = 5

_REMOVED_FILTERS = ("attr", "chain", "format", "indent", "pprint", "random", "replace", "safe", "tojson", "urlize", "wordwrap", "xmlattr")  # fmt: skip  # noqa: E501  one list of names
_REMOVED_GLOBALS = ("cycler", "debug", "joiner", "lipsum", "namespace")
_DICT_METHODS = frozenset(name for name in dir(dict) if not name.startswith("_"))
_ABSENT = "__absent_"
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_PRINTED_ENTRIES = "outrider-absent-items"
_LIMIT_WORDS = ("too large", "recursion limit", "too many elements", "unable to calculate")
_ALWAYS_WRONG = frozenset({"OutOfFuel", "UnknownFilter", "UnknownTest", "UnknownFunction", "UnknownMethod", "SyntaxError", "TemplateNotFound"})  # fmt: skip  # noqa: E501  one list of names


class Unusable(Exception):
    """Why one context cannot be rendered, in words for its sender."""


def _refuse_attribute(_: Any) -> Any:
    raise AttributeError


def _without_methods(kind: type, kept: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A class body that hides the public methods of dict or list: the engine would offer them to templates."""
    names = {name for name in dir(kind) if not name.startswith("_")} - kept
    return {"__slots__": (), **dict.fromkeys(names, property(_refuse_attribute))}


class _Entries:
    """A bound `items`: the engine calls it to walk a map, a template that names it finds something empty."""

    def __init__(self, entries: Any) -> None:
        self._entries = entries

    def __call__(self) -> Any:
        return self._entries

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return _PRINTED_ENTRIES

    __repr__ = __str__


PlainList = type("PlainList", (list,), _without_methods(list))
PlainMap = type("PlainMap", (dict,), _without_methods(dict, frozenset({"items"})))
"""The engine itself asks for `items` whenever it meets a map, so it stays as fast as it is …"""
StrictMap = type("StrictMap", (dict,), _without_methods(dict))
"""… except for templates that read something called `items` from a map …"""
GuardedMap = type(
    "GuardedMap", (dict,), {**_without_methods(dict), "items": property(lambda self: _Entries(dict.items(self)))}
)
"""… and walk through maps too, or read by a name that only the data decide (`labels[language]`)."""


def _plain_list(values: list[Any]) -> Any:
    return PlainList([_plain_list(value) if type(value) is list else value for value in values])


def _map_hook(kind: type) -> Callable[[list[tuple[str, Any]]], Any]:
    """How JSON objects become maps: null counts as missing, so that nobody is greeted as None."""

    def read(pairs: list[tuple[str, Any]]) -> Any:
        plain = kind(pairs)
        for key, value in pairs:
            if value is None:
                dict.pop(plain, key, None)
            elif type(value) is list:
                plain[key] = _plain_list(value)
        return plain

    return read


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")) or (value == 0 and text.startswith("-")):
        raise Unusable(f"the number {text[:40]} cannot be represented")
    return value


def _constant(text: str) -> float:
    raise Unusable(f"{text} is not JSON")


def _decoder(kind: type | None) -> json.JSONDecoder:
    hook = _map_hook(kind) if kind else None
    return json.JSONDecoder(parse_float=_number, parse_constant=_constant, object_pairs_hook=hook)


_FLAT, _NESTED, _STRICT, _GUARDED = _decoder(None), _decoder(PlainMap), _decoder(StrictMap), _decoder(GuardedMap)


def read_context(raw: str, nested: json.JSONDecoder = _NESTED) -> dict[str, Any]:
    """Read one JSON object as plain data.

    Raises:  Unusable naming what is wrong with it.
    """
    is_flat = raw.count("{") == 1 and "[" not in raw and "null" not in raw
    try:
        context = (_FLAT if is_flat else nested).decode(raw)
        if _SURROGATE.search(raw):
            json.dumps(json.loads(raw), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Unusable("the variables have half a surrogate pair") from None
    except (ValueError, RecursionError):
        raise Unusable("the variables are not a JSON object") from None
    if not isinstance(context, dict):
        raise Unusable("the variables are not a JSON object")
    return context


def _explained(part: str, error: BaseException) -> str:
    """The reason of a failure in one line, without data of the recipient beyond names."""
    kind, line = getattr(error, "kind", ""), getattr(error, "line", None)
    where = f"{part} line {line}" if line else part
    if isinstance(error, Unusable):
        return f"{where}: {error}"
    if isinstance(error, MemoryError):
        return f"{where}: needs too much memory"
    if kind == "OutOfFuel":
        return f"{where}: takes too many steps (limit {FUEL:,})"
    if kind:
        message = str(getattr(error, "message", "")).partition(" (in ")[0]
        detail = str(getattr(error, "detail", None) or message).replace(_ABSENT, "")
        if kind == "UndefinedError" and detail.endswith(" is undefined"):
            return f"{where}: variable {detail.removesuffix(' is undefined').replace('`', chr(39))} is missing"
        return f"{where}: {detail}"[:500]
    return f"{where}: cannot be rendered ({type(error).__name__})"


class Template:
    """The parts of one version, compiled once, with an engine of their own."""

    def __init__(self, parts: dict[str, str], syntax: Any, engine: Any, *, is_check: bool = False) -> None:
        self.parts = tuple(parts)
        self.problems: list[tuple[str, int, str]] = []
        self._env = _environment(engine, is_check=is_check)
        self._sources: dict[str, str] = {}
        self._risky: dict[str, frozenset[str]] = {}
        for part, source in parts.items():
            found = [(part, line, detail) for line, detail in syntax.problems(source)]
            self.problems += found or self._add(part, syntax.hardened(source), engine)
        self.decoder = _NESTED
        if not self.problems and any(map(syntax.reads_computed, parts.values())):
            self.decoder = _GUARDED
        elif not self.problems and any(syntax.reads_attribute(source, "items") for source in parts.values()):
            self.decoder = _GUARDED if any(map(syntax.walks_maps, parts.values())) else _STRICT

    def _add(self, part: str, source: str, engine: Any) -> list[tuple[str, int, str]]:
        try:
            self._env.add_template(part, source)
        except engine.TemplateError as error:
            return [(part, error.line or 1, str(error.detail or error.message))]
        self._sources[part] = source
        self._risky[part] = _DICT_METHODS & self._env.undeclared_variables_in_template(part)
        return []

    def render(self, part: str, context: dict[str, Any]) -> bytes:
        """One part for one context, as UTF-8."""
        name = part
        absent = self._risky[part] and sorted(self._risky[part] - dict.keys(context))
        if absent:  # else the engine would find `items`, `values` … as methods of the dict that holds the variables
            name = f"{'+'.join(absent)}:{part}"
            if name not in self._sources:
                settings = "".join([f"{{% set {one} = {_ABSENT}{one} %}}" for one in absent])
                self._env.add_template(name, settings + self._sources[part])
                self._sources[name] = ""
        rendered: str = self._env.render_template(name, **context)
        if _PRINTED_ENTRIES in rendered:
            raise Unusable("variable 'items' is missing")
        return rendered.encode()

    def trial(self) -> list[tuple[str, int, str]]:
        """Render every part without data and tell what is wrong whatever the data."""
        found = list(self.problems)
        for part in self._risky:
            try:
                octets = self.render(part, {})
            except BaseException as error:  # noqa: BLE001  a panic of the engine is a BaseException; the child stays
                text = _explained(part, error)
                kind = getattr(error, "kind", "")
                if not kind or kind in _ALWAYS_WRONG or any(word in text for word in _LIMIT_WORDS):
                    found.append((part, getattr(error, "line", None) or 1, text.partition(": ")[2]))
            else:
                if len(octets) > LARGEST_MESSAGE_BYTES:
                    found.append((part, 1, f"gives more than {LARGEST_MESSAGE_BYTES:,} bytes"))
        return found


def _environment(engine: Any, *, is_check: bool) -> Any:
    env = engine.Environment(
        fuel=FUEL,
        undefined_behavior="chainable" if is_check else "semi_strict",
        auto_escape_callback=lambda name: name.endswith("html"),
        keep_trailing_newline=True,
        pycompat=False,
    )
    for name in _REMOVED_FILTERS:
        env.remove_filter(name)
    for name in _REMOVED_GLOBALS:
        env.remove_global(name)
    return env


def render_one(template: Template, raw: str) -> list[bytes]:
    """Render every part for one context.

    Raises:  Unusable with the whole reason: part, line and what is wrong.
    """
    part, texts = "variables", []
    try:
        context = read_context(raw, template.decoder)
        for part in template.parts:
            texts.append(template.render(part, context))
    except BaseException as error:  # noqa: BLE001  a panic of the engine is a BaseException; the others go on
        raise Unusable(_explained(part, error)) from None
    if sum(map(len, texts)) > LARGEST_MESSAGE_BYTES:
        raise Unusable(f"gives more than {LARGEST_MESSAGE_BYTES:,} bytes")
    return texts


def render_batch(template: Template, contexts: list[str], progress: Any) -> tuple[array[int], list[bytes]]:
    """Render every part for every context; `progress` tells the parent which context is being rendered."""
    lengths, chunks, left = array("i"), [], LARGEST_ANSWER_BYTES
    refusal = "; ".join([f"{part} line {line}: {detail}" for part, line, detail in template.problems])
    too_much = f"the batch gives more than {LARGEST_ANSWER_BYTES:,} bytes"
    for index, raw in enumerate(contexts):
        struct.pack_into("<Q", progress, 0, index + 1)
        try:
            texts = [] if refusal else render_one(template, raw)
            reason = refusal or (too_much if sum(map(len, texts)) > left else "")
        except Unusable as error:
            reason = str(error)
        if reason:
            texts = [reason.encode("utf-8", "replace")]
            lengths.extend([-len(texts[0]), *[0] * (len(template.parts) - 1)])
        else:
            lengths.extend(map(len, texts))
        left -= sum(map(len, texts))
        chunks += texts
    return lengths, chunks


class Pipes(NamedTuple):
    """What connects the child with its parent."""

    source: BinaryIO
    sink: BinaryIO
    progress: Any


def serve(pipes: Pipes, syntax: Any, engine: Any) -> None:
    """Answer requests until the input ends."""
    templates: dict[int, Template] = {}
    while line := pipes.source.readline():
        request = json.loads(line)
        struct.pack_into("<Q", pipes.progress, 0, 0)
        templates.pop(request.get("forget"), None)
        if "check" in request:
            found = Template(request["check"], syntax, engine, is_check=True).trial()
            _answer(pipes.sink, array("i"), [json.dumps(found).encode()])
            continue
        if "parts" in request:
            templates[request["slot"]] = Template(request["parts"], syntax, engine)
        contexts = pipes.source.read(request["bytes"]).decode().split("\0")
        _answer(pipes.sink, *render_batch(templates[request["slot"]], contexts, pipes.progress))


def _answer(sink: BinaryIO, lengths: array[int], chunks: list[bytes]) -> None:
    sink.write(struct.pack("<II", len(lengths), sum(map(len, chunks))))
    sink.write(lengths.tobytes())
    sink.writelines(chunks)
    sink.flush()


def limit_self() -> None:
    """Give up what rendering does not need. Memory over the limit ends the process, never the machine."""
    os.chdir("/")
    os.nice(_NICENESS)
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_AS, ADDRESS_SPACE_BYTES),
    ):
        hard = resource.getrlimit(what)[1]
        lowered = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (lowered, lowered))


def main() -> None:
    """Arguments: the folder of minijinja, the descriptor of the progress page."""
    sys.path.append(sys.argv[1])
    import minijinja  # noqa: PLC0415  found only through the argument: the child runs without site-packages

    spec = spec_from_file_location("template_syntax", Path(__file__).with_name("template_syntax.py"))
    if spec is None or spec.loader is None:
        raise SystemExit(70)
    syntax = module_from_spec(spec)
    spec.loader.exec_module(syntax)
    descriptor = int(sys.argv[2])
    progress = mmap.mmap(descriptor, mmap.PAGESIZE)
    os.close(descriptor)
    limit_self()
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    serve(Pipes(sys.stdin.buffer, sys.stdout.buffer, progress), syntax, minijinja)


if __name__ == "__main__":
    main()
