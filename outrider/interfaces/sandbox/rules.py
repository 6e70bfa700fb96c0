"""The shape of fault rules, in Python and in the JSON file, and the file that may change while the sandbox runs.

Owns what a rule may say; counting and striking is the fault book's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from outrider.base.errors import Misconfigured

Stage = Literal["banner", "ehlo", "mail", "rcpt", "data", "dot"]
DropStage = Literal["banner", "ehlo", "mail", "rcpt", "data", "before_dot", "after_dot"]

WITH_RECIPIENTS: Final = frozenset({"rcpt", "data", "before_dot", "dot", "after_dot"})

Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3_600)]
Text = Annotated[str, msgspec.Meta(max_length=2_000)]
Enhanced = Annotated[str, msgspec.Meta(pattern=r"^[245]\.\d{1,3}\.\d{1,3}$")]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="action"):
    """What every rule has: whom it meets and how often. Conditions are joined by "and"; none: always.

    An opportunity is one time that a session reaches the rule's stage with a recipient that matches.
    """

    name: str = ""
    """Shown in the ledger and in `/stats`; made from action and position when empty."""
    recipient: str | None = None
    """fnmatch pattern on the whole address, upper and lower case alike; only for rcpt, data and the dot."""
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Leave so many opportunities alone first."""
    every: Positive = 1
    """Then strike at each n-th."""
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """And then only so often, by a generator that starts at `seed`."""
    seed: int = 0
    times: Positive | None = None
    """Never strike more often than this."""


class Refuse(Rule, frozen=True, kw_only=True, tag="refuse"):
    """Answer with a permanent error. A line feed in `text` makes a multi-line reply; 521 and 554 at banner close."""

    stage: Stage = "rcpt"
    code: Annotated[int, msgspec.Meta(ge=500, le=599)] = 550
    enhanced: Enhanced = "5.1.1"
    text: Text = "Refused by a fault rule"


class Defer(Rule, frozen=True, kw_only=True, tag="defer"):
    """Answer with a temporary error. Code 421 closes the session after the answer, as the standard has it."""

    stage: Stage = "rcpt"
    code: Annotated[int, msgspec.Meta(ge=400, le=499)] = 451
    enhanced: Enhanced = "4.7.1"
    text: Text = "Deferred by a fault rule, try again later"


class Hang(Rule, frozen=True, kw_only=True, tag="hang"):
    """Say nothing for a while, then go on as if nothing had been. At the dot the message is recorded first."""

    stage: Stage = "dot"
    seconds: Seconds


class Slow(Rule, frozen=True, kw_only=True, tag="slow"):
    """Delay every answer, or those of one stage."""

    stage: Stage | None = None
    delay_ms: Annotated[float, msgspec.Meta(ge=0, le=3_600_000)]


class Drop(Rule, frozen=True, kw_only=True, tag="drop"):
    """Close the connection without an answer. `after_dot`: the message is accepted and recorded, the answer lost."""

    stage: DropStage = "after_dot"


class Greylist(Rule, frozen=True, kw_only=True, tag="greylist"):
    """Defer the first attempt of each pair of sender and recipient, and every one sooner than `wait_s` after it."""

    wait_s: Seconds = 0.0
    text: Text = "Greylisted, try again later"


class Multiline(Rule, frozen=True, kw_only=True, tag="multiline"):
    """Give the positive answer of a stage in three lines."""

    stage: Literal["banner", "mail", "rcpt", "data", "dot"] = "dot"


class AuthFail(Rule, frozen=True, kw_only=True, tag="auth_fail"):
    """Refuse credentials that are right (535)."""


class StarttlsStrip(Rule, frozen=True, kw_only=True, tag="starttls_strip"):
    """Hide STARTTLS from EHLO and refuse the command, as a man in the middle would."""


class NoPipelining(Rule, frozen=True, kw_only=True, tag="no_pipelining"):
    """Do not offer PIPELINING, and refuse a client that does it all the same."""


class No8bitmime(Rule, frozen=True, kw_only=True, tag="no_8bitmime"):
    """Do not offer 8BITMIME, and refuse a message with bytes above 127."""


class NoSmtputf8(Rule, frozen=True, kw_only=True, tag="no_smtputf8"):
    """Do not offer SMTPUTF8."""


class SizeLimit(Rule, frozen=True, kw_only=True, tag="size_limit"):
    """Another SIZE limit for the session; unadvertised, the client learns of it at the dot only."""

    size_bytes: Positive
    is_advertised: bool = True


class EagerData(Rule, frozen=True, kw_only=True, tag="eager_data"):
    """Answer DATA with 354 although every recipient was refused, and refuse at the dot [RFC 2920 3.1]."""


Feature = StarttlsStrip | NoPipelining | No8bitmime | NoSmtputf8 | SizeLimit
AnyRule = (
    Refuse
    | Defer
    | Hang
    | Slow
    | Drop
    | Greylist
    | Multiline
    | AuthFail
    | StarttlsStrip
    | NoPipelining
    | No8bitmime
    | NoSmtputf8
    | SizeLimit
    | EagerData
)


class RulesDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON file: `{"rules": [{"action": "defer", …}, …]}`."""

    rules: tuple[AnyRule, ...] = ()


def stages_of(rule: AnyRule) -> frozenset[str]:
    """The places of a session where a rule has a say."""
    match rule:
        case Slow(stage=None):
            return frozenset({"banner", "ehlo", "mail", "rcpt", "data", "dot"})
        case Refuse() | Defer() | Hang() | Slow() | Drop() | Multiline():
            return frozenset({str(rule.stage)})
        case Greylist():
            return frozenset({"rcpt"})
        case EagerData():
            return frozenset({"eager_data"})
        case AuthFail():
            return frozenset({"auth"})
        case _:
            return frozenset({"features"})


def parse_rules(text: bytes) -> tuple[AnyRule, ...]:
    """Read the JSON of a rules file.

    Raises:  Misconfigured naming the place inside the document.
    """
    try:
        return msgspec.json.decode(text, type=RulesDocument).rules
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message, _, place = str(error).partition(" - at ")
        field = place.strip("`").removeprefix("$.") or "rules"
        raise Misconfigured("invalid_rules", message, field=field) from error


class RulesFile:
    """A rules file that may change, appear and disappear while the sandbox runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._is_read = False

    def read_if_changed(self, *, is_forced: bool = False) -> tuple[AnyRule, ...] | None:
        """The rules, when the file is not what it was at the last call; a missing file holds no rules.

        Raises:  Misconfigured when it is not a rules file, or cannot be read; asked again only after the next change.
        """
        seen = self._signature()
        if self._is_read and seen == self._seen and not is_forced:
            return None
        self._seen, self._is_read = seen, True
        if seen is None:
            return ()
        try:
            return parse_rules(self.path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Misconfigured("invalid_rules", f"cannot be read: {error.strerror}", field="faults_path") from error

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino
