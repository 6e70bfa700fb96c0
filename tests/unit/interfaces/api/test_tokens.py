from __future__ import annotations

import base64
import json
import time
from uuid import UUID

import jwt
import pytest

from outrider.base.secret import Keyring, new_key
from outrider.interfaces.api.tokens import Claim, Tokens

KEYRING = Keyring(new_key())
TOKENS = Tokens(KEYRING)
CLAIM = Claim(UUID(int=1), UUID(int=2), b"h" * 32)


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def payload() -> dict[str, object]:
    text = TOKENS.issue(CLAIM).split(".")[1]
    found: dict[str, object] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return found


def signed(changes: dict[str, object], *, key: bytes | None = None, algorithm: str = "HS256") -> str:
    body = {name: value for name, value in {**payload(), **changes}.items() if value is not None}
    return jwt.encode(body, key or KEYRING.derive("session-jwt"), algorithm=algorithm)


def test_a_token_says_whose_session_it_speaks_for() -> None:
    assert TOKENS.read(TOKENS.issue(CLAIM)) == CLAIM


def test_a_token_with_any_character_changed_is_worthless() -> None:
    text = TOKENS.issue(CLAIM)
    for position in range(0, len(text) - 1, 7):
        other = "A" if text[position] != "A" else "B"
        assert TOKENS.read(text[:position] + other + text[position + 1 :]) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": int(time.time()) - 60},
        {"exp": None},
        {"iat": None},
        {"aud": "another"},
        {"aud": None},
        {"iss": "another"},
        {"iss": None},
        {"sub": None},
        {"sid": None},
        {"sid": "zz"},
        {"sid": 5},
        {"tid": "x"},
        {"tid": 5},
    ],
)
def test_a_token_of_our_key_that_says_something_else_is_worthless(changes: dict[str, object]) -> None:
    assert TOKENS.read(signed(changes)) is None


@pytest.mark.filterwarnings("ignore:The HMAC key")  # the point is the same key under another algorithm
def test_a_token_of_another_key_or_algorithm_is_worthless() -> None:
    assert TOKENS.read(signed({}, key=b"k" * 32)) is None
    assert TOKENS.read(signed({}, algorithm="HS512")) is None
    assert TOKENS.read(f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(payload())}.") is None


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "x" * 100_000, "ä.b.c", "..", "eyJ.eyJ.sig"])
def test_what_is_no_token_is_no_error(text: str) -> None:
    assert TOKENS.read(text) is None


def test_a_token_shows_neither_the_session_token_nor_an_address() -> None:
    assert set(payload()) == {"iss", "aud", "sub", "tid", "sid", "iat", "exp"}
