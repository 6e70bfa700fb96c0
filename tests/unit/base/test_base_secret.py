from __future__ import annotations

import base64
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.base.errors import Misconfigured
from outrider.base.secret import Keyring, new_key

TENANT, OTHER = UUID(int=1), UUID(int=2)
TEXT = new_key()
KEYS = Keyring(TEXT)


def test_a_new_key_is_32_random_bytes_as_text() -> None:
    assert len(base64.urlsafe_b64decode(TEXT + "=")) == 32
    assert new_key() != TEXT
    assert Keyring(f" {TEXT}=\n").key_id == KEYS.key_id


@pytest.mark.parametrize("text", ["", "short", "x" * 42, "x" * 44, "!" * 43, "é" * 43, TEXT + TEXT, "=" * 43])
def test_a_key_that_is_not_32_bytes_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Keyring(text)
    assert refused.value.code == "secret_key_invalid"
    assert not text or text not in str(refused.value)


def test_nothing_of_the_key_shows_in_its_representation() -> None:
    assert repr(KEYS) == f"Keyring(key_id='{KEYS.key_id}')"
    assert TEXT[:8] not in repr(KEYS)
    assert len(KEYS.key_id) == 8


@given(st.text(max_size=200))
def test_what_was_sealed_is_opened_by_the_same_tenant_and_purpose(plain: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in plain):
        return
    sealed = KEYS.seal(plain, tenant_id=TENANT, purpose="connection:1")
    assert KEYS.unseal(sealed, tenant_id=TENANT, purpose="connection:1") == plain
    assert not plain or plain not in sealed or len(plain) < 4


def test_the_same_text_is_never_sealed_alike() -> None:
    assert KEYS.seal("x", tenant_id=TENANT, purpose="p") != KEYS.seal("x", tenant_id=TENANT, purpose="p")


@pytest.mark.parametrize(("tenant", "purpose"), [(OTHER, "p"), (TENANT, "q"), (TENANT, "")])
def test_a_seal_cannot_be_moved_to_another_tenant_or_purpose(tenant: UUID, purpose: str) -> None:
    sealed = KEYS.seal("password", tenant_id=TENANT, purpose="p")
    with pytest.raises(Misconfigured) as refused:
        KEYS.unseal(sealed, tenant_id=tenant, purpose=purpose)
    assert refused.value.code == "sealed_text_damaged"
    assert "password" not in str(refused.value)


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_seal_is_never_opened(at: int, flip: int) -> None:
    version, key_id, body = KEYS.seal("password", tenant_id=TENANT, purpose="p").split(":")
    raw = bytearray(base64.urlsafe_b64decode(body))
    raw[at % len(raw)] ^= flip
    changed = f"{version}:{key_id}:{base64.urlsafe_b64encode(raw).decode()}"
    with pytest.raises(Misconfigured):
        KEYS.unseal(changed, tenant_id=TENANT, purpose="p")


@pytest.mark.parametrize(
    "sealed", ["", "v1", "v1:", f"v1:{KEYS.key_id}:", f"v1:{KEYS.key_id}:é", "v0:x:y", "plain text"]
)
def test_what_is_no_seal_is_an_error_for_the_operator(sealed: str) -> None:
    with pytest.raises(Misconfigured):
        KEYS.unseal(sealed, tenant_id=TENANT, purpose="p")


def test_another_key_is_named_beside_ours() -> None:
    other = Keyring(new_key())
    with pytest.raises(Misconfigured) as refused:
        other.unseal(KEYS.seal("x", tenant_id=TENANT, purpose="p"), tenant_id=TENANT, purpose="p")
    assert refused.value.code == "secret_key_wrong"
    assert KEYS.key_id in str(refused.value)
    assert other.key_id in str(refused.value)


def test_keys_of_two_purposes_differ_from_each_other_and_from_the_key() -> None:
    derived = {KEYS.derive("unsubscribe"), KEYS.derive("session"), base64.urlsafe_b64decode(TEXT + "=")}
    assert len(derived) == 3
    assert KEYS.derive("unsubscribe") == Keyring(TEXT).derive("unsubscribe")
