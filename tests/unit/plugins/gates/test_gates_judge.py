"""What each gate says to the facts it is given; the statements behind the facts are tests/contract and tests/flow."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.gate import PASS, Block, Candidate, Gate, Lane
from outrider.plugins.gates.consent import GATE as CONSENT
from outrider.plugins.gates.do_not_contact import GATE as DO_NOT_CONTACT
from outrider.plugins.gates.expiry import GATE as EXPIRY
from outrider.plugins.gates.kill_switch import GATE as KILL_SWITCH
from outrider.plugins.gates.maintenance import GATE as MAINTENANCE

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MESSAGE = Candidate(UUID(int=1), None, "a@example.org", "marketing", None, 0)
LANE = Lane(UUID(int=2), 7, "email", UUID(int=3), None, "bulk")


def test_a_message_without_an_end_of_validity_never_expires() -> None:
    assert EXPIRY.judge({}, MESSAGE, NOW) is PASS


@pytest.mark.parametrize(
    ("left_s", "is_over"), [(1, False), (0.000001, False), (0, True), (-1, True)], ids=["later", "just", "now", "past"]
)
def test_a_message_expires_at_its_instant_by_the_databases_clock(left_s: float, is_over: bool) -> None:  # noqa: FBT001 - parametrized
    expires_at = NOW + timedelta(seconds=left_s)
    verdict = EXPIRY.judge({}, replace(MESSAGE, expires_at=expires_at), NOW)
    assert verdict == (Block(f"valid until {expires_at.isoformat()}", "expired") if is_over else PASS)


def test_a_suppressed_address_is_blocked_with_the_reason() -> None:
    assert DO_NOT_CONTACT.judge({"reason": "complaint"}, MESSAGE, NOW) == Block("do not contact: complaint")


@pytest.mark.parametrize(("status", "said"), [("withdrawn", "withdrawn"), (None, "not given")])
def test_missing_and_withdrawn_consent_are_told_apart(status: str | None, said: str) -> None:
    assert CONSENT.judge({"status": status}, MESSAGE, NOW) == Block(f"consent {said} for marketing")


@pytest.mark.parametrize(
    ("gate", "fact", "said"),
    [
        (KILL_SWITCH, {"scope": "campaign", "reason": "wrong price"}, "paused: campaign: wrong price"),
        (MAINTENANCE, {"reason": "new disk"}, "maintenance: new disk"),
    ],
)
def test_what_is_stopped_lets_nothing_go_and_says_why(gate: Gate, fact: dict[str, Any], said: str) -> None:
    allowance = gate.allow(LANE, [fact], 500)
    assert (allowance.count, allowance.reason) == (0, said)
    assert gate.allow(LANE, [], 500).count == 500


def test_a_gate_that_says_nothing_lets_everything_go() -> None:
    gate = Gate("x", 1, "Nothing.")
    assert gate.judge({}, MESSAGE, NOW) is PASS
    assert gate.allow(LANE, [], 3).count == 3
