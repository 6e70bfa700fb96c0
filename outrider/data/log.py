"""Log lines: structlog on the standard library's logging, one line per event on stderr, secrets and people cut out.

Owns format, redaction and that a stuck reader of the log never stops a process; never decides what is worth logging.
"""

from __future__ import annotations

import atexit
import logging
import os
import queue
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Protocol

import structlog
from structlog.typing import Processor


class LogSettings(Protocol):
    """What logging needs to know of the settings; a process without their machinery brings only these."""

    @property
    def log_format(self) -> str:
        """auto, json or console."""
        ...

    @property
    def log_level(self) -> str:
        """Least severe level that is logged."""
        ...

    @property
    def app_label(self) -> str:
        """A field of every line."""
        ...

    @property
    def environment(self) -> str:
        """A field of every line."""
        ...


REDACTED: Final = "[redacted]"
_SECRET_NAMES = re.compile(
    r"(?:^|[_.-])(?:pass|passwd|password|secret|secrets|token|api_?key|secret_?key|private_?key|authorization|cookie|"
    r"credential|credentials|session_id|dkim)(?:$|[_.-])",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://[^\s:/@]*):[^\s@]*@", re.IGNORECASE)
_BEARER = re.compile(r"\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_OUR_KEY = re.compile(r"\bor_live_[A-Za-z0-9_-]{8,}")
_ADDRESS = re.compile(r"\b([A-Za-z0-9._%+-])[A-Za-z0-9._%+-]*@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)")
_LONGEST_TEXT = 2000
_LONGEST_TRACE = 20_000
_DEEPEST = 4
_QUEUED_LINES = 10_000


def clean(value: Any, depth: int = 0, *, most: int = _LONGEST_TEXT) -> Any:
    """A value as it may be logged: no passwords in URLs, no bearer tokens, no whole e-mail addresses, not endless."""
    if isinstance(value, str):
        text = _URL_PASSWORD.sub(rf"\g<scheme>:{REDACTED}@", value)
        text = _OUR_KEY.sub(REDACTED, _BEARER.sub(REDACTED, text))
        text = _ADDRESS.sub(r"\1…@\2", text)
        return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        return {str(name): _clean_named(str(name), each, depth + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [clean(each, depth + 1) for each in value]
    if isinstance(value, BaseException):
        return clean(f"{type(value).__name__}: {value}")
    return value


def _clean_named(name: str, value: Any, depth: int) -> Any:
    return REDACTED if _SECRET_NAMES.search(name) and value not in (None, "") else clean(value, depth)


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut secrets and people out of one event; the last processor before it is rendered."""
    for name, value in event.items():
        event[name] = clean(value, most=_LONGEST_TRACE) if name == "exception" else _clean_named(name, value, 0)
    return event


class _Shipper(logging.Handler):
    """Hands lines to a thread of its own: a reader that stops reading costs lines, never the event loop."""

    def __init__(self, inner: logging.Handler) -> None:
        super().__init__()
        self._inner = inner
        self._lines: queue.Queue[logging.LogRecord | None] = queue.Queue(_QUEUED_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._ship, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def close(self) -> None:
        """Write what waits, for at most a second."""
        try:
            self._lines.put_nowait(None)
        except queue.Full:
            pass
        else:
            self._thread.join(timeout=1.0)
        super().close()

    def _ship(self) -> None:
        while (record := self._lines.get()) is not None:
            self._inner.handle(record)
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                structlog.get_logger("outrider.log").warning("log_lines_dropped", dropped_count=dropped)


def configure(settings: LogSettings, role: str, *, is_long_running: bool = True) -> None:
    """Set up logging of this process; may be called again.

    Takes:   role             `api`, `worker`, `cli` …: a field of every line
             is_long_running  lines go through a thread; a one-shot command writes them at once
    """
    logging.raiseExceptions = False  # a broken log must not break what is logged
    is_console = settings.log_format == "console" or (settings.log_format == "auto" and _is_terminal())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
        _Labels(role, settings),
        redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=_is_terminal(), sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
        if is_console
        else structlog.processors.JSONRenderer(ensure_ascii=True, default=repr)
    )
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _escape, renderer],
        )
    )
    handler: logging.Handler = _Shipper(stream) if is_long_running else stream
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for noisy in ("alembic", "asyncio", "aiosqlite", "sqlalchemy"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    atexit.register(handler.close)


def quiet() -> None:
    """Set up logging of a one-shot command before its settings are known: warnings and worse, plain lines on stderr.

    `OUTRIDER_LOG_LEVEL=debug` shows everything, traces included (never the values of variables).
    """
    logging.raiseExceptions = False
    level = logging.DEBUG if os.environ.get("OUTRIDER_LOG_LEVEL", "").lower() == "debug" else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger().setLevel(level)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info if level == logging.DEBUG else _without_trace,
            redact,
            _escape,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _without_trace(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Before a log is set up there are no traces: what failed is told in one line."""
    event.pop("exc_info", None)
    return event


class _Labels:
    """Adds what names the process to every line."""

    def __init__(self, role: str, settings: LogSettings) -> None:
        self._labels = {"role": role, "app": settings.app_label, "environment": settings.environment}

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for name, value in self._labels.items():
            event.setdefault(name, value)
        return event


def _escape(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make control characters visible, so that what people wrote cannot forge a line or colour a terminal."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            kept = "\n\t" if name == "exception" else ""  # a trace has lines; what it quotes may have anything
            event[name] = "".join(
                each if each.isprintable() or each in kept else each.encode("unicode_escape").decode("ascii")
                for each in value
            )
    return event


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()
