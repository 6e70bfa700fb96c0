"""Options that say how a campaign goes out, what they mean, and how it is told.

Owns words and their reading; what is possible the domain decides.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.domain.campaigns.delivery import Delivery, Pacing
from outrider.domain.campaigns.shown import DeliveryView
from outrider.interfaces.cli.options import text_of, whole_number
from outrider.interfaces.cli.output import facts, table

Whole = Annotated[int, Parameter(converter=whole_number, n_tokens=1)]
_Pairs = Annotated[list[str] | None, Parameter(negative="")]
_Said = TypeVar("_Said")
_WAVES = ("n", "kind", "state", "member_count", "queued_count", "look_at", "verdict", "winner", "why")


@Parameter(name="*")
@dataclass(frozen=True)
class Hour:
    """Everybody gets it when their own clock shows an hour.

    Parameters
    ----------
    at
        The hour at which everybody gets it, by their own clock: 2027-03-01T09:00.
    late
        What becomes of those who are past that hour.
    zone_attribute
        The attribute that holds a zone, for contacts without a zone of their own.
    fallback_zone
        For contacts of whom no zone is known; the tenant's when absent.
    """

    at: str | None = None
    late: Literal["send", "skip"] = "send"
    zone_attribute: str | None = None
    fallback_zone: str | None = None

    def said(self) -> dict[str, Any]:
        """As the API says it."""
        if self.at is None:
            if self != HOUR:
                raise Refused("required", "say with --at which hour it is about", field="--at")
            return {}
        zones = {"attribute": self.zone_attribute, "fallback_zone": self.fallback_zone}
        try:
            at = datetime.fromisoformat(self.at)
        except ValueError:
            raise Refused("invalid_moment", "must be a local time such as 2027-03-01T09:00", field="--at") from None
        return {"local_time": {"at": at, "late": self.late, **zones}}


@Parameter(name="*")
@dataclass(frozen=True)
class Pace:
    """How evenly it goes out.

    Parameters
    ----------
    spread_hours
        Spread it evenly over so many hours of sending.
    per_hour
        At most so many messages an hour.
    per_minute
        At most so many messages a minute.
    """

    spread_hours: float | None = None
    per_hour: Whole | None = None
    per_minute: Whole | None = None

    def pacing(self) -> Pacing | None:
        """The pace, if there is any."""
        return converted(asdict(self), Pacing) if any(value is not None for value in asdict(self).values()) else None


@Parameter(name="*")
@dataclass(frozen=True)
class First:
    """Some go first, and the rest only if they fare well.

    Parameters
    ----------
    canary
        So many percent go first, and the rest only if they fare well.
    canary_minimum
        At least so many go first.
    canary_wait
        Minutes until they are looked at.
    canary_by_hand
        Nobody but people lets the rest go.
    """

    canary: float | None = None
    canary_minimum: Whole = 100
    canary_wait: Whole = 30
    canary_by_hand: Annotated[bool, Parameter(negative="")] = False

    def said(self) -> dict[str, Any]:
        """As the API says it."""
        if self.canary is None:
            if self != FIRST:
                raise Refused("required", "say with --canary how many percent go first", field="--canary")
            return {}
        counts = {"minimum_count": self.canary_minimum, "wait_minutes": self.canary_wait}
        decision = "by_hand" if self.canary_by_hand else "automatic"
        return {"canary": {"share_percent": self.canary, "decision": decision, **counts}}


@Parameter(name="*")
@dataclass(frozen=True)
class Compared:
    """Variants that are compared.

    Parameters
    ----------
    variant
        NAME=PERCENT: a variant and its share of the test; two to five times.
    variant_subject
        NAME=SUBJECT: another subject for a variant.
    variant_template
        NAME=TEMPLATE: another template for a variant, by name or id.
    test
        So many percent of the audience take part in the test; with 100 there is no winner.
    test_wait
        Minutes until the winner is chosen.
    test_minimum
        Sent per variant, below which the first one goes on.
    metric
        What the winner is chosen by.
    winner_by_hand
        Nobody but people chooses the winner.
    """

    variant: _Pairs = None
    variant_subject: _Pairs = None
    variant_template: _Pairs = None
    test: float = 20.0
    test_wait: Whole = 240
    test_minimum: Whole = 100
    metric: Literal["clicks", "opens"] = "clicks"
    winner_by_hand: Annotated[bool, Parameter(negative="")] = False

    def templates(self) -> dict[str, str]:
        """The templates that variants name."""
        return dict(_pair(pair, "--variant-template") for pair in self.variant_template or ())

    def said(self, template_ids: dict[str, str]) -> dict[str, Any]:
        """As the API says it; what names no variant is refused."""
        found: dict[str, dict[str, Any]] = {}
        for pair in self.variant or ():
            name, share = _pair(pair, "--variant")
            found[name] = {"name": name, "share_percent": _number(share, "--variant")}
        subjects = dict(_pair(pair, "--variant-subject") for pair in self.variant_subject or ())
        for option, key, values in (
            ("--variant-subject", "subject", subjects),
            ("--variant-template", "template_id", template_ids),
        ):
            for name, value in values.items():
                if name not in found:
                    raise Refused("unknown_variant", f"no --variant is called {name}", field=option)
                found[name][key] = value
        if not found:
            if self != COMPARED:
                raise Refused("required", "say with --variant what is compared", field="--variant")
            return {}
        decision = "by_hand" if self.winner_by_hand else "automatic"
        counts = {"wait_minutes": self.test_wait, "minimum_count": self.test_minimum}
        test = {"variants": list(found.values()), "audience_percent": self.test, "metric": self.metric}
        return {"ab_test": {**test, **counts, "decision": decision}}


HOUR, PACE, FIRST, COMPARED = Hour(), Pace(), First(), Compared()


def converted(said: dict[str, Any], kind: type[_Said]) -> _Said:
    """What was said, within its bounds.

    Raises:  Refused(invalid_option).
    """
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise Refused("invalid_option", str(error)) from None


def read(file: Path) -> Delivery:
    """A file that says all of it.

    Raises:  Refused(file_unusable, invalid_file).
    """
    try:
        return msgspec.json.decode(text_of(file, "--file"), type=Delivery)
    except msgspec.DecodeError as error:
        raise Refused("invalid_file", str(error), field="--file") from None


def told(view: DeliveryView) -> str:
    """How it goes out, in words, and its waves."""
    wanted = view.delivery
    head: dict[str, Any] = {}
    if wanted.local_time is not None:
        head["local time"] = f"{wanted.local_time.at:%Y-%m-%d %H:%M}, the late: {wanted.local_time.late}"
    if wanted.pacing is not None:
        paces = msgspec.to_builtins(wanted.pacing)
        head["pace"] = ", ".join(f"{name} {value:g}" for name, value in paces.items() if value)
    if view.pace_per_s is not None:
        head["messages a second at most"] = f"{view.pace_per_s:g}"
    if wanted.canary is not None:
        head["canary"] = f"{wanted.canary.share_percent:g} %, at least {wanted.canary.minimum_count}"
    if wanted.ab_test is not None:
        head["test"] = f"{wanted.ab_test.audience_percent:g} % of the audience, by {wanted.ab_test.metric}"
    for variant in view.variants:
        head[f"variant {variant.name}"] = f"{variant.share_percent:g} %, {variant.subject or 'its template says all'}"
    if view.waits_for is not None:
        head["waits for"] = view.waits_for
    if view.late_count:
        head["left out, too late"] = view.late_count
    rows = [{name: getattr(wave, name) for name in _WAVES} for wave in view.waves]
    return facts(head or {"goes out": "at once, to all"}) + ("\n" + table(rows, _WAVES, empty="") if rows else "")


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise Refused("invalid_pair", "must be NAME=VALUE", field=option)
    return name, value


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused("invalid_share", f"{text} is no number", field=option) from None
