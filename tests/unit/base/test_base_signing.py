from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.base.signing import LinkSigner, ReturnSigner, TrackingSigner

SIGNER = LinkSigner(b"k" * 32)
TENANT, MESSAGE = UUID(int=7), UUID(int=9)
TOKEN = SIGNER.sign(TENANT, MESSAGE)


@given(st.uuids(), st.uuids())
def test_a_token_says_tenant_and_message_and_fits_into_a_url(tenant: UUID, message: UUID) -> None:
    token = SIGNER.sign(tenant, message)
    assert SIGNER.read(token) == (tenant, message)
    assert len(token) == 64
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.integers(0, 63), st.sampled_from("ABCDwxyz0189-_"))
def test_a_token_with_one_character_changed_is_nobodys(at: int, character: str) -> None:
    changed = TOKEN[:at] + character + TOKEN[at + 1 :]
    assert SIGNER.read(changed) == ((TENANT, MESSAGE) if changed == TOKEN else None)


@pytest.mark.parametrize("token", ["", "A" * 63, "A" * 65, "A" * 64, "+" * 64, "é" * 64, TOKEN[:-1] + "=", " " * 64])
def test_what_we_did_not_make_is_nobodys(token: str) -> None:
    assert SIGNER.read(token) is None


def test_a_token_of_another_key_or_purpose_is_nobodys() -> None:
    assert LinkSigner(b"x" * 32).read(TOKEN) is None


TRACKING = TrackingSigner(b"k" * 32)
KINDS = (TrackingSigner.OPEN, TrackingSigner.CLICK, TrackingSigner.VIEW, TrackingSigner.PUBLIC)
CLICK = TRACKING.signed(TrackingSigner.CLICK, TENANT, MESSAGE, (5, -5))[0]


@given(st.sampled_from(KINDS), st.uuids(), st.uuids(), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3))
def test_a_tracking_token_says_whose_it_is_and_which_link(
    kind: int, tenant: UUID, message: UUID, links: list[int]
) -> None:
    tokens = TRACKING.signed(kind, tenant, message, links)
    assert [TRACKING.read(kind, token) for token in tokens] == [(tenant, message, link) for link in links]
    for token in tokens:
        assert len(token) == TrackingSigner.LENGTH
        assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("at", range(TrackingSigner.LENGTH))
@pytest.mark.parametrize("bit", range(6))
def test_a_tracking_token_with_one_bit_changed_is_nobodys(at: int, bit: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    changed = CLICK[:at] + letters[letters.index(CLICK[at]) ^ (1 << bit)] + CLICK[at + 1 :]
    assert [TRACKING.read(kind, changed) for kind in KINDS] == [None] * 4


@pytest.mark.parametrize("made_for", KINDS)
@pytest.mark.parametrize("used_for", KINDS)
def test_a_tracking_token_serves_one_purpose_alone(made_for: int, used_for: int) -> None:
    (token,) = TRACKING.signed(made_for, TENANT, MESSAGE)
    assert (TRACKING.read(used_for, token) is not None) is (made_for == used_for)
    assert TrackingSigner(b"x" * 32).read(made_for, token) is None


@pytest.mark.parametrize("token", ["", "A" * 75, "A" * 77, "A" * 76, "+" * 76, "é" * 76, " " * 76, CLICK[:-1] + "="])
def test_a_tracking_token_we_did_not_make_is_nobodys(token: str) -> None:
    assert [TRACKING.read(kind, token) for kind in KINDS] == [None] * 4


RETURNS = ReturnSigner(b"k" * 32)
RETURN = RETURNS.sign(TENANT, MESSAGE)


def test_a_return_address_fits_into_a_local_part_and_survives_another_case() -> None:
    assert len(RETURN) == ReturnSigner.LENGTH <= 64
    assert RETURN.lower() == RETURN
    assert RETURN.isalnum()
    assert RETURNS.read(RETURN) == (TENANT, MESSAGE)
    assert RETURNS.read(RETURN.upper()) == (TENANT, MESSAGE)
    assert RETURNS.sign(TENANT, TENANT) != RETURN


@pytest.mark.parametrize(
    "local_part", ["", "x", RETURN[:-1], RETURN + "a", "é" * 60, "1" * 60, "a" * 60, RETURN[:-1] + "="]
)
def test_what_is_no_return_address_of_ours_is_none(local_part: str) -> None:
    assert RETURNS.read(local_part) is None


def test_every_character_of_a_return_address_is_signed() -> None:
    for at, character in enumerate(RETURN):
        for other in "a2":
            if other != character:
                forged = RETURN[:at] + other + RETURN[at + 1 :]
                assert RETURNS.read(forged) is None, at
    assert ReturnSigner(b"x" * 32).read(RETURN) is None
