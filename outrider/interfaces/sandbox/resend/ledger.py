"""The ledger of the Resend-shaped sandbox: one JSON line per email of a request, all of a request in one write."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from outrider.interfaces.sandbox.lines import Numbered

Outcome = Literal["accepted", "accepted_cut", "refused", "cut", "replayed", "conflict"]
TAKEN = frozenset({"accepted", "accepted_cut"})


class Entry(Numbered, kw_only=True):
    """One email as the server saw it; `accepted_cut`: taken, and nobody was told; `replayed`: its key was known.

    request   which request it came in; `digest` of its body
    email     as it was posted, attachments without their content
    """

    at_ns: int
    outcome: Outcome
    to: str
    request: int
    key: str = ""
    digest: str = ""
    id: str = ""
    status: int = 0
    name: str = ""
    email: dict[str, Any] = field(default_factory=dict)
