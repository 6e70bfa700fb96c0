"""What a gate is: it says for each message whether it may go now. Pure: facts in, verdict out.

A gate is one file `plugins/gates/<key>.py` with a module-level `GATE`. It declares at most one statement per message
batch (`facts`) and at most one per lane (`lane_facts`), so that a claim of 1 and of 1,000 costs the same statements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from outrider.base.fields import Field
from outrider.base.ids import time_of

Fact = Mapping[str, Any]
MessageClass = Literal["transactional", "bulk"]


@dataclass(frozen=True, slots=True)
class Pass:
    """The message may go, as far as this gate is concerned; with `until` only before that instant (UTC)."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Not now: asked again at `until` (UTC)."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Never. `state` is the end state it is recorded in."""

    reason: str
    state: Literal["blocked", "expired"] = "blocked"


Verdict = Pass | Hold | Block
PASS = Pass()


@dataclass(frozen=True, slots=True)
class Lane:
    """What messages are queued by: one tenant, channel, sender, campaign (or none) and class."""

    tenant_id: UUID
    id: int
    channel: str
    sender_id: UUID
    campaign_id: UUID | None
    message_class: MessageClass


@dataclass(slots=True)
class Candidate:
    """One picked message, before anything was taken: what the gates judge."""

    id: UUID
    contact_id: UUID | None
    address: str
    purpose: str
    expires_at: datetime | None
    attempt: int
    may_go_until: datetime | None = None
    """The engine's note of the earliest end among the gates' answers; gates neither read nor set it."""

    @property
    def accepted_at(self) -> datetime:
        """When it was accepted (UTC, milliseconds), as its id says; worked out for who asks."""
        return time_of(self.id)


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many messages of a lane may go now, and when not all may, why."""

    count: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Gate:
    """One gate. The functions are pure and are called under the claim's locks: no I/O, no waiting.

    key         the file's name
    order       gates are asked in rising order; the first that does not pass decides
    fields      settings of the gate, as data: the tenant's, and a campaign's where a field says so
    facts       SQL: `$1` tenant_id uuid, `$2` message ids uuid[], `$3` contact ids uuid[], `$4` addresses text[],
                `$5` channel text, `$6` class text, `$7` purposes text[]; gives rows with a column `message_id`, only
                for messages the gate has something to say about; `judge` is called for those alone. A gate
                without `facts` judges every message with an empty fact.
    is_asked_again
                asked again while a claimed message waits for its write, at least twice a second
    counts_contacts
                what goes is noted per contact and purpose (table contact_sends) in the claim that lets it go, and taken
                back when it was not sent; a tenant's claims are then one after another, so that none is missed
    lane_facts  SQL: `$1` tenant_id uuid, `$2` channel text, `$3` sender_id uuid, `$4` campaign_id uuid; its rows
                go to `allow`.
    is_switch   its `lane_facts` are rows of `switches` or the maintenance mark: not asked for while a claim sees under
                its lane's lock that nothing of the tenant or the installation is switched off
    """

    key: str
    order: int
    help: str
    fields: tuple[Field, ...] = ()
    facts: str | None = None
    lane_facts: str | None = None
    is_asked_again: bool = False
    counts_contacts: bool = False
    is_switch: bool = False

    def configured(self, settings: Mapping[str, Any]) -> Self:
        """The gate as these settings make it: called once per change of them, its answer is what is asked.

        Takes:   every field of `fields` with a value: the campaign's, else the tenant's, else the preset.
        """
        del settings
        return self

    def concerns(self, lane: Lane) -> bool:
        """Whether messages of a lane have to be judged at all; when not, the facts are not asked for."""
        del lane
        return True

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Decide about one message. `now` is the database's clock at the claim."""
        del fact, message, now
        return PASS

    def allow(self, lane: Lane, facts: Sequence[Fact], asked: int) -> Allowance:
        """Decide how many of a lane may go, before any is picked."""
        del lane, facts
        return Allowance(asked)
