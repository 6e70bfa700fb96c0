"""A price with a date ahead: what is held for the lack of one is asked about when its date has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.domain.limits import budgets, prices
from outrider.domain.messages import holds
from outrider.engine.maintenance.money import Prices
from tests.kit.dispatch import Desk, Post

WHO = Actor("user", "ops@example.org", "127.0.0.1")
AHEAD = datetime.now(UTC) + timedelta(days=300)
_HOLD = (
    "UPDATE queue SET state = 5, due_at = now() + interval '1 hour', reason = $2 "
    "WHERE tenant_id = $1 RETURNING message_id"
)


async def held(post: Post, reason: str = f"{budgets.GATE}: no price is known for email to DE") -> Desk:
    """A tenant with a message that is held."""
    desk = await post.desk()
    await desk.admit()
    await post.fetch(_HOLD, desk.tenant_id, reason)
    return desk


async def price(post: Post, tenant_id: UUID) -> None:
    async with post.runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        await prices.add(uow, WHO, "email", "", 1000, valid_from=AHEAD)


async def comes(post: Post) -> None:
    """Its date has come."""
    await post.execute("UPDATE prices SET valid_from = now() WHERE valid_from > now()")


async def waits(desk: Desk) -> bool:
    due_at, now = (await desk.post.fetch("SELECT due_at, now() FROM queue WHERE tenant_id = $1", desk.tenant_id))[0]
    return bool(due_at > now)


async def test_what_waits_for_a_price_is_asked_about_when_its_date_has_come_and_not_before(post: Post) -> None:
    desk, other = await held(post), await held(post)
    looking = Prices(post.runtime)
    await looking.step()
    await price(post, desk.tenant_id)
    await looking.step()
    assert await waits(desk)
    await comes(post)
    await looking.step()
    assert (await waits(desk), await waits(other)) == (False, True)


async def test_a_price_of_everybodys_concerns_all_who_wait_for_one(post: Post) -> None:
    one, two, quiet = await held(post), await held(post), await held(post, "quiet_hours: until 09:00")
    looking = Prices(post.runtime)
    await looking.step()
    await price(post, NIL)
    await comes(post)
    await looking.step()
    assert [await waits(each) for each in (one, two, quiet)] == [False, False, True]


async def test_who_begins_looks_back_and_nobody_looks_at_the_same_price_for_ever(post: Post) -> None:
    desk = await held(post)
    await price(post, desk.tenant_id)
    await comes(post)
    looking = Prices(post.runtime)
    await looking.step()
    assert not await waits(desk), "it came into force before this process began"
    await post.fetch(_HOLD, desk.tenant_id, f"{budgets.GATE}: it is used up")
    await looking.step()
    assert await waits(desk), "nothing has changed since"
    async with post.runtime.db.uow(Role.ENGINE) as uow:
        assert desk.tenant_id in await holds.tenants(uow, budgets.GATE)
