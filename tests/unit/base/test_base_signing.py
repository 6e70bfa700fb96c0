from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.base.signing import LinkSigner

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
