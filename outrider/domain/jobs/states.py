"""The states of a job: one table from which SQL, API, UI and docs draw their words.

Owns the words of both runbooks' job libraries for the same thing; a job moves only through the verbs of this folder.
"""

from __future__ import annotations

from dataclasses import dataclass

from outrider.base.errors import Refused


@dataclass(frozen=True, slots=True)
class State:
    """One state: our word, Hangfire's, BullMQ's; what watches it; whether the job still has something to do."""

    word: str
    hangfire: str
    bullmq: str
    means: str
    watchdog: str
    is_open: bool


_TABLE = (
    State(
        "scheduled",
        "Scheduled",
        "delayed",
        "due later: at a time, or after a pause",
        "the promotion of due jobs",
        is_open=True,
    ),
    State("enqueued", "Enqueued", "waiting", "ready, waits for its queue", "stranded jobs; lost runs", is_open=True),
    State(
        "processing",
        "Processing",
        "active",
        "being run by a worker",
        "heartbeat of its worker; its deadline",
        is_open=True,
    ),
    State("succeeded", "Succeeded", "completed", "done; its result is kept", "retention", is_open=False),
    State("failed", "Failed", "failed", "ended by an error, a timeout, or as poison", "retention", is_open=False),
    State("deleted", "Deleted", "removed", "cancelled or withdrawn; the reason says which", "retention", is_open=False),
)

STATES: dict[str, State] = {state.word: state for state in _TABLE}
OPEN = tuple(state.word for state in _TABLE if state.is_open)
ENDED = tuple(state.word for state in _TABLE if not state.is_open)
REQUEUEABLE = ("failed", "deleted")
"""What a person may put back into its queue."""

_WORDS = {
    word.lower(): state.word for state in _TABLE for word in (state.word, state.hangfire, state.bullmq)
} | {"running": "processing"}  # fmt: skip


def state_named(word: str, field: str = "state") -> str:
    """Our word for a state, whichever of the three vocabularies it comes from.

    Raises:  Refused(unknown_state).
    """
    found = _WORDS.get(word.strip().lower())
    if found is None:
        raise Refused("unknown_state", f"must be one of {', '.join(STATES)}", field=field)
    return found
