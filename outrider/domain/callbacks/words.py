"""The words people answer with: to stop, to start again, to get help. Pure.

Owns what counts as such a word; a sentence that only holds one is never taken for it, but flagged for people.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

Word = Literal["", "stop", "start", "help"]

STOP: Final = frozenset(
    {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "revoke", "optout", "remove", "arret"}
)
START: Final = frozenset({"start", "yes", "unstop"})
HELP: Final = frozenset({"help", "info"})
_NO_LETTER = re.compile(r"[\W_]+")
_LONGEST = 200


class Heard(NamedTuple):
    """What a text asks for; flagged: it holds a word to stop among others, so somebody should read it."""

    word: Word
    is_flagged: bool


def heard(text: str, more_stop_words: Iterable[str] = ()) -> Heard:
    """What somebody asks for, in any case, spacing, punctuation and with or without accents."""
    stop = STOP | {plain for word in more_stop_words if (plain := _plain(word))}
    whole = _plain(text[:_LONGEST]) if len(text) <= _LONGEST else ""
    if whole in stop:
        return Heard("stop", is_flagged=False)
    if whole in START:
        return Heard("start", is_flagged=False)
    if whole in HELP:
        return Heard("help", is_flagged=False)
    return Heard("", is_flagged=any(_plain(part) in stop for part in text.split()))


def _plain(text: str) -> str:
    letters = unicodedata.normalize("NFKD", text.casefold())
    return _NO_LETTER.sub("", "".join(c for c in letters if not unicodedata.combining(c)))
