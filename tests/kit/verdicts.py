"""What gates should have let go and what not, worked out anew.

From what the die said, the ledgers of the servers that took messages, what was charged, and which messages are
uncertain by right. The product's own verdicts are not asked.

    found = await judged(drill, case, settled_at)      empty: no gate was violated and nothing permitted was left behind
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg

from tests.kit.drill import Drill, boot_ns
from tests.kit.gated import AWAKE, SLOW_COUNTRY, SLOW_DOMAIN, Case, Spent, Want
from tests.kit.ledgers import Acceptance
from tests.kit.standstills import stood_still_s

STOPPED_WITHIN_S = 5.0
"""However busy the machine is, and as much more as it stood still; that it is a second is drilled in
test_f85_kill_switch.py [faults.md F84]."""
_NS = 1_000_000_000
_OPEN = frozenset({"queued", "sending", "scheduled", "held"})


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a tenant's messages. `gone`: taken by a server, or uncertain; `days`: local days of the run."""

    taken: list[Acceptance]
    texts: dict[UUID, str]
    states: dict[UUID, str]
    gone: dict[UUID, Want]
    charges: list[asyncpg.Record]
    today: date
    days: int
    months: int


async def judged(drill: Drill, case: Case, settled_at: datetime) -> list[str]:
    """What should not be.

    Takes:   settled_at: when nothing moved any more; what was held until a time soon after that had gone by then.
    """
    seen = await _seen(drill, case, settled_at)
    spent = _spent(case, seen)
    return [
        *_forbidden(case, seen),
        *_too_much(case, seen),
        *_misspent(case, seen),
        *await _accounts_wrong(drill, case, seen),
        *await _out_of_pace(drill, case, seen),
        *_left_behind(case, seen, spent),
    ]


async def _seen(drill: Drill, case: Case, settled_at: datetime) -> Seen:
    await _name_campaign_messages(drill, case)
    texts = {each.message_id: each for each in case.phones.acceptances()}
    taken = [each for each in (*drill.acceptances(), *texts.values()) if each.message_id in case.wants]
    rows = await drill.rows("SELECT id, state FROM message_states WHERE tenant_id = $1", case.tenant_id)
    states = {row["id"]: row["state"] for row in rows}
    ids = {each.message_id for each in taken} | {each for each, state in states.items() if state == "uncertain"}
    zone = ZoneInfo(AWAKE)
    begun_at = datetime.now(UTC) - timedelta(seconds=(boot_ns() - case.begun_ns) / _NS)
    first, today = begun_at.astimezone(zone).date(), settled_at.astimezone(zone).date()
    return Seen(
        taken, case.phones.texts(), states, {each: case.wants[each] for each in ids},
        await drill.rows("SELECT * FROM charges WHERE tenant_id = $1", case.tenant_id),
        today, 1 + (today - first).days, 1 + (today.month != first.month),
    )  # fmt: skip


async def _name_campaign_messages(drill: Drill, case: Case) -> None:
    """Which message is a campaign's to whom; that each has one is what was wanted."""
    for campaign in case.campaigns:
        rows = await drill.rows(
            "SELECT id, contact_id FROM messages WHERE tenant_id = $1 AND campaign_id = $2", case.tenant_id, campaign.id
        )
        people = {person.contact_id: person for person in campaign.members}
        for row in rows:
            case.wants[row["id"]] = Want(
                people[row["contact_id"]], campaign.channel, campaign.sender_id, "bulk", campaign.purpose,
                campaign.words, campaign,
            )  # fmt: skip


def _spent(case: Case, seen: Seen) -> Spent:
    """What has gone, as far as it limits what may go now. What went yesterday counts for the month alone."""
    spent = Spent(Counter(), Counter(), Counter(), Counter())
    today = {row["message_id"] for row in seen.charges if row["day_on"] == seen.today}
    this_month = {row["message_id"] for row in seen.charges if row["month_on"] == seen.today.replace(day=1)}
    for message_id, want in seen.gone.items():
        spent.by_person[want.person.contact_id, want.purpose] += 1
        spent.by_sender[want.sender_id] += 1
        for payer in {None, want.campaign.id if want.campaign else None}:
            spent.today[payer] += _cost(case, seen, message_id) * (message_id in today)
            spent.month[payer] += _cost(case, seen, message_id) * (message_id in this_month)
    return spent


def _cost(case: Case, seen: Seen, message_id: UUID) -> int:
    """What a message costs that has gone, by the text as it was taken."""
    return case.cost_of(case.wants[message_id], seen.texts.get(message_id)) or 0


def _forbidden(case: Case, seen: Seen) -> Iterable[str]:
    """Messages that went to whom, or when, they might not."""
    for each in seen.taken:
        want = case.wants[each.message_id]
        if each.address != want.address:
            yield f"I5: {each.message_id} for {want.address} went to {each.address}"
        if want.person.is_quiet:
            yield f"I5: {each.address} was written to in quiet hours"
        key = (want.channel, want.purpose)
        if key in want.person.withdrawn:
            yield f"I5: {each.address} had withdrawn consent for {want.purpose} from the beginning"
        if want.message_class == "bulk" and key not in want.person.granted:
            yield f"I5: {each.address} never gave consent for {want.purpose}"
        said = (case.stopped.get(each.address), case.withdrawn.get((want.person.contact_id, *key)))
        for what, said_ns in zip(("a stop", "a withdrawal"), said, strict=True):
            if said_ns is not None and _is_late(said_ns, each.boot_ns):
                yield f"I5: {each.address} was written to {(each.boot_ns - said_ns) / _NS:.1f} s after {what}"
        if want.channel == "sms" and case.countries is not None and want.person.country not in case.countries:
            yield f"I5: {each.address} is in {want.person.country}, which is not allowed"
        if case.highest is not None and _cost(case, seen, each.message_id) > case.highest:
            yield f"I5: {each.message_id} cost {_cost(case, seen, each.message_id)}, more than {case.highest}"


def _is_late(said_ns: int, taken_ns: int) -> bool:
    within_ns = STOPPED_WITHIN_S * _NS
    if taken_ns <= said_ns + within_ns:
        return False
    return taken_ns > said_ns + within_ns + stood_still_s(said_ns, taken_ns) * _NS


def _too_much(case: Case, seen: Seen) -> Iterable[str]:
    """Caps, limits of sources and ranges, and budgets that were exceeded, by what servers took alone."""
    got: Counter[tuple[UUID, str]] = Counter()
    cost: Counter[UUID | None] = Counter()
    for message_id in {each.message_id for each in seen.taken}:
        want = case.wants[message_id]
        got[want.person.contact_id, want.purpose] += 1
        for payer in {None, want.campaign.id if want.campaign else None}:
            cost[payer] += _cost(case, seen, message_id)
    yield from (
        f"I5: {each.address} got a text too many for its source, or for its range: {case.asked_before(each.message_id)}"
        for each in seen.taken
        if case.is_asked_too_often(each.message_id)
    )
    yield from (
        f"I5: {person} got {count} of {case.cap} for {purpose}"
        for (person, purpose), count in got.items()
        if case.is_capped(purpose) and count > case.cap
    )
    for payer, budget in case.budgets().items():
        for name, limit, times in (("day", budget.daily, seen.days), ("month", budget.monthly, seen.months)):
            if limit is not None and cost[payer] > limit * times:
                yield f"I5: {cost[payer]} of {limit} in {times} {name}s by {payer or 'the tenant'}"


def _misspent(case: Case, seen: Seen) -> Iterable[str]:
    """Charges that are not just what has gone, each message once, at its price, by its payer and within its budget."""
    charged = Counter(row["message_id"] for row in seen.charges)
    for message_id in charged.keys() | seen.gone.keys():
        paid = sum(row["micros"] for row in seen.charges if row["message_id"] == message_id)
        owed = _cost(case, seen, message_id) if message_id in seen.gone else 0
        if paid != owed or charged[message_id] > 1:
            state = seen.states.get(message_id)
            yield f"I8: {message_id} is {state} and was charged {paid} for {owed}, {charged[message_id]} times"
    for payer, budget in case.budgets().items():
        rows = [row for row in seen.charges if payer in {None, row["campaign_id"]}]
        for column, limit in (("day_on", budget.daily), ("month_on", budget.monthly)):
            sums: Counter[date] = Counter()
            for row in rows:
                sums[row[column]] += row["micros"]
            yield from (
                f"I5: {micros} of {limit} were charged on {on} to {payer or 'the tenant'}"
                for on, micros in sums.items()
                if limit is not None and micros > limit
            )


async def _accounts_wrong(drill: Drill, case: Case, seen: Seen) -> list[str]:
    """Accounts that say something else than their charges: of the day and of the month they stand at."""
    rows = await drill.rows("SELECT * FROM budget_accounts WHERE tenant_id = $1", case.tenant_id)
    accounts = {None if row["scope"] == "tenant" else row["scope_id"]: row for row in rows}
    found = []
    for payer in {None, *(row["campaign_id"] for row in seen.charges)}:
        charges = [row for row in seen.charges if payer in {None, row["campaign_id"]}]
        for period in ("day", "month"):
            account = accounts.get(payer)
            on, said = (None, 0) if account is None else (account[f"{period}_on"], account[f"{period}_spent_micros"])
            paid = sum(row["micros"] for row in charges if row[f"{period}_on"] == on)
            latest = max((row[f"{period}_on"] for row in charges), default=on)
            if said != paid or (on is not None and latest is not None and latest > on):
                found.append(f"I8: the {period} {on} of {payer or 'the tenant'} says {said}, its charges {paid}")
    return found


def _left_behind(case: Case, seen: Seen, spent: Spent) -> Iterable[str]:
    """Messages that may go and have not gone, or have ended for a reason that passes."""
    for campaign in case.campaigns:
        named = {want.person.contact_id for want in case.wants.values() if want.campaign is campaign}
        missing = {person.contact_id for person in campaign.members} - named
        if missing:
            yield f"I2: {len(missing)} of {len(campaign.members)} people of a campaign have no message"
    for message_id in case.wants.keys() - seen.gone.keys():
        want, state = case.wants[message_id], seen.states.get(message_id, "nowhere")
        finally_not = list(case.never(message_id))
        if finally_not:
            continue
        why = list(case.later(want, spent, seen.today))
        if not why or state not in _OPEN:
            yield f"I2: {want.channel} {message_id} to {want.address} is {state} and left behind: {why or 'it may go'}"


async def _out_of_pace(drill: Drill, case: Case, seen: Seen) -> list[str]:
    """Rates and allowances that were exceeded, by the servers' ledgers; a warm-up that counted something else."""
    (row,) = await drill.rows(
        "SELECT s.connection_id AS account, array_agg(o.id) AS senders FROM senders s"
        " JOIN senders o ON o.tenant_id = s.tenant_id AND o.connection_id = s.connection_id WHERE s.id = $1 GROUP BY 1",
        case.senders[0].id,
    )
    wants = [(each, case.wants[each.message_id]) for each in seen.taken]
    found = []
    for what, rate, times in (
        (SLOW_DOMAIN, case.domain, [each.boot_ns for each, _ in wants if each.address.endswith(SLOW_DOMAIN)]),
        ("the account", case.account, [each.boot_ns for each, want in wants if want.sender_id in row["senders"]]),
        (SLOW_COUNTRY, case.country,
         [each.boot_ns for each, want in wants if (want.channel, want.person.country) == ("sms", SLOW_COUNTRY)]),
    ):  # fmt: skip
        for count, at_ns in enumerate(sorted(times), 1):  # tokens are taken before: whenever one looks, it must hold
            took_s = (at_ns - case.begun_ns) / _NS
            if count > rate.most(took_s):
                found.append(f"I5: {what} got {count} in {took_s:.1f} s by {rate}")
                break
    warm = case.senders[1].id
    (plan,) = await drill.rows("SELECT day_on, day_sent FROM warm_ups WHERE sender_id = $1", warm)
    is_next_day = plan["day_on"] != case.day_on
    warmed = sum(want.sender_id == warm for _, want in wants)
    if warmed > sum(case.warm_up[: 1 + is_next_day]):
        found.append(f"I5: {warmed} of {case.warm_up} went in the warm-up")
    gone = sum(want.sender_id == warm for want in seen.gone.values())
    if not is_next_day and plan["day_sent"] != gone:
        found.append(f"I8: the warm-up counted {plan['day_sent']}, {gone} have gone")
    return found
