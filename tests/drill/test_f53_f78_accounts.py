"""F53, F55, F78: an account is refused, slowed down, its password changed; other accounts go on and nothing is lost.

An account that two tenants have entered is one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import Drill
from tests.kit.scenarios import accounts, one_account

pytestmark = pytest.mark.timeout(900)


async def test_the_queue_of_a_refused_account_waits_and_the_others_go_on(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS) as drill:
        assert await accounts.account_refused(drill) == []


async def test_a_mail_server_is_not_asked_again_and_again_with_a_wrong_password(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS | {"circuit_refused_s": "60"}) as drill:
        assert await accounts.smtp_refused(drill) == []


async def test_a_campaign_goes_on_when_its_connection_learns_the_new_password(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS | {"circuit_refused_s": "60"}) as drill:
        assert await accounts.password_changed(drill) == []


@pytest.mark.parametrize("wish_s", [None, 2.0])
async def test_an_account_that_is_told_to_slow_down_rests_for_all_workers_alike(
    wish_s: float | None, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS) as drill:
        assert await accounts.slowed_down(drill, wish_s) == []


async def test_a_refused_account_that_two_tenants_have_entered_is_asked_as_rarely_as_one_tenants(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS) as drill:
        assert await one_account.is_refused(drill) == []


@pytest.mark.parametrize("wish_s", [None, 2.0])
async def test_an_account_that_two_tenants_have_entered_rests_for_both(wish_s: float | None, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS) as drill:
        assert await one_account.is_slowed(drill, wish_s) == []


async def test_neither_of_two_tenants_starves_who_share_an_account_that_takes_a_few_a_second(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **accounts.SETTINGS) as drill:
        assert await one_account.is_narrow(drill) == []
