"""The fault book: which rule strikes at which stage of a session, and how often each did.

Owns the rules' counters and the verdicts; never touches a connection: the dialogue carries the verdicts out.
"""

from __future__ import annotations

import fnmatch
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.rules import (
    WITH_RECIPIENTS,
    AnyRule,
    AuthFail,
    Defer,
    Drop,
    EagerData,
    Greylist,
    Hang,
    Multiline,
    No8bitmime,
    NoPipelining,
    NoSmtputf8,
    Refuse,
    SizeLimit,
    Slow,
    StarttlsStrip,
    stages_of,
)

_MOST_GREYLISTED: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Features:
    """What a session offers less than it could, decided at EHLO."""

    is_starttls_stripped: bool = False
    is_pipelining_off: bool = False
    is_8bitmime_off: bool = False
    is_smtputf8_off: bool = False
    size_bytes: int | None = None
    is_size_advertised: bool = True


ALL_FEATURES: Final = Features()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a stage shall suffer: a delay, a multi-line answer, and at most one rule that ends it otherwise."""

    name: str
    delay_s: float = 0.0
    is_multiline: bool = False
    rule: Refuse | Defer | Drop | Greylist | AuthFail | EagerData | None = None


class _Armed:
    """A rule with its counters."""

    __slots__ = ("_dice", "_pattern", "hits", "name", "opportunities", "rule", "stages")

    def __init__(self, rule: AnyRule, name: str) -> None:
        self.rule = rule
        self.name = name
        self.hits = 0
        self.opportunities = 0
        self.stages = stages_of(rule)
        self._pattern = None if rule.recipient is None else rule.recipient.casefold()
        self._dice = random.Random(rule.seed)  # noqa: S311 -- repeatable by its seed, that is the point

    def concerns(self, recipients: Sequence[str]) -> bool:
        """Whether the rule is about any of these."""
        pattern = self._pattern
        return pattern is None or any(fnmatch.fnmatchcase(one.casefold(), pattern) for one in recipients)

    def strikes(self) -> bool:
        """Count an opportunity and say whether the rule makes use of it."""
        rule = self.rule
        if rule.times is not None and self.hits >= rule.times:
            return False
        self.opportunities += 1
        count = self.opportunities - rule.skip
        if count < 1 or count % rule.every or (rule.probability < 1 and self._dice.random() >= rule.probability):
            return False
        self.hits += 1
        return True


class FaultBook:
    """The rules in force. Rules that stay the same keep their counters when the book is replaced."""

    def __init__(self, rules: Sequence[AnyRule] = ()) -> None:
        self.is_empty = True
        self._armed: list[_Armed] = []
        self._by_stage: dict[str, list[_Armed]] = {}
        self._past_hits: Counter[str] = Counter()
        self._greylisted: dict[tuple[str, str], float] = {}
        self.replace(rules)

    def replace(self, rules: Sequence[AnyRule]) -> None:
        """Put other rules in force.

        Raises:  Misconfigured naming a rule whose recipient can never match; the old rules stay in force.
        """
        names = [rule.name or f"{position}-{rule.__struct_config__.tag}" for position, rule in enumerate(rules, 1)]
        armed: list[_Armed] = []
        for position, (rule, name) in enumerate(zip(rules, names, strict=True)):
            stages = stages_of(rule)
            if rule.recipient is not None and not stages <= WITH_RECIPIENTS and not isinstance(rule, Slow):
                where = f"rules[{position}].recipient"
                raise Misconfigured("invalid_rules", "no recipient is known at this rule's stage", field=where)
            kept = next((old for old in self._armed if old.rule == rule and old.name == name), None)
            armed.append(kept or _Armed(rule, name))
        for old in self._armed:
            if old not in armed:
                self._past_hits[old.name] += old.hits
        self._armed = armed
        self._by_stage = {}
        for one in armed:
            for stage in one.stages:
                self._by_stage.setdefault(stage, []).append(one)
        self.is_empty = not armed

    @property
    def names(self) -> list[str]:
        """The rules in force, in order."""
        return [one.name for one in self._armed]

    @property
    def hits(self) -> dict[str, int]:
        """How often each rule struck since the start; rules no longer in force included."""
        hits = self._past_hits.copy()
        for one in self._armed:
            hits[one.name] += one.hits
        return dict(hits)

    def has(self, stage: str) -> bool:
        """Whether any rule may strike at this stage."""
        return stage in self._by_stage

    def judge(self, stage: str, mail_from: str = "", recipients: Sequence[str] = ()) -> Verdict | None:
        """What happens at a stage; None: nothing special.

        Takes:   stage: a Stage, a DropStage or `auth`. Delays add up; the first rule that ends the stage decides.
        """
        delay_s = 0.0
        is_multiline = False
        name = ""
        for armed in self._by_stage.get(stage, ()):
            rule = armed.rule
            if not armed.concerns(recipients):
                continue
            if isinstance(rule, Greylist) and self._is_known(mail_from, recipients, rule.wait_s):
                continue
            if not armed.strikes():
                continue
            match rule:
                case Hang():
                    delay_s += rule.seconds
                case Slow():
                    delay_s += rule.delay_ms / 1000
                case Multiline():
                    is_multiline = True
                case Refuse() | Defer() | Drop() | Greylist() | AuthFail() | EagerData():
                    return Verdict(armed.name, delay_s, is_multiline, rule)
            name = armed.name
        return Verdict(name, delay_s, is_multiline) if name else None

    def features(self) -> Features:
        """What the session that says EHLO is offered."""
        struck = [armed.rule for armed in self._by_stage.get("features", ()) if armed.strikes()]
        if not struck:
            return ALL_FEATURES
        size = next((rule for rule in struck if isinstance(rule, SizeLimit)), None)
        return Features(
            is_starttls_stripped=any(isinstance(rule, StarttlsStrip) for rule in struck),
            is_pipelining_off=any(isinstance(rule, NoPipelining) for rule in struck),
            is_8bitmime_off=any(isinstance(rule, No8bitmime) for rule in struck),
            is_smtputf8_off=any(isinstance(rule, NoSmtputf8) for rule in struck),
            size_bytes=size.size_bytes if size else None,
            is_size_advertised=size.is_advertised if size else True,
        )

    def _is_known(self, mail_from: str, recipients: Sequence[str], wait_s: float) -> bool:
        """Whether this pair was deferred before, long enough ago; remembers it."""
        pair = (mail_from.casefold(), recipients[0].casefold() if recipients else "")
        now_s = time.monotonic()
        first_s = self._greylisted.get(pair)
        if first_s is not None:
            return now_s - first_s >= wait_s
        self._greylisted[pair] = now_s
        if len(self._greylisted) > _MOST_GREYLISTED:
            del self._greylisted[next(iter(self._greylisted))]
        return False
