"""The states of a message: the one table from which SQL, API, interfaces and docs draw their words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class State:
    """One state: what it means, whether it is an end, and what watches over messages that stay in it."""

    name: str
    meaning: str
    is_end: bool
    watchdog: str


STATES: dict[str, State] = {
    state.name: state
    for state in (
        State("scheduled", "due later, or waiting for its next attempt", is_end=False, watchdog="promotion loop: ready when due"),
        State("queued", "ready to be claimed", is_end=False, watchdog="age of the oldest ready message, per channel"),
        State("sending", "leased to a worker", is_end=False, watchdog="lease: swept when it ends"),
        State("held", "a gate said not now; asked again later", is_end=False, watchdog="promotion loop: asked again when its time comes"),
        State("sent", "the provider took responsibility", is_end=True, watchdog="none: final where a channel gives no receipt"),
        State("delivered", "the provider reported delivery", is_end=True, watchdog="none"),
        State("bounced", "the provider reported that delivery failed", is_end=True, watchdog="none"),
        State("failed", "could not be sent; `code` says why", is_end=True, watchdog="none"),
        State("uncertain", "handed over, answer lost", is_end=True, watchdog="`outrider uncertain`: resend or mark"),
        State("blocked", "a gate said never; `code` is the gate", is_end=True, watchdog="none"),
        State("expired", "not sent before its end of validity", is_end=True, watchdog="none"),
        State("cancelled", "withdrawn before it was sent", is_end=True, watchdog="none"),
    )
}  # fmt: skip

READY, LEASED, SCHEDULED, HELD = 0, 1, 4, 5
"""States of a queue row (hotpath: literals in SQL)."""

QUEUE_WORDS = {READY: "queued", LEASED: "sending", SCHEDULED: "scheduled", HELD: "held"}
END_STATES = tuple(name for name, state in STATES.items() if state.is_end)
