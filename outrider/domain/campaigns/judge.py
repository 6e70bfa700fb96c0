"""What is made of the figures: whether a canary fared well, and which variant did best. Pure.

Owns the two rules; the figures are read and the verdicts kept by those who look (waves.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import msgspec

from outrider.domain.campaigns.delivery import AbTest, Canary

_WAITING = ("queued", "sending", "scheduled", "held")
_SENT = ("sent", "delivered")


class Figures(msgspec.Struct, frozen=True):
    """How a canary fared: messages that went out, and what became of them; those that gates stopped are not in it."""

    went_out_count: int
    sent_count: int
    failed_count: int
    bounced_count: int
    complained_count: int
    uncertain_count: int
    waiting_count: int
    blocked_count: int


class Score(msgspec.Struct, frozen=True):
    """How one variant fared: people who responded, of those it was sent to."""

    n: int
    name: str
    sent_count: int
    opened_count: int
    clicked_count: int


class Judgement(msgspec.Struct, frozen=True):
    """What follows. `winner` is the number of a variant, for a test."""

    verdict: str
    why: str
    winner: int | None = None


def figures(counts: Mapping[str, int], complained_count: int) -> Figures:
    """Sum up messages by state.

    Takes:   counts  of every message of the waves so far
    """
    waiting = sum(counts.get(state, 0) for state in _WAITING)
    sent = sum(counts.get(state, 0) for state in _SENT)
    bounced, failed, uncertain = (counts.get(state, 0) for state in ("bounced", "failed", "uncertain"))
    return Figures(
        went_out_count=sent + bounced + failed + uncertain + waiting,
        sent_count=sent,
        failed_count=failed,
        bounced_count=bounced,
        complained_count=complained_count,
        uncertain_count=uncertain,
        waiting_count=waiting,
        blocked_count=sum(counts.get(state, 0) for state in ("blocked", "expired", "cancelled")),
    )


def canary(rule: Canary, found: Figures) -> Judgement:
    """Go on, or stop and say which figures were too high. A canary of which nothing went out proves nothing: stop."""
    if found.went_out_count == 0:
        return Judgement("stop", f"nothing of it went out; gates stopped {found.blocked_count}")
    high = []
    arrived = max(1, found.sent_count + found.bounced_count)
    for what, count, of, most in (
        ("failed", found.failed_count, found.went_out_count, rule.max_failed_percent),
        ("bounced", found.bounced_count, found.went_out_count, rule.max_bounced_percent),
        ("complained", found.complained_count, arrived, rule.max_complained_percent),
        ("uncertain", found.uncertain_count, found.went_out_count, rule.max_uncertain_percent),
        ("waiting", found.waiting_count, found.went_out_count, rule.max_waiting_percent),
    ):
        if count * 100 > most * of:
            high.append(f"{what} {count} of {of} ({count * 100 / of:.2f} %), at most {most:g} % were allowed")
    if high:
        return Judgement("stop", "; ".join(high))
    return Judgement("go_on", "every figure was within its bound")


def winner(rule: AbTest, scores: Sequence[Score]) -> Judgement:
    """The variant with the highest share of people who responded.

    The first one goes on when a variant was sent to too few, or nobody responded to any; among equals the earlier one.
    """
    first = scores[0]
    few = [each for each in scores if each.sent_count < max(1, rule.minimum_count)]
    if few:
        told = ", ".join(f"{each.name} {each.sent_count}" for each in few)
        return Judgement("go_on", f"sent to too few to tell ({told}): the first variant", first.n)
    rates = {each.n: Fraction(_responses(rule, each), each.sent_count) for each in scores}
    best = max(rates.values())
    if best == 0:
        return Judgement("go_on", f"no {rule.metric} by people: the first variant", first.n)
    equals = [each for each in scores if rates[each.n] == best]
    chosen = equals[0]
    told = f"{_responses(rule, chosen)} of {chosen.sent_count}"
    if len(equals) > 1:
        why = f"{len(equals)} variants had the same share of {rule.metric} ({told}): the earlier"
        return Judgement("go_on", why, chosen.n)
    return Judgement("go_on", f"most {rule.metric}: {told}", chosen.n)


def _responses(rule: AbTest, score: Score) -> int:
    return score.clicked_count if rule.metric == "clicks" else score.opened_count
