"""Accounts at a provider of glass that several tenants may have entered.

API
    named_posts(url, folder) -> async context manager of Post    its provider says what names an account: host and user
    entered(post, "ann", rate) -> Desk     a new tenant that has entered the account of a user, with messages that wait
    claimed(desk) -> int                   how many of them one claim gets
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from outrider.base.fields import Field
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.domain.limits import buckets
from outrider.engine.dispatch.senders import Senders
from tests.kit.dispatch import Desk, GlassProvider, Post, posts

_WHO = Actor("user", "ann@example.org")


class Named(GlassProvider):
    """A provider that says what names an account."""

    def account(self, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> tuple[str, ...]:
        del secrets
        return (settings["host"], settings["username"]) if settings.get("username") else ()


@asynccontextmanager
async def named_posts(url: str, folder: Path) -> AsyncIterator[Post]:
    """A post whose provider names accounts."""
    async with posts(url, folder) as made:
        provider = Named(fields=(Field("host", "where", default=""), Field("username", "who", default="")))
        made.provider, made.runtime = provider, replace(made.runtime, providers={"glass": provider})
        yield made


async def entered(post: Post, user: str, rate: float | None = None, burst: float = 10) -> Desk:
    """A new tenant that has entered an account, with messages that wait."""
    desk = await post.desk()
    await post.execute(
        "UPDATE connections SET settings = jsonb_build_object('host', 'mail', 'username', $2::text) WHERE id = $1",
        desk.connection_id,
        user,
    )
    if rate is not None:
        async with post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
            await buckets.set_rate(uow, _WHO, "connection", desk.connection_id, rate, burst)
    async with post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:  # as any worker does before it sends
        await Senders(post.runtime).use(uow.raw, await desk.lane())
    await desk.admit(50)
    return desk


async def claimed(desk: Desk, limit: int = 50) -> int:
    """How many messages one claim gets."""
    batch = (await desk.claim(limit)).batch
    return 0 if batch is None else len(batch.messages)
