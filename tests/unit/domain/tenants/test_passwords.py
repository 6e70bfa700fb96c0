from __future__ import annotations

import asyncio

import pytest

from outrider.base.errors import Refused, Unavailable
from outrider.domain.tenants import passwords

GOOD = "a quite unusual phrase 7"


@pytest.mark.parametrize(
    "password", [GOOD, "x7-" * 21 + "y", "пароль не из списка", "        spaces kept   ", "🐘🦒🐘🦒🐘🦒🐘🦒"]
)
def test_long_enough_passwords_of_any_characters_are_allowed(password: str) -> None:
    assert passwords.check_new(password) == password


@pytest.mark.parametrize("length", [64, 128, 256])
def test_passwords_of_64_characters_and_more_are_allowed(length: int) -> None:
    password = ("correct battery " * 16)[:length]
    assert passwords.check_new(password) == password


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("", "password_too_short"),
        ("seven77", "password_too_short"),
        ("password1", "password_too_common"),
        ("PassWord1", "password_too_common"),
        ("aaaaaaaaaa", "password_too_common"),
        ("ann@example.org", "password_too_common"),
        ("ann.meyer", "password_too_common"),
        ("x" * 300, "invalid_password"),
        ("🐘" * 5000, "invalid_password"),
        ("nul\0 inside it", "invalid_password"),
        ("half \ud83d a pair", "invalid_password"),
    ],
)
def test_passwords_that_are_refused(password: str, code: str) -> None:
    with pytest.raises(Refused) as caught:
        passwords.check_new(password, about=("ann@example.org", "ann.meyer"))
    assert caught.value.code == code
    assert password not in str(caught.value) or not password


def test_composed_and_decomposed_characters_are_the_same_password() -> None:
    assert passwords.normalise("Zürich über alles") == passwords.normalise("Zu\u0308rich u\u0308ber alles")


async def test_a_password_matches_its_own_hash_only() -> None:
    password_hash = await passwords.hashed(GOOD)
    assert await passwords.matches(password_hash, GOOD)
    assert not await passwords.matches(password_hash, GOOD + " ")


async def test_an_account_without_password_matches_nothing() -> None:
    assert not await passwords.matches(passwords.NO_PASSWORD, passwords.NO_PASSWORD)
    assert not await passwords.matches("", "")


def test_hashes_are_argon2id_at_the_cost_asked_for() -> None:
    kind, cost = passwords._HASHER.hash(GOOD).split("$")[1:4:2]
    memory, rounds, _ = (int(part.partition("=")[2]) for part in cost.split(","))
    assert kind == "argon2id"
    assert memory >= 19 * 1024
    assert rounds >= 2


def test_the_hash_for_unknown_accounts_costs_what_a_real_one_costs() -> None:
    assert not passwords.is_outdated(passwords._DUMMY)


def test_a_hash_of_another_cost_is_outdated() -> None:
    assert passwords.is_outdated(passwords._DUMMY.replace("t=2", "t=1"))


async def test_more_sign_ins_than_can_wait_are_refused_instead_of_piling_up() -> None:
    many = passwords._AT_ONCE + passwords._MOST_WAITING + 5
    results = await asyncio.gather(
        *(passwords.matches("not a hash", GOOD) for _ in range(many)), return_exceptions=True
    )
    assert sum(isinstance(result, Unavailable) for result in results) == 5
    assert sum(result is False for result in results) == many - 5
    assert await passwords.matches(await passwords.hashed(GOOD), GOOD)


def test_the_list_of_common_passwords_holds_only_what_the_length_rule_lets_through() -> None:
    assert len(passwords._common()) > 300
    assert all(len(word) >= passwords.SHORTEST for word in passwords._common())
