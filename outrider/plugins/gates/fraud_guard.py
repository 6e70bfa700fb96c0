"""Fraud guard: texts go only to countries that somebody allowed, so that nobody earns by numbers far away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from outrider.base.fields import Field
from outrider.contracts.gate import PASS, Block, Candidate, Fact, Gate, Lane, Verdict
from outrider.data.countries import country_of


@dataclass(frozen=True, slots=True)
class FraudGuard(Gate):
    """Blocks texts to countries outside the list; what a message may cost at most is asked where prices are known."""

    countries: frozenset[str] | None = None

    def configured(self, settings: Mapping[str, Any]) -> Self:
        """Read the list."""
        text = settings["sms_countries"]
        return replace(self, countries=frozenset(text.split(",")) if text else None)

    def concerns(self, lane: Lane) -> bool:
        """Texts of tenants that have a list."""
        return lane.channel == "sms" and self.countries is not None

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Compare the number's country with the list."""
        del fact, now
        if self.countries is None:
            return PASS
        country = country_of(message.address)
        return PASS if country in self.countries else Block(f"{country or 'a number of no country'} is not allowed")


GATE = FraudGuard(
    key="fraud_guard",
    order=15,
    help="Blocks texts to countries that are not allowed, and messages that cost more than one may.",
    fields=(
        Field(
            "sms_countries",
            "The only countries (ISO 3166) texts may go to, separated by commas; unset: all.",
            longest=1000,
            pattern=r"[A-Z]{2}(,[A-Z]{2})*",
            example="AU,NZ",
        ),
        Field(
            "highest_price_micros",
            "What a message may cost at most, in millionths of the currency; dearer ones are blocked; unset: no limit.",
            "integer",
            least=1,
            most=10**9,
            is_per_campaign=True,
        ),
    ),
)
