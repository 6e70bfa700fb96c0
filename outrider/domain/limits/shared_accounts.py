"""Shared accounts: one pace for an account at a provider, however many connections, tenants and workers use it.

Owns `account_buckets`, `account_turns` and how an account is known: by a digest of what its provider says names it and
signs in to it, so that who knows no more than another's name takes nothing from them. It is made with the
installation's key: whoever reads a dump cannot try out what it stands for. The rows are the
installation's: no tenant sees them, nor who else has entered the same account. A connection goes as fast as its own
rate lets it, and all connections of an account together as the fastest of theirs: what goes by a slow one counts for
the fast ones as well, so that nobody who enters another's account with a tiny rate or burst slows it down. One that
has no rate is neither bounded nor counted. Turns are for requests, where a provider limits these.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from outrider.base.ids import NIL
from outrider.base.secret import Keyring
from outrider.contracts.provider import NamesAccount, Provider
from outrider.data.db import Database, Role
from outrider.domain.limits.rows import PACES as SQL

_LONGEST_TURN_S = 300.0
_MOST_TURNS = 20
"""No turn is given out for later than so long or so many: requests that nobody made must not keep others for ever."""


def digest(keyring: Keyring, provider: Provider, settings: Mapping[str, Any], secrets: Mapping[str, str]) -> str | None:
    """By what an account is known to those who can sign in to it; None where its provider does not say."""
    named = provider.account(settings, secrets) if isinstance(provider, NamesAccount) else ()
    if not named:
        return None
    said = orjson.dumps([provider.key, *named])
    return hmac.digest(keyring.derive("accounts"), said, "sha256").hex()


async def turn(database: Database, account: str, rate_per_s: float, rest_s: float = 0.0) -> float:
    """Take the next turn to make a request to an account; gives in how many seconds it is.

    Takes:   rate_per_s: as far as the caller knows; rest_s: the provider wants nobody to ask for so long.
    Raises:  Unavailable.
    """
    async with database.uow(Role.ENGINE) as uow:
        most_s = max(_LONGEST_TURN_S, _MOST_TURNS / rate_per_s)
        wait_s: float = await SQL.account_turn.value(uow.raw, NIL, account, 1 / rate_per_s, rest_s, most_s)
    return max(0.0, wait_s)
