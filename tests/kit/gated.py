"""A tenant as a die made it for the drill of gates: whom it writes to, what it wants, within which limits.

API
    Case            one tenant: people, limits, what was asked for, and what people said meanwhile
    Person, Words, Want, Campaign, Budget, Rate
    parts_of(text)  how many parts a text goes in, for the texts of this drill
    Case.cost(want), .cost_of(want, text)       what it costs, in micros; None where no price is known
    Case.asked_before(id)                       how many texts its source had asked for, and for its range, with it
    Case.is_asked_too_often(id)                 whether that is too many
    Case.never(id), .later(want, …)             why it may not go: for good, or not now

Nothing of the product is asked here: what may go is worked out from what the die said and from the ledgers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

from outrider.contracts.gate import MessageClass
from tests.kit.drill import Sender
from tests.kit.phones import Phones

CENT = 10_000
"""Millionths of the currency."""
AWAKE = "Asia/Kolkata"
"""The zone of every tenant and of most people, where it is day: by its midnight days and months end."""
SLOW_DOMAIN, SLOW_COUNTRY = "slow.example", "DE"
"""The domain and the country that have a rate; no other has one."""
NUMBERS = {"US": "+1415555{:04}", "DE": "+49151123{:05}", "IN": "+9198765{:05}", "GB": "+447400{:06}"}
CAPPED = frozenset({"transactional", "marketing"})
"""The purposes that the cap counts."""
SOURCES = ("203.0.113.7", "203.0.113.8", "a form")
"""Who asks for messages."""
_OWN_DIGITS = 3
"""Numbers that differ in so many last digits alone are one range."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` at once and `per_s` on average."""

    per_s: float
    burst: int

    def most(self, took_s: float) -> int:
        """How many may have gone in so long a time."""
        return math.floor(self.burst + self.per_s * took_s)


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits in micros; None: none."""

    daily: int | None
    monthly: int | None


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody with an email address, a telephone, or both.

    granted, withdrawn   (channel, purpose) as they were at the beginning
    """

    contact_id: UUID
    is_quiet: bool
    places: dict[str, str]
    country: str
    granted: frozenset[tuple[str, str]]
    withdrawn: frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Words:
    """Something to say. `text` is what arrives, but for a line about the way out; emails have none, and no parts."""

    content_id: UUID
    text: str = ""
    variables: str | None = None


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign to some people, with a budget of its own."""

    id: UUID
    channel: str
    sender_id: UUID
    purpose: str
    words: Words
    budget: Budget
    members: tuple[Person, ...]


@dataclass(frozen=True, slots=True)
class Want:
    """One message that somebody asked for, in which turn; a campaign's has no source."""

    person: Person
    channel: str
    sender_id: UUID
    message_class: MessageClass
    purpose: str
    words: Words
    campaign: Campaign | None = None
    source: str = ""
    turn: int = 0

    @property
    def address(self) -> str:
        """Where it goes to."""
        return self.person.places[self.channel]


@dataclass(slots=True)
class Spent:
    """What has gone, or may have: micros by payer (None: the tenant), today and this month, and how many by limit."""

    today: Counter[UUID | None]
    month: Counter[UUID | None]
    by_person: Counter[tuple[UUID, str]]
    by_sender: Counter[UUID]


@dataclass(slots=True)
class Case:
    """One tenant. `stopped`, `withdrawn`: who said what since, and when that was done, on the clock of the ledgers."""

    tenant_id: UUID
    senders: list[Sender]
    phones: Phones
    budget: Budget
    cap: int
    prices: dict[tuple[str, str], int]
    """By channel and country; '' is every other."""
    highest: int | None
    countries: frozenset[str] | None
    source_most: int | None
    range_most: int | None
    domain: Rate
    account: Rate
    country: Rate
    warm_up: tuple[int, int]
    """What the second sender may send on the first and the second day of its plan."""
    reserve_percent: int
    day_on: date
    begun_ns: int
    says: dict[UUID, list[Words]]
    people: list[Person] = field(default_factory=list)
    wants: dict[UUID, Want] = field(default_factory=dict)
    campaigns: list[Campaign] = field(default_factory=list)
    stopped: dict[str, int] = field(default_factory=dict)
    withdrawn: dict[tuple[UUID, str, str], int] = field(default_factory=dict)

    def budgets(self) -> dict[UUID | None, Budget]:
        """By payer; None: the tenant itself."""
        return {None: self.budget} | {campaign.id: campaign.budget for campaign in self.campaigns}

    def is_capped(self, purpose: str) -> bool:
        """Whether messages of a purpose count for the cap."""
        return purpose in CAPPED

    def asked_before(self, message_id: UUID) -> tuple[int, int]:
        """How many texts its source had asked for to its country, and how many there were to its range, with it."""
        own = self.wants[message_id]
        before = [
            want
            for each, want in self.wants.items()
            if want.source and want.channel == "sms" and (want.turn, each.int) <= (own.turn, message_id.int)
        ]
        of_source = sum((each.source, each.person.country) == (own.source, own.person.country) for each in before)
        return of_source, sum(each.address[:-_OWN_DIGITS] == own.address[:-_OWN_DIGITS] for each in before)

    def is_asked_too_often(self, message_id: UUID) -> bool:
        """Whether too many texts like it had been asked for before it."""
        own = self.wants[message_id]
        if not own.source or own.channel != "sms":
            return False
        found = zip(self.asked_before(message_id), (self.source_most, self.range_most), strict=True)
        return any(most is not None and count > most for count, most in found)

    def cost(self, want: Want) -> int | None:
        """In micros, as it would be sent; None where no price is known."""
        return self.cost_of(want, want.words.text)

    def cost_of(self, want: Want, text: str | None) -> int | None:
        """The same for the text that was really sent."""
        country = want.person.country if want.channel == "sms" else ""
        price = self.prices.get((want.channel, country), self.prices.get((want.channel, "")))
        is_in_parts = want.channel == "sms"
        return (
            None
            if price is None
            else price * (parts_of(want.words.text if text is None else text) if is_in_parts else 1)
        )

    def never(self, message_id: UUID) -> Iterator[str]:
        """Why it may not go, today or another day."""
        want = self.wants[message_id]
        if self.is_asked_too_often(message_id):
            yield "too many like it were asked for"
        key = (want.channel, want.purpose)
        if want.address in self.stopped:
            yield "they have said stop"
        if (want.person.contact_id, *key) in self.withdrawn or key in want.person.withdrawn:
            yield "consent was withdrawn"
        elif want.message_class == "bulk" and key not in want.person.granted:
            yield "consent was never given"
        if want.channel == "sms" and self.countries is not None and want.person.country not in self.countries:
            yield "the country is not allowed"
        if self.highest is not None and (self.cost(want) or 0) > self.highest:
            yield "it is too dear"

    def later(self, want: Want, spent: Spent, today: date) -> Iterator[str]:
        """Why it may not go now, given what has gone."""
        if want.person.is_quiet:
            yield "it is quiet there"
        if self.is_capped(want.purpose) and spent.by_person[want.person.contact_id, want.purpose] >= self.cap:
            yield "they have got enough"
        cost = self.cost(want)
        if cost is None:
            yield "no price is known"
        else:
            for payer, budget in self.budgets().items():
                if payer not in {None, want.campaign.id if want.campaign else None}:
                    continue
                for limit, gone in ((budget.daily, spent.today[payer]), (budget.monthly, spent.month[payer])):
                    if limit is not None and limit - gone < cost:
                        yield "there is no money for it"
        warm = self.senders[1].id
        if want.sender_id == warm and today == self.day_on:
            kept = self.reserve_percent if want.message_class == "bulk" else 0
            if spent.by_sender[warm] >= self.warm_up[0] * (100 - kept) // 100:
                yield "its sender warms up"


def parts_of(text: str) -> int:
    """By 3GPP TS 23.038 and 23.040, for texts that are plain ASCII, or else nowhere in the GSM alphabet."""
    lone, part = (160, 153) if text.isascii() else (70, 67)
    return 1 if len(text) <= lone else -(-len(text) // part)
