"""What the code of a failure means to people: title, why, and what to do about it [S0-34 to S0-38].

Owns the choice of words for where a message stands: what the engine repeats is not said to be repeated once it was
given up. The causes themselves are contracts/outcome.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from outrider.contracts.outcome import CAUSES, Cause

_PROMISES: Final = ("retried by itself", "messages wait")
"""Parts of remedies that hold only as long as a message is open."""
_AGAIN: Final = "send it again: it is not tried any more (a campaign's: `outrider campaign retry`)"
_SETTLED: Final = {"answer_lost": "none: it was settled as failed; send it again if it is still wanted"}
_NEVER_BY_ITSELF: Final = frozenset({"never", "by_hand"})
_OVER: Final = frozenset({"failed", "bounced"})


class CauseView(msgspec.Struct, frozen=True):
    """Why a message failed, is uncertain or waits, in words, and what to do about it."""

    code: str
    title: str
    why: str
    remedy: str


def view(code: object, state: str) -> CauseView | None:
    """A cause in words.

    Takes:   code: of the message, its queue entry or event; state: of the message, or the kind of event.
    Gives:   None for what is no cause: gates, rates and people say in their own words why they stopped a message.
    """
    cause = CAUSES.get(code) if isinstance(code, str) else None
    if cause is None:
        return None
    return CauseView(cause.code, cause.title, cause.why, remedy(cause, state))


def of_event(kind: str, data: Mapping[str, Any]) -> CauseView | None:
    """The cause that an event of the timeline tells, in words. What is held for its account's sake has it as reason."""
    return view(data.get("cause") or (data.get("reason") if kind == "held" else None), kind)


def remedy(cause: Cause, state: str) -> str:
    """What to do about a cause, now that the message stands so."""
    if state not in _OVER:
        return cause.remedy
    if cause.code in _SETTLED:
        return _SETTLED[cause.code]
    if cause.retry in _NEVER_BY_ITSELF:
        return cause.remedy
    kept = [part for part in cause.remedy.split("; ") if not any(promise in part for promise in _PROMISES)]
    return "; ".join((*kept, _AGAIN))
