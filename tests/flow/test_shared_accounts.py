"""One account at a provider that several have entered: one pace for all, which nobody sees and nobody can spoil."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from outrider.base.ids import NIL
from outrider.base.secret import Keyring, new_key
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.domain.limits import buckets, shared_accounts
from outrider.domain.senders import accounts
from outrider.engine.dispatch.senders import Senders
from outrider.engine.maintenance.upkeep import Upkeep
from outrider.plugins.providers.resend import PROVIDER as RESEND
from outrider.plugins.providers.smtp import PROVIDER as SMTP
from outrider.plugins.providers.twilio import PROVIDER as TWILIO
from tests.kit.dispatch import Post
from tests.kit.named_accounts import claimed, entered, named_posts

ANN = Actor("user", "ann@example.org")
ENDLESS = 0.001
"""A rate that gives next to nothing back while a test runs."""


@pytest.fixture
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with named_posts(new_database("migrated"), tmp_path_factory.mktemp("accounts")) as made:
        yield made


async def test_tenants_that_have_entered_the_same_account_share_one_bucket_to_the_message(post: Post) -> None:
    desks = [await entered(post, "ann", ENDLESS) for _ in range(3)]
    other = await entered(post, "bob", ENDLESS)
    counts = await asyncio.gather(*(claimed(desk, 4) for desk in desks for _ in range(2)))
    assert sum(counts) == 10
    assert await claimed(other) == 10, "another account"


async def test_all_together_go_as_fast_as_the_fastest_and_a_tiny_rate_slows_nobody_else_down(post: Post) -> None:
    slow, fast = await entered(post, "ann", ENDLESS, 2), await entered(post, "ann", ENDLESS * 2, 10)
    assert await claimed(slow) == 2
    assert await claimed(fast) == 8, "what went by the slow one counts"
    assert await claimed(slow) == 0


async def test_what_the_account_keeps_back_costs_the_connection_nothing_and_what_is_not_used_goes_back(
    post: Post,
) -> None:
    first, second = await entered(post, "ann", ENDLESS), await entered(post, "ann", ENDLESS)
    async with post.engine.uow(Role.ENGINE, first.tenant_id) as uow:
        await buckets.set_rate(uow, ANN, "tenant", first.tenant_id, ENDLESS, 3)
    assert await claimed(first) == 3, "the tenant may no more"
    assert await claimed(second) == 7, "what it did not use is there for the others"
    left = "SELECT floor(tokens)::int FROM buckets WHERE scope = 'connection' AND tenant_id = $1"
    assert await post.value(left, second.tenant_id) == 3


async def test_no_tenant_sees_the_rows_and_they_say_nobodys_name(post: Post) -> None:
    desk = await entered(post, "ann", ENDLESS)
    await claimed(desk)
    await shared_accounts.turn(post.runtime.db, "a", 1.0)
    async with post.runtime.db.uow(Role.APP, desk.tenant_id) as uow:
        for table in ("account_buckets", "account_turns"):
            assert await uow.raw.fetchval(f"SELECT count(*) FROM {table}") == 0
    (row,) = await post.fetch("SELECT tenant_id, account FROM account_buckets")
    assert (row["tenant_id"], len(row["account"])) == (NIL, 64)


async def test_other_settings_are_another_account(post: Post) -> None:
    desk = await entered(post, "ann", ENDLESS)
    before = await post.value("SELECT account FROM connections WHERE id = $1", desk.connection_id)
    await post.execute(
        'UPDATE connections SET settings = settings || \'{"username": "bob"}\', version = version + 1 WHERE id = $1',
        desk.connection_id,
    )
    async with post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        await Senders(post.runtime).use(uow.raw, await desk.lane())
    assert await post.value("SELECT account FROM connections WHERE id = $1", desk.connection_id) != before


async def test_turns_are_one_after_another_for_all_workers_and_a_rest_holds_for_all(post: Post) -> None:
    waits = await asyncio.gather(*(shared_accounts.turn(post.runtime.db, "ann", 0.01) for _ in range(5)))
    assert sorted(round(each, -2) for each in waits) == [0, 100, 200, 300, 400]
    rested = await shared_accounts.turn(post.runtime.db, "bob", 0.01, 1000.0)
    assert [round(each, -2) for each in (rested, await shared_accounts.turn(post.runtime.db, "bob", 0.01))] == [
        1000,
        1100,
    ]


async def test_upkeep_drops_what_nobody_used_for_days(post: Post) -> None:
    await claimed(await entered(post, "ann", 1.0, 1))
    await shared_accounts.turn(post.runtime.db, "ann", 1.0)
    await post.execute("UPDATE account_buckets SET at_s = at_s - 3 * 86400")
    await post.execute("UPDATE account_turns SET next_s = next_s - 3 * 86400")
    await Upkeep(post.runtime).retention()
    assert await post.value("SELECT (SELECT count(*) FROM account_buckets) + (SELECT count(*) FROM account_turns)") == 0


async def test_a_burst_holds_as_it_is_now_and_a_fast_connection_with_a_tiny_one_slows_nobody_down(post: Post) -> None:
    ours = await entered(post, "ann", ENDLESS, 1)
    await entered(post, "ann", ENDLESS * 1000, 1)
    assert await claimed(ours) == 1
    async with post.engine.uow(Role.ENGINE, ours.tenant_id) as uow:
        await buckets.set_rate(uow, ANN, "connection", ours.connection_id, ENDLESS, 8)
    await post.execute("UPDATE buckets SET tokens = cap WHERE tenant_id = $1", ours.tenant_id)
    assert await claimed(ours) == 8


async def test_which_account_it_is_is_written_again_when_what_it_was_written_with_came_to_nothing(post: Post) -> None:
    desk, senders = await post.desk(), Senders(post.runtime)
    await post.execute('UPDATE connections SET settings = \'{"host": "mail", "username": "ann"}\'')
    lane = await desk.lane()
    with suppress(LookupError):
        async with post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
            await senders.use(uow.raw, lane)
            raise LookupError
    known = "SELECT account FROM connections WHERE id = $1"
    assert await post.value(known, desk.connection_id) is None
    senders.look_again(desk.connection_id, is_closed=False)
    async with post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        await senders.use(uow.raw, lane)
    assert await post.value(known, desk.connection_id) is not None


async def test_who_has_read_a_connection_before_it_was_changed_says_nothing_of_its_account(post: Post) -> None:
    desk = await entered(post, "ann", None)
    known = "SELECT account FROM connections WHERE id = $1"
    before = await post.value(known, desk.connection_id)
    await post.execute("UPDATE connections SET version = version + 1 WHERE id = $1", desk.connection_id)
    version = await post.value("SELECT version FROM connections WHERE id = $1", desk.connection_id)
    for read, now in ((version - 1, before), (version, "bob")):
        async with post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
            await accounts.note(uow.raw, desk.tenant_id, desk.connection_id, read, "bob")
        assert await post.value(known, desk.connection_id) == now


def test_the_user_that_a_service_gives_everybody_is_nobodys_account_and_no_digest_can_be_tried_out() -> None:
    ring, other = (Keyring(new_key()) for _ in range(2))
    server = {"host": "smtp.example.net", "port": 587, "username": "apikey"}
    ann, bob, again = (shared_accounts.digest(ring, SMTP, server, {"password": each}) for each in ("a", "b", "a"))
    assert ann == again != bob
    assert shared_accounts.digest(other, SMTP, server, {"password": "a"}) != ann, "made with the installation's key"


def test_an_account_is_whose_who_can_sign_in_to_it_and_nobodys_who_knows_its_name() -> None:
    ring = Keyring(new_key())
    sms = {"account_sid": "AC" + "1" * 32, "base_url": "https://a"}
    known = shared_accounts.digest(ring, TWILIO, sms, {"auth_token": "x"})
    assert known == shared_accounts.digest(ring, TWILIO, {**sms, "connections": 3}, {"auth_token": "x"})
    assert known != shared_accounts.digest(ring, TWILIO, sms, {"auth_token": "y"}), "who knows the SID has not got it"
    assert known != shared_accounts.digest(ring, TWILIO, {**sms, "account_sid": "AC" + "2" * 32}, {"auth_token": "x"})
    keyed = {**sms, "api_key_sid": "SK" + "1" * 32}
    keys = [shared_accounts.digest(ring, TWILIO, keyed, {"api_key_secret": each}) for each in ("k", "l")]
    assert len({known, *keys}) == 3
    mails = {"base_url": "https://a"}
    keys = [shared_accounts.digest(ring, RESEND, mails, {"api_key": each}) for each in ("one", "two", "one")]
    assert keys[0] == keys[2] != keys[1]
    assert "one" not in str(keys)
    relay = {"host": "h", "port": 25, "username": ""}
    assert shared_accounts.digest(ring, SMTP, relay, {}) is None, "a relay is nobody's"
