"""One account at a provider that several have entered: one circuit for all, which nobody else can open.

Source:  F53, F55: an account is asked once in a window, whoever uses it
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from outrider.contracts.actor import Actor
from outrider.contracts.outcome import OF_ACCOUNT
from outrider.data.db import Role
from outrider.domain.limits import shared_accounts
from outrider.domain.senders import circuits, connections
from outrider.domain.senders.connections import Vault
from outrider.plugins.providers.twilio import PROVIDER as TWILIO
from tests.kit.dispatch import Desk, Post, until
from tests.kit.named_accounts import claimed, entered, named_posts

ANN = Actor("user", "ann@example.org")
LIMITS = circuits.Limits(failures=3, open_s=1.0, most_open_s=8.0, close_after=4, refused_s=60.0)


@pytest.fixture
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with named_posts(new_database("migrated"), tmp_path_factory.mktemp("circuits")) as made:
        yield made


async def told(post: Post, desk: Desk, cause: str, **more: Any) -> circuits.State:
    async with post.engine.transaction() as raw:
        return await circuits.failed(raw, desk.tenant_id, desk.connection_id, cause, LIMITS, **more)


async def tried(post: Post, desk: Desk) -> bool:
    async with post.engine.transaction() as raw:
        return await circuits.take_try(raw, desk.tenant_id, desk.connection_id)


async def looked(post: Post, desk: Desk) -> bool:
    """As workers look: each statement is committed by itself."""
    async with post.engine.statements() as raw:
        return await circuits.take_try(raw, desk.tenant_id, desk.connection_id)


async def is_waited_for(raw: asyncpg.Connection) -> bool:
    """Whether somebody waits for the end of a transaction."""
    waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid)"
    return bool(await raw.fetchval(waits))


async def gone(post: Post, desk: Desk, count: int) -> None:
    async with post.engine.transaction() as raw:
        await circuits.passed(raw, desk.tenant_id, desk.connection_id, count, LIMITS)


async def states(post: Post, *desks: Desk) -> list[str | None]:
    """How their circuits are, and how many went since the try."""
    known = "SELECT (SELECT state || ' ' || passed FROM circuits WHERE connection_id = $1)"
    return [await post.value(known, desk.connection_id) for desk in desks]


async def due(post: Post) -> None:
    await post.execute("UPDATE circuits SET try_at = now() - interval '1 second'")


@pytest.mark.parametrize("cause", sorted(OF_ACCOUNT))
async def test_what_concerns_an_account_holds_for_all_who_have_entered_it_and_for_nobody_else(
    post: Post, cause: str
) -> None:
    ours, theirs, other = await entered(post, "ann"), await entered(post, "ann"), await entered(post, "b")
    assert await told(post, ours, cause) == "open"
    assert await states(post, ours, theirs, other) == ["open 0", "open 0", None]
    (waits,) = await post.fetch("SELECT count(DISTINCT (try_at, failed_at)) AS n, min(cause) AS cause FROM circuits")
    assert (waits["n"], waits["cause"]) == (1, cause)


async def test_what_concerns_the_way_alone_is_each_connections_own(post: Post) -> None:
    ours, theirs = await entered(post, "ann"), await entered(post, "ann")
    for _ in range(LIMITS.failures):
        await told(post, ours, "api_unreachable")
    assert await states(post, ours, theirs) == ["open 0", None]
    await due(post)
    assert await tried(post, ours)
    await gone(post, ours, 10)
    assert await states(post, ours, theirs) == [None, None]


async def test_one_message_tries_an_account_for_all_and_when_it_goes_all_may_send(post: Post) -> None:
    ours, theirs = await entered(post, "ann"), await entered(post, "ann")
    await told(post, theirs, "rate_limited")
    assert not await tried(post, ours), "it rests"
    await due(post)
    assert sorted(await asyncio.gather(*(tried(post, each) for each in (ours, theirs) * 3))) == [False] * 5 + [True]
    assert await states(post, ours, theirs) == ["half_open 0"] * 2
    await gone(post, ours, 1)
    assert await states(post, ours, theirs) == ["half_open 1"] * 2
    await gone(post, theirs, 2)
    assert await states(post, ours, theirs) == ["half_open 3"] * 2
    await gone(post, ours, 1)
    assert await states(post, ours, theirs) == [None, None], "it is trusted again by both"


async def test_whoever_takes_a_try_keeps_the_account_until_all_know_of_it(post: Post) -> None:
    ours, theirs = await entered(post, "ann"), await entered(post, "ann")
    await told(post, theirs, "rate_limited")
    await due(post)
    async with asyncio.TaskGroup() as group, post.engine.transaction() as raw:
        await raw.execute("SELECT FROM circuits WHERE connection_id = $1 FOR UPDATE", ours.connection_id)
        first = group.create_task(looked(post, ours))
        await until(partial(is_waited_for, raw))
        assert not await looked(post, theirs), "two messages would try it"
    assert first.result()
    assert await states(post, ours, theirs) == ["half_open 0"] * 2


async def test_many_who_have_entered_an_account_are_told_in_one_statement(post: Post) -> None:
    ours, *_ = [await entered(post, "ann") for _ in range(5)]
    asked: list[str] = []
    async with post.engine.transaction() as raw:
        with raw.query_logger(lambda record: asked.append(record.query)):
            await circuits.failed(raw, ours.tenant_id, ours.connection_id, "rate_limited", LIMITS)
            await asyncio.sleep(0)  # its listeners are told in the next turn of the loop
    assert await post.value("SELECT count(*) FROM circuits WHERE state = 'open'") == 5
    assert sum("pg_notify" in each for each in asked) == 1


async def test_a_try_that_fails_or_comes_to_nothing_is_everybodys_too(post: Post) -> None:
    ours, theirs = await entered(post, "ann"), await entered(post, "ann")
    await told(post, ours, "rate_limited")
    for each in (theirs, ours):
        await due(post)
        assert await tried(post, each)
        async with post.engine.transaction() as raw:
            await circuits.untried(raw, each.tenant_id, each.connection_id)
        assert await states(post, ours, theirs) == ["open 0"] * 2
        await due(post)
        assert await tried(post, each)
        assert await told(post, each, "rate_limited") == "open"
        assert await states(post, ours, theirs) == ["open 0"] * 2
    assert await post.value("SELECT min(openings) FROM circuits") == 3, "and each time for longer"
    await told(post, theirs, "rate_limited", wish_s=500.0)
    wait = "SELECT min(extract(epoch FROM try_at - now()))::float8 FROM circuits"
    assert await post.value(wait) > 400, "as long as it asked one of them for"


async def test_tenants_of_one_account_who_change_its_circuit_at_once_wait_for_each_other_and_not_for_ever(
    post: Post,
) -> None:
    desks = [await entered(post, "ann") for _ in range(4)]
    await told(post, desks[0], "rate_limited")

    async def change(desk: Desk) -> None:
        for _ in range(10):
            await post.execute("UPDATE circuits SET try_at = now() WHERE connection_id = $1", desk.connection_id)
            await tried(post, desk)
            await gone(post, desk, 1)
            await told(post, desk, "rate_limited")

    await asyncio.gather(*(change(desk) for desk in desks))
    await gone(post, desks[0], 0)
    await told(post, desks[0], "rate_limited")
    assert await states(post, *desks) == ["open 0"] * 4


async def test_who_knows_anothers_name_and_not_the_password_neither_stops_nor_slows_them(post: Post) -> None:
    """A Twilio SID stands in every callback and many a log."""
    ring = post.runtime.keyring
    named = {"account_sid": "AC" + "1" * 32, "base_url": "https://a"}
    desks = [await entered(post, user, 1.0, 10) for user in ("ours", "theirs", "impostor")]
    for desk, token in zip(desks, ("right", "right", "wrong"), strict=True):
        account = shared_accounts.digest(ring, TWILIO, named, {"auth_token": token})
        await post.execute("UPDATE connections SET account = $2 WHERE id = $1", desk.connection_id, account)
    ours, theirs, impostor = desks
    await told(post, impostor, "authentication_failed")
    assert await states(post, ours, theirs, impostor) == [None, None, "open 0"]
    await claimed(impostor)
    assert await claimed(ours) == 10, "its tokens are its own"
    await told(post, ours, "account_suspended")
    assert await states(post, ours, theirs) == ["open 0"] * 2


async def test_other_credentials_are_another_account_from_the_moment_they_are_given(post: Post) -> None:
    ours, theirs = await entered(post, "ann"), await entered(post, "ann")
    vault = Vault(post.runtime.providers, post.runtime.keyring, post.runtime.egress)
    async with post.runtime.db.uow(Role.APP, ours.tenant_id) as uow:
        await connections.update(uow, vault, ANN, ours.connection_id, name="renamed")
    await told(post, theirs, "authentication_failed")
    assert await states(post, ours, theirs) == ["open 0"] * 2, "a name is no password"
    async with post.runtime.db.uow(Role.APP, ours.tenant_id) as uow:
        await connections.update(uow, vault, ANN, ours.connection_id, settings={"username": "bob"})
    assert await states(post, ours, theirs) == [None, "open 0"]
    await due(post)
    assert await tried(post, theirs)
    await told(post, theirs, "authentication_failed")
    assert await states(post, ours) == [None], "nothing of the old one is held against it"


async def test_what_spreads_while_other_credentials_are_given_is_not_held_against_these(post: Post) -> None:
    ours, theirs, third = [await entered(post, "ann") for _ in range(3)]
    vault = Vault(post.runtime.providers, post.runtime.keyring, post.runtime.egress)
    async with post.runtime.db.uow(Role.APP, ours.tenant_id) as uow:
        await connections.update(uow, vault, ANN, ours.connection_id, settings={"username": "bob"})
        spreading = asyncio.create_task(told(post, theirs, "authentication_failed"))
        await until(partial(is_waited_for, uow.raw))
    assert await spreading == "open"
    assert await states(post, ours, theirs, third) == [None, "open 0", "open 0"]
