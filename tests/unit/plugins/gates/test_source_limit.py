"""The limit per source: what it compares, and whom it does not concern."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.gate import PASS, Block, Candidate, Lane, Verdict
from outrider.plugins.gates.source_limit import GATE

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LANE = Lane(UUID(int=1), 1, "sms", UUID(int=2), None, "transactional")
MESSAGE = Candidate(UUID(int=3), None, "+61412345678", "code", None, 0)


def judge(of_source: int, of_range: int, **settings: Any) -> Verdict:
    gate = GATE.configured({field.name: field.default for field in GATE.fields} | settings)
    fact = {
        "source": "203.0.113.7", "country": "AU", "range": "+61412345", "of_source": of_source, "of_range": of_range,
    }  # fmt: skip
    return gate.judge(fact, MESSAGE, NOW)


@pytest.mark.parametrize(("of_source", "of_range"), [(20, 5), (1, 1)])
def test_as_many_as_may_be_pass(of_source: int, of_range: int) -> None:
    assert judge(of_source, of_range, sms_source_most=20, sms_range_most=5) == PASS


def test_one_too_many_of_a_source_is_blocked_and_says_why() -> None:
    assert judge(21, 1, sms_source_most=20) == Block("more than 20 texts to AU in 60 min by 203.0.113.7")


def test_one_too_many_to_a_range_is_blocked_whoever_asked() -> None:
    expected = Block("more than 5 texts to +61412345… in 10 min")
    assert judge(1, 6, sms_range_most=5, sms_source_window_min=10) == expected


def test_campaigns_letters_and_tenants_without_a_limit_are_not_concerned() -> None:
    limited = GATE.configured({"sms_source_most": 1, "sms_range_most": None, "sms_source_window_min": 60})
    assert limited.concerns(LANE)
    assert not limited.concerns(replace(LANE, campaign_id=UUID(int=9)))
    assert not limited.concerns(replace(LANE, channel="email"))
    assert not GATE.configured({field.name: field.default for field in GATE.fields}).concerns(LANE)
