"""What a job says of itself as it may be kept: secrets cut out, and nothing in it that the database cannot hold.

Owns the texts of errors and notes; results are JSON and stay in execution.py.
"""

from __future__ import annotations

import re

from outrider.base.errors import Misconfigured, OutriderError, Refused
from outrider.data.log import REDACTED, clean

_SECRET = re.compile(
    r"(?P<name>(?:password|passwd|passphrase|(?<![a-z])pass|secret|token|api[_-]?key|private[_-]?key|authorization|"
    r"credentials?)(?![a-z])[\"']?\s*[=:]\s*)(?:\"[^\"]*\"?|'[^']*'?|[^\s,;)]+)",
    re.IGNORECASE,
)


def told(error: BaseException) -> tuple[str, str, bool]:
    """Code and text of an error as they are kept, without secrets, and whether trying again is pointless."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - an error that cannot even be told is an error all the same
        text = "an error that cannot be told"
    if isinstance(error, OutriderError):
        return kept(error.code), redacted(text), isinstance(error, (Refused, Misconfigured))
    return "broken", redacted(f"{type(error).__name__}: {text}"), False


def redacted(text: str) -> str:
    """A text without what looks like a secret in it, as the database can hold it."""
    return _SECRET.sub(rf"\g<name>{REDACTED}", str(clean(kept(text))))


def kept(text: str) -> str:
    """A text without NUL and half characters: PostgreSQL takes neither."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
