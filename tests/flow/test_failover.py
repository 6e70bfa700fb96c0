"""Fail-over with whole workers: who takes over, who comes back and how slowly, and that nothing goes twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.base.fields import Field
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Uncertain
from outrider.contracts.provider import Outgoing, Watch
from outrider.data.db import Role
from outrider.domain.limits import buckets
from outrider.domain.messages import causes, search
from outrider.domain.senders import circuits, connections, fallbacks
from outrider.domain.senders.circuits import Limits
from outrider.domain.senders.connections import Vault
from tests.kit.api import TESTER
from tests.kit.dispatch import Desk, GlassProvider, Post, posts, until

LIMITS = Limits(failures=2, open_s=0.3, most_open_s=1.0, close_after=10)
AWAY = Deferred("connection_failed", "refused")


class Pair:
    """A desk whose sender has a spare connection at another provider."""

    def __init__(self, post: Post, desk: Desk, spare: GlassProvider, spare_id: UUID) -> None:
        self.post = post
        self.desk = desk
        self.own = post.provider
        self.spare = spare
        self.spare_id = spare_id
        self.vault = Vault(post.runtime.providers, post.runtime.keyring, post.runtime.egress)

    async def circuit(self) -> str | None:
        async with self.post.runtime.db.uow(Role.APP, self.desk.tenant_id) as uow:
            found = await circuits.of_connection(uow, self.desk.connection_id)
        return None if found is None else found.state

    async def look_again(self) -> None:
        """Nothing that a worker remembers for seconds keeps it from seeing how the circuit is now."""
        await self.post.execute("UPDATE circuits SET try_at = now() WHERE state = 'open'")


@pytest.fixture
async def pair(new_database: Callable[..., str], tmp_path: Path) -> AsyncIterator[Pair]:
    async with posts(
        new_database("migrated"), tmp_path, circuit_failures=2, circuit_open_s=0.3, circuit_close_after=10
    ) as post:
        spare = GlassProvider(key="spare")
        runtime = replace(post.runtime, providers={"glass": post.provider, "spare": spare})
        post.runtime = runtime
        desk = await post.desk()
        spare_id: UUID = await post.value(
            "INSERT INTO connections (tenant_id, name, provider) VALUES ($1, 'spare', 'spare') RETURNING id",
            desk.tenant_id,
        )
        made = Pair(post, desk, spare, spare_id)
        async with runtime.db.uow(Role.APP, desk.tenant_id) as uow:
            await fallbacks.choose(uow, made.vault, TESTER, desk.sender_id, [spare_id])
        yield made


async def test_the_spare_takes_over_at_once_and_nothing_counts_as_tried(pair: Pair) -> None:
    pair.own.answer = lambda _message: AWAY
    ids = await pair.desk.admit(30)
    async with pair.post.working():
        await pair.desk.until(ids, "sent")
    assert not pair.own.taken
    assert sorted(message.id for message in pair.spare.taken) == sorted(ids)
    for each in ids[:3]:
        assert (await pair.desk.message(each))["attempts"] == 1
        assert await pair.desk.events(each) == ["sent"]


async def test_a_circuit_that_is_open_is_left_alone_by_every_worker(pair: Pair) -> None:
    async with pair.post.engine.transaction() as raw:
        for _ in range(LIMITS.failures):
            state = await circuits.failed(
                raw, pair.desk.tenant_id, pair.desk.connection_id, "connection_failed", replace(LIMITS, open_s=600.0)
            )
    assert state == "open"
    ids = await pair.desk.admit(50)
    async with pair.post.working(), pair.post.working():
        await pair.desk.until(ids, "sent")
    assert not pair.own.batches, "nobody knocked"
    assert len({message.id for message in pair.spare.taken}) == len(pair.spare.taken) == 50


async def test_no_more_is_claimed_than_the_rate_of_the_connection_that_takes_over_lets_go(pair: Pair) -> None:
    async with pair.post.engine.transaction() as raw:
        for _ in range(LIMITS.failures):
            await circuits.failed(
                raw, pair.desk.tenant_id, pair.desk.connection_id, "connection_failed", replace(LIMITS, open_s=600.0)
            )
    async with pair.post.runtime.db.uow(Role.ENGINE, pair.desk.tenant_id) as uow:
        await buckets.set_rate(uow, TESTER, "connection", pair.spare_id, 2.0)
    ids = await pair.desk.admit(6000)

    async def some_went() -> bool:
        return len(pair.spare.taken) >= 8

    async with pair.post.working():
        await until(some_went)
    held = await pair.post.value("SELECT count(*) FROM message_events WHERE kind = 'held'")
    assert 0 < held < len(ids) / 2, "what is claimed to be held costs an event each time, and nobody is nearer to going"


async def test_what_another_connection_took_over_is_never_repeated_as_the_request_it_was_part_of(pair: Pair) -> None:
    kept: list[int] = []

    async def refused(_provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        assert await watch.keep_key(f"batch-{len(kept)}", batch) is None
        kept.append(await pair.post.value("SELECT count(*) FROM keyed_requests"))
        for message in batch:
            assert watch.begin(message) is None
            watch.settle(message, AWAY)

    pair.own.send = refused
    pair.spare.answer = lambda _message: Uncertain("answer_lost", "cut")
    ids = await pair.desk.admit(5, message_class="bulk", purpose="marketing")
    await pair.post.execute("UPDATE tenants SET settings = '{\"consent_required\": false}'")
    async with pair.post.working():
        await pair.desk.until(ids, "uncertain")
    assert sum(kept) == sum(pair.spare.batches) == 5
    assert await pair.post.value("SELECT count(*) FROM keyed_requests") == 0, "the own one would deliver them again"


async def test_what_was_cut_short_under_a_key_is_never_tried_alone(pair: Pair) -> None:
    async def broken(_provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        assert await watch.keep_key("batch-1", batch) is None
        for message in batch:
            assert watch.begin(message) is None
        raise RuntimeError("a bug")

    pair.own.send = broken
    ids = await pair.desk.admit(3)
    async with pair.post.working():
        await pair.desk.until(ids, "uncertain")
    assert not pair.spare.taken
    assert await pair.post.value("SELECT count(*) FROM keyed_requests") == 3, "it can be repeated"


async def test_what_may_have_left_stays_where_it_is(pair: Pair) -> None:
    seen: list[Outgoing] = []

    def answer(message: Outgoing) -> Outcome:
        seen.append(message)
        return Uncertain("answer_lost", "cut") if len(seen) % 2 else AWAY

    pair.own.answer = answer
    ids = await pair.desk.admit(20, message_class="bulk", purpose="marketing")
    await pair.post.execute("UPDATE tenants SET settings = '{\"consent_required\": false}'")
    async with pair.post.working():
        await pair.desk.until(ids, "sent", "uncertain")
    unclear = {each for each, state in zip(ids, await pair.desk.states(ids), strict=True) if state == "uncertain"}
    assert len(unclear) == 10
    assert unclear.isdisjoint(message.id for message in pair.spare.taken), "nothing that may have arrived goes again"
    assert len(pair.spare.taken) == 10


async def test_one_message_tries_it_then_a_few_then_all(pair: Pair) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id
    async with pair.post.engine.transaction() as raw:
        for _ in range(LIMITS.failures):
            await circuits.failed(raw, tenant_id, connection_id, "connection_failed", LIMITS)
    await pair.look_again()
    taken: list[int] = []
    for _ in range(8):
        ids = await pair.desk.admit(8)
        before = len(pair.own.taken)
        async with pair.post.working():  # a worker of its own each time: it looks at the circuit anew
            await pair.desk.until(ids, "sent")
            await until(lambda: _is_told(pair, len(pair.own.taken)))
        taken.append(len(pair.own.taken) - before)
        if await pair.circuit() is None:
            break
    assert taken[0] == 1, "one tries it"
    assert taken[:3] == sorted(taken[:3]), "then a few more from look to look"
    assert await pair.circuit() is None, "then it is trusted again"
    assert len(pair.own.taken) >= LIMITS.close_after
    everything = [*pair.own.taken, *pair.spare.taken]
    assert len({message.id for message in everything}) == len(everything)


async def _is_told(pair: Pair, count: int) -> bool:
    """Whether the circuit knows of everything that went, or is closed."""
    async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
        found = await circuits.of_connection(uow, pair.desk.connection_id)
    return found is None or found.passed >= count


async def test_one_that_fails_its_try_is_left_alone_twice_as_long(pair: Pair) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id

    async def waits_s() -> float:
        return float(await pair.post.value("SELECT extract(epoch FROM try_at - failed_at) FROM circuits"))

    async with pair.post.engine.transaction() as raw:
        assert await circuits.failed(raw, tenant_id, connection_id, "tls_failed", LIMITS) == "closed"
        assert await circuits.failed(raw, tenant_id, connection_id, "tls_failed", LIMITS) == "open"
    waits = [await waits_s()]
    for _ in range(3):
        await pair.look_again()
        async with pair.post.engine.transaction() as raw:
            assert await circuits.take_try(raw, tenant_id, connection_id)
            assert not await circuits.take_try(raw, tenant_id, connection_id), "one tries at a time"
            assert await circuits.failed(raw, tenant_id, connection_id, "tls_failed", LIMITS) == "open"
        waits.append(await waits_s())
    assert waits == pytest.approx([0.3, 0.6, 1.0, 1.0])


async def test_a_try_that_ends_in_doubt_counts_as_failed_so_that_not_one_message_after_the_other_is_put_in_doubt(
    pair: Pair,
) -> None:
    async with pair.post.engine.transaction() as raw:
        for _ in range(LIMITS.failures):
            await circuits.failed(raw, pair.desk.tenant_id, pair.desk.connection_id, "provider_down", LIMITS)
    await pair.look_again()
    pair.own.answer = lambda _message: Uncertain("answer_lost", "HTTP 500")
    await pair.post.execute("UPDATE tenants SET settings = '{\"consent_required\": false}'")
    ids = await pair.desk.admit(5, message_class="bulk", purpose="marketing")

    async def is_left_alone_longer() -> bool:
        return bool(await pair.post.value("SELECT openings = 2 FROM circuits"))

    async with pair.post.working():
        await pair.desk.until(ids, "sent", "uncertain")
        await until(is_left_alone_longer)
    assert (await pair.desk.states(ids)).count("uncertain") == 1
    assert len(pair.spare.taken) == 4


async def test_texts_that_come_one_by_one_are_not_put_in_doubt_one_after_the_other_as_long_as_a_provider_fails(
    pair: Pair,
) -> None:
    pair.own.answer = lambda _message: Uncertain("answer_lost", "HTTP 500")
    await pair.post.execute("UPDATE tenants SET settings = '{\"consent_required\": false}'")
    ids: list[UUID] = []
    async with pair.post.working():
        for count in range(1, 3 * LIMITS.failures):
            ids += await pair.desk.admit(1, message_class="bulk", purpose="marketing")
            await pair.desk.until(ids, "sent", "uncertain")
            await until(partial(_is_counted, pair, min(count, LIMITS.failures)))
            await pair.post.execute("UPDATE circuits SET try_at = now() + interval '1 hour' WHERE state = 'open'")
    assert (await pair.desk.states(ids)).count("uncertain") == LIMITS.failures
    assert len(pair.spare.taken) == len(ids) - LIMITS.failures


async def test_an_answer_between_two_doubts_takes_them_back(pair: Pair) -> None:
    doubt = Uncertain("answer_lost", "cut")
    await pair.post.execute("UPDATE tenants SET settings = '{\"consent_required\": false}'")
    ids: list[UUID] = []
    async with pair.post.working():
        for outcome in (doubt, Accepted("1")) * (2 * LIMITS.failures):
            pair.own.answer = partial(_always, outcome)
            ids += await pair.desk.admit(1, message_class="bulk", purpose="marketing")
            await pair.desk.until(ids, "sent", "uncertain")
            await until(partial(_is_counted, pair, 1) if outcome is doubt else partial(_is_forgotten, pair))
    assert not pair.spare.taken


def _always(outcome: Outcome, _message: Outgoing) -> Outcome:
    return outcome


async def _is_forgotten(pair: Pair) -> bool:
    return await pair.circuit() is None


async def _is_counted(pair: Pair, failures: int) -> bool:
    """Whether the circuit knows of so many failures."""
    return bool(await pair.post.value("SELECT coalesce(max(failures), 0) >= $1 FROM circuits", failures))


async def test_what_was_under_way_when_it_opened_is_not_held_against_the_try_and_while_it_is_open_nothing_counts(
    pair: Pair,
) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id

    async def told(cause: str, *, wish_s: float | None = None, age_s: float = 0.0) -> tuple[str, int, int, str]:
        async with pair.post.engine.transaction() as raw:
            await circuits.failed(raw, tenant_id, connection_id, cause, LIMITS, wish_s=wish_s, age_s=age_s)
            row = await raw.fetchrow("SELECT state, failures, openings, cause FROM circuits")
            assert row is not None
            return tuple(row)

    await told("tls_failed")
    assert await told("tls_failed") == ("open", 2, 1, "tls_failed")
    assert await told("connection_failed") == ("open", 2, 1, "tls_failed"), "open: it changes nothing"
    await pair.look_again()
    async with pair.post.engine.transaction() as raw:
        assert await circuits.take_try(raw, tenant_id, connection_id)
    assert await told("connection_failed", age_s=60.0) == ("half_open", 2, 1, "tls_failed"), "begun long before"
    assert await told("rate_limited", age_s=60.0, wish_s=5.0) == ("open", 3, 2, "rate_limited"), "its word holds now"
    await pair.look_again()
    async with pair.post.engine.transaction() as raw:
        assert await circuits.take_try(raw, tenant_id, connection_id)
    assert await told("connection_failed") == ("open", 4, 3, "connection_failed"), "this was the try"


async def test_a_try_that_nobody_finished_is_made_by_another(pair: Pair) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id
    async with pair.post.engine.transaction() as raw:
        for _ in range(LIMITS.failures):
            await circuits.failed(raw, tenant_id, connection_id, "connection_failed", LIMITS)
    await pair.look_again()
    async with pair.post.engine.transaction() as raw:
        assert await circuits.take_try(raw, tenant_id, connection_id)
    await pair.post.execute("UPDATE circuits SET try_at = now() - interval '1 second'")
    async with pair.post.engine.transaction() as raw:
        assert await circuits.take_try(raw, tenant_id, connection_id)
        await circuits.passed(raw, tenant_id, connection_id, 1, LIMITS)
    async with pair.post.engine.transaction() as raw:
        assert not await circuits.take_try(raw, tenant_id, connection_id), "it goes: nobody has to try"


async def test_without_a_spare_its_own_is_used_and_failures_are_forgiven(pair: Pair) -> None:
    async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
        await fallbacks.choose(uow, pair.vault, TESTER, pair.desk.sender_id, [])
    answers: list[Outcome] = [AWAY]
    pair.own.answer = lambda _message: answers.pop() if answers else Accepted()
    ids = await pair.desk.admit(1)
    async with pair.post.working():
        await pair.desk.until(ids, "sent")

        async def is_forgiven() -> bool:
            return await pair.circuit() is None

        await until(is_forgiven)
    assert [message.id for message in pair.own.taken] == ids


async def test_an_operator_may_take_it_for_reachable(pair: Pair) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id
    async with pair.post.runtime.db.uow(Role.APP, tenant_id) as uow:
        with pytest.raises(Refused) as refused:
            await circuits.reset(uow, TESTER, connection_id, reason="mended")
        assert refused.value.code == "circuit_closed"
    async with pair.post.engine.transaction() as raw:
        for _ in range(LIMITS.failures):
            await circuits.failed(raw, tenant_id, connection_id, "connection_failed", LIMITS)
        (known,) = await circuits.open_ones(raw)
    assert (known.name, known.state, known.cause) == ("c", "open", "connection_failed")
    async with pair.post.runtime.db.uow(Role.APP, tenant_id) as uow:
        await circuits.reset(uow, TESTER, connection_id, reason="mended")
    assert await pair.circuit() is None
    (entry,) = await pair.post.fetch("SELECT reason FROM audit_log WHERE action = 'connection.circuit_reset'")
    assert entry["reason"] == "mended"


REFUSED = Deferred("authentication_failed", "HTTP 401")


async def _alone(pair: Pair) -> None:
    """Take the spare away."""
    async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
        await fallbacks.choose(uow, pair.vault, TESTER, pair.desk.sender_id, [])


async def _why(pair: Pair, message_id: UUID) -> search.Explained:
    async with pair.post.runtime.db.uow(Role.ENGINE, pair.desk.tenant_id) as uow:
        row, _events = await search.get(uow.raw, pair.desk.tenant_id, message_id)
        return (await search.explained(uow.raw, pair.desk.tenant_id, [row]))[message_id]


async def _says_why(pair: Pair, message_id: UUID) -> bool:
    why = await _why(pair, message_id)
    is_named = str(why.waiting_for).startswith("connection c: authentication_failed, tried again at ")
    return is_named and why.cause == causes.view("authentication_failed", "queued")


async def test_a_refused_account_without_a_spare_holds_its_queue_says_why_and_uses_up_no_attempt(pair: Pair) -> None:
    await _alone(pair)
    asked: list[UUID] = []

    def answer(message: Outgoing) -> Outcome:
        asked.append(message.id)
        return REFUSED

    pair.own.answer = answer
    ids = await pair.desk.admit(40)
    async with pair.post.working(), pair.post.working():

        async def is_open() -> bool:
            return await pair.circuit() == "open"

        await until(is_open)

        async def is_held() -> bool:
            return set(await pair.desk.states(ids)) == {"queued"}

        await until(is_held)
        assert len(asked) <= 2, "one of each worker, before it heard of the other"
        for each in (asked[0], ids[-1]):
            await until(partial(_says_why, pair, each))
        assert (await pair.desk.events(asked[0])) == ["held"] * asked.count(asked[0])

        async def is_untried() -> bool:
            # a worker that has not heard yet may hold it for a moment, which counts until it hands it back
            return bool((await pair.desk.message(asked[0]))["attempts"] == 0)

        await until(is_untried)
        pair.own.answer = lambda _message: Accepted()
        async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
            await circuits.reset(uow, TESTER, pair.desk.connection_id, reason="mended")
        await pair.desk.until(ids, "sent")
    assert await _why(pair, ids[0]) == search.Explained(None, None)
    assert len(pair.own.taken) == 40


async def test_other_settings_of_a_connection_are_tried_at_once_and_the_old_ones_failures_are_not_held_against_it(
    pair: Pair,
) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id
    async with pair.post.engine.transaction() as raw:
        assert (
            await circuits.failed(raw, tenant_id, connection_id, "authentication_failed", LIMITS, version=1) == "open"
        )
    async with pair.post.runtime.db.uow(Role.APP, tenant_id) as uow:
        await connections.update(uow, pair.vault, TESTER, connection_id, name="c2")
    assert await pair.circuit() == "open", "another name mends nothing"
    async with pair.post.runtime.db.uow(Role.APP, tenant_id) as uow:
        pair.own.fields = (Field("note", "what is new"),)
        await connections.update(uow, pair.vault, TESTER, connection_id, settings={"note": "new"})
    assert await pair.circuit() is None
    version = await pair.post.value("SELECT version FROM connections WHERE id = $1", connection_id)
    async with pair.post.engine.transaction() as raw:
        old = await circuits.failed(raw, tenant_id, connection_id, "authentication_failed", LIMITS, version=1)
        assert old == "closed"
    assert await pair.circuit() is None
    async with pair.post.engine.transaction() as raw:
        now = await circuits.failed(raw, tenant_id, connection_id, "authentication_failed", LIMITS, version=version)
    assert now == "open"


@pytest.mark.parametrize(
    ("cause", "wish_s", "waits_s"),
    [
        ("authentication_failed", None, 60.0),
        ("account_suspended", None, 60.0),
        ("daily_quota", None, 900.0),
        ("rate_limited", 7.0, 7.0),
        ("rate_limited", None, 0.3),
    ],
)
async def test_what_concerns_the_account_opens_its_circuit_at_the_first_refusal(
    pair: Pair, cause: str, wish_s: float | None, waits_s: float
) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id
    async with pair.post.engine.transaction() as raw:
        assert await circuits.failed(raw, tenant_id, connection_id, cause, LIMITS, wish_s=wish_s) == "open"
    rest_s = await pair.post.value("SELECT extract(epoch FROM try_at - failed_at)::float8 FROM circuits")
    assert rest_s == pytest.approx(waits_s)


async def test_a_provider_is_left_alone_as_long_as_the_latest_of_its_wishes(pair: Pair) -> None:
    tenant_id, connection_id = pair.desk.tenant_id, pair.desk.connection_id
    for wish_s in (5.0, 60.0, 2.0):
        async with pair.post.engine.transaction() as raw:
            await circuits.failed(raw, tenant_id, connection_id, "rate_limited", LIMITS, wish_s=wish_s)
    rest_s = await pair.post.value("SELECT extract(epoch FROM try_at - opened_at)::float8 FROM circuits")
    assert 60.0 <= rest_s < 70.0


async def test_what_was_not_tried_when_the_account_was_refused_uses_up_no_attempt(pair: Pair) -> None:
    """A provider bars the rest of a batch from memory: one was tried and counts, the others were not."""
    await _alone(pair)

    async def send(provider: GlassProvider, batch: Sequence[Outgoing], watch: Watch) -> None:
        slow_down = Deferred("rate_limited", "429", 600.0)
        assert watch.begin(batch[0]) is None
        for message in batch:
            watch.settle(message, slow_down)
        provider.taken.append(batch[0])

    pair.own.send = send
    ids = await pair.desk.admit(20)
    async with pair.post.working():

        async def is_open() -> bool:
            return await pair.circuit() == "open"

        await until(is_open)

        async def is_back() -> bool:
            return sorted(set(await pair.desk.states(ids))) == ["queued", "scheduled"]

        await until(is_back)
    assert [message.id for message in pair.own.taken] == ids[:1]
    assert (await pair.desk.message(ids[0]))["attempts"] == 1
    assert {(await pair.desk.message(each))["attempts"] for each in ids[1:]} == {0}


async def test_what_cannot_take_over_is_refused_by_its_place(pair: Pair) -> None:
    async def refused(*wanted: UUID) -> tuple[str, str | None]:
        async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
            with pytest.raises(Refused) as error:
                await fallbacks.choose(uow, pair.vault, TESTER, pair.desk.sender_id, wanted)
        return error.value.code, error.value.field

    other = await pair.post.desk()
    assert await refused(pair.spare_id, other.connection_id) == ("not_found", "/fallback_ids/1")
    assert await refused(pair.desk.connection_id) == ("duplicate_connection", "/fallback_ids/0")
    assert await refused(pair.spare_id, pair.spare_id) == ("duplicate_connection", "/fallback_ids/1")
    assert (await refused(*[pair.spare_id] * 6))[0] == "too_many"
    async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
        assert (await fallbacks.get(uow, pair.desk.sender_id)).fallback_ids == [pair.spare_id], "nothing changed"
    with pytest.raises(Refused) as in_use:
        async with pair.post.runtime.db.uow(Role.APP, pair.desk.tenant_id) as uow:
            await connections.delete(uow, TESTER, pair.spare_id)
    assert in_use.value.code == "connection_in_use"


async def test_a_spare_that_became_its_own_is_not_asked_twice(pair: Pair) -> None:
    await pair.post.execute("UPDATE senders SET connection_id = $1", pair.spare_id)
    pair.spare.answer = lambda _message: AWAY
    ids = await pair.desk.admit(1)
    async with pair.post.working():
        await until(lambda: _has_failed(pair, ids[0]))
    assert pair.spare.batches[0] == 1
    assert (await pair.desk.message(ids[0]))["attempts"] == len(pair.spare.batches)


async def _has_failed(pair: Pair, message_id: UUID) -> bool:
    return "deferred" in await pair.desk.events(message_id)
