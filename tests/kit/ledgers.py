"""The three ledgers of a drill and the invariants over them [faults.md 2.0]; nothing else is looked at.

API
    ClientLedger(path)                    (a) what the client was told: ids, written with fsync after each commit
        .add(ids) / .ids()
    accepted_of(reader, since_ns=0)       (b) what the capture server took: one record per acceptance
    Evidence                              (a), (b) and (c) the product's database, read once at the end
        await Evidence.read(raw, client, provider)
    violations(evidence, duplicates=…, uncertain=…) -> list[str]     every invariant; empty: the run was clean
    i1 … i11                              each invariant alone, named as in faults.md
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg

from outrider.domain.messages.states import END_STATES
from outrider.interfaces.sandbox import LedgerReader
from outrider.interfaces.sandbox.ledger import Record

_NS_PER_S = 1_000_000_000
_MAY_BE_OUT = frozenset({"sent", "delivered", "bounced", "uncertain"})
"""End states in which a provider may have taken the message."""
_SHOWN = 3


class ClientLedger:
    """Every message id the client was told is accepted; a line is on disk before anything else happens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, ids: Iterable[UUID]) -> None:
        """Note acknowledged ids."""
        os.write(self._fd, "".join(f"{each}\n" for each in ids).encode())
        os.fsync(self._fd)

    def ids(self) -> list[UUID]:
        """Everything acknowledged so far."""
        return [UUID(line) for line in self.path.read_text().split()]

    def close(self) -> None:
        os.close(self._fd)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """The capture server took responsibility for a message; whether its answer arrived is another matter."""

    message_id: UUID
    address: str
    boot_ns: int
    is_answered: bool


def accepted_of(records: Iterable[Record], *, since_ns: int = 0) -> list[Acceptance]:
    """The acceptances among records, by the product's own message id (header X-Outrider-Message)."""
    return [
        Acceptance(UUID(r.outrider_ids["message"]), r.rcpt_to or "", r.boot_ns, r.outcome == "accepted")
        for r in records
        if r.is_taken and r.boot_ns >= since_ns
    ]


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the product's ledger."""

    id: UUID
    tenant_id: UUID
    lane_id: int
    campaign_id: UUID | None
    contact_id: UUID | None
    address: str
    state: str
    code: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A row of the product's queue. `overdue_s`: since when its lease has ended, if it is leased."""

    id: UUID
    state: int
    reason: str | None
    overdue_s: float


@dataclass(slots=True)
class Evidence:
    """What the three ledgers say at one moment, when the drill is over."""

    acknowledged: list[UUID]
    acceptances: list[Acceptance]
    messages: dict[UUID, Message]
    row_count: int
    queue: dict[UUID, Waiting]
    doubtful: set[UUID]
    recipients: dict[UUID, list[UUID]]
    counted: Counter[tuple[int, str]]

    @classmethod
    async def read(cls, raw: asyncpg.Connection, client: ClientLedger, provider: LedgerReader) -> Evidence:
        """Read all three; the database in one snapshot."""
        async with raw.transaction(isolation="repeatable_read", readonly=True):
            rows = await raw.fetch(
                "SELECT id, tenant_id, lane_id, campaign_id, contact_id, address, state, coalesce(code, '')"
                " FROM messages"
            )
            queue = await raw.fetch(
                "SELECT message_id, state, reason,"
                " coalesce(extract(epoch FROM clock_timestamp() - lease_until), 0)::float8 FROM queue"
            )
            doubtful = await raw.fetch("SELECT message_id FROM uncertain_messages")
            recipients = await raw.fetch("SELECT campaign_id, message_id FROM campaign_recipients")
            counted = await raw.fetch(
                "SELECT lane_id, state, sum(n)::bigint FROM (SELECT lane_id, state, n FROM rollups"
                " UNION ALL SELECT lane_id, state, n FROM rollup_deltas) t GROUP BY 1, 2"
            )
        by_campaign: dict[UUID, list[UUID]] = {}
        for campaign_id, message_id in recipients:
            by_campaign.setdefault(campaign_id, []).append(message_id)
        return cls(
            acknowledged=client.ids(),
            acceptances=accepted_of(provider),
            messages={row[0]: Message(*row) for row in rows},
            row_count=len(rows),
            queue={row[0]: Waiting(*row) for row in queue},
            doubtful={row[0] for row in doubtful},
            recipients=by_campaign,
            counted=Counter({(row[0], row[1]): row[2] for row in counted if row[2]}),
        )

    def times_accepted(self) -> Counter[UUID]:
        """How often the provider took each message."""
        return Counter(acceptance.message_id for acceptance in self.acceptances)

    def duplicate_count(self) -> int:
        """Acceptances beyond the first of each message."""
        return sum(count - 1 for count in self.times_accepted().values())

    def in_state(self, *states: str) -> set[UUID]:
        """Messages that ended in one of these states."""
        return {message.id for message in self.messages.values() if message.state in states}


def violations(
    evidence: Evidence, *, duplicates: int = 0, uncertain: int = 0, overdue_s: float | None = None
) -> list[str]:
    """Every invariant at the end of a drill.

    Takes:   duplicates  the bound D over the whole run; uncertain: most messages that may have ended so
             overdue_s   most seconds a lease may be over; None: nothing may be leased any more
    """
    return [
        *i1_acknowledged_messages_are_there(evidence),
        *i2_every_message_has_ended(evidence, uncertain=uncertain),
        *i3_acceptances_and_states_agree(evidence),
        *i4_acceptances_per_message(evidence, duplicates=duplicates),
        *i7_one_message_per_recipient(evidence),
        *i8_counters_equal_a_recount(evidence),
        *i11_no_lease_is_forgotten(evidence, overdue_s=overdue_s),
    ]


def i1_acknowledged_messages_are_there(evidence: Evidence) -> list[str]:
    """I1: each acknowledged message has exactly one row."""
    lost = [each for each in evidence.acknowledged if each not in evidence.messages]
    twice = evidence.row_count - len(evidence.messages)
    again = len(evidence.acknowledged) - len(set(evidence.acknowledged))
    return [
        *_said("I1", "acknowledged messages have no row", lost),
        *([f"I1: {twice} rows have another's id"] if twice else []),
        *([f"I1: {again} ids were acknowledged twice"] if again else []),
    ]


def i2_every_message_has_ended(evidence: Evidence, *, uncertain: int) -> list[str]:
    """I2: every message is in an end state or held with a reason; the queue holds exactly what is open."""
    open_rows = {m.id for m in evidence.messages.values() if m.state not in END_STATES}
    held = {waiting.id for waiting in evidence.queue.values() if waiting.state == 5 and waiting.reason}
    in_doubt = evidence.in_state("uncertain")
    found = [
        *_said("I2", "messages have not ended", open_rows - held),
        *_said("I2", "open messages have no queue row: nobody will ever send them", open_rows - evidence.queue.keys()),
        *_said("I2", "ended messages are still queued", evidence.queue.keys() - open_rows),
        *_said("I2", "uncertain messages are not on the list of those to decide", in_doubt ^ evidence.doubtful),
    ]
    if len(in_doubt) > uncertain:
        found.append(f"I2: {len(in_doubt)} messages are uncertain, at most {uncertain} can be")
    return found


def i3_acceptances_and_states_agree(evidence: Evidence) -> list[str]:
    """I3: what the provider took is known as sent or uncertain; what is called sent was taken."""
    taken = evidence.times_accepted().keys()
    unknown = taken - evidence.messages.keys()
    wrong = {each for each in taken - unknown if evidence.messages[each].state not in _MAY_BE_OUT}
    return [
        *_said("I3", "acceptances of messages the database does not know", unknown),
        *_said("I3", "messages were taken by the provider and are recorded as something else", wrong),
        *_said("I3", "messages are called sent and no provider took them", evidence.in_state("sent") - taken),
    ]


def i4_acceptances_per_message(evidence: Evidence, *, duplicates: int) -> list[str]:
    """I4: acceptances beyond the first stay within the bound D."""
    more = [each for each, count in evidence.times_accepted().items() if count > 1]
    if evidence.duplicate_count() <= duplicates:
        return []
    return [f"I4: {evidence.duplicate_count()} duplicates, at most {duplicates} can be, as of {_shown(more)}"]


def i5_nothing_after(acceptances: Sequence[Acceptance], ended_ns: int, *, grace_s: float) -> list[str]:
    """I5: no acceptance later than `grace_s` after a stop (CLOCK_BOOTTIME on both sides)."""
    late = [a for a in acceptances if a.boot_ns > ended_ns + grace_s * _NS_PER_S]
    if not late:
        return []
    worst_s = (max(a.boot_ns for a in late) - ended_ns) / _NS_PER_S
    return [f"I5: {len(late)} acceptances more than {grace_s:g} s after the stop, the last {worst_s:.3f} s after it"]


def i7_one_message_per_recipient(evidence: Evidence) -> list[str]:
    """I7: a campaign reaches a contact once and an address once; its recipients and its messages are the same."""
    campaigns: dict[UUID, list[Message]] = {}
    for message in evidence.messages.values():
        if message.campaign_id is not None:
            campaigns.setdefault(message.campaign_id, []).append(message)
    found = []
    for campaign_id in campaigns.keys() | evidence.recipients.keys():
        messages = campaigns.get(campaign_id, [])
        contacts = Counter(message.contact_id for message in messages)
        addresses = Counter(message.address for message in messages)
        found += _said("I7", "contacts have a campaign twice", [c for c, n in contacts.items() if n > 1])
        found += _said("I7", "addresses have a campaign twice", [a for a, n in addresses.items() if n > 1])
        listed = set(evidence.recipients.get(campaign_id, []))
        found += _said("I7", "recipients without message or messages without", listed ^ {m.id for m in messages})
    return found


def i8_counters_equal_a_recount(evidence: Evidence) -> list[str]:
    """I8: the rollups say per lane and state what counting the ledger says."""
    recount: Counter[tuple[int, str]] = Counter()
    for message in evidence.messages.values():
        recount[message.lane_id, "accepted"] += 1
        if message.state in END_STATES:
            recount[message.lane_id, message.state] += 1
    wrong = [f"{key}: {evidence.counted[key]} for {recount[key]}" for key in evidence.counted.keys() | recount.keys()
             if evidence.counted[key] != recount[key]]  # fmt: skip
    return _said("I8", "counters differ from a recount", wrong)


def i11_no_lease_is_forgotten(evidence: Evidence, *, overdue_s: float | None) -> list[str]:
    """I11: no lease is older than lease and sweep; None: at the end of a drill nothing is leased."""
    leased = [waiting for waiting in evidence.queue.values() if waiting.state == 1]
    if overdue_s is None:
        return _said("I11", "messages are still leased", [waiting.id for waiting in leased])
    return _said("I11", "leases were not swept", [waiting.id for waiting in leased if waiting.overdue_s > overdue_s])


def _said(name: str, what: str, which: Iterable[object]) -> list[str]:
    found = list(which)
    return [f"{name}: {len(found)} {what}, as {_shown(found)}"] if found else []


def _shown(which: Sequence[object]) -> str:
    return ", ".join(str(each) for each in list(which)[:_SHOWN])
