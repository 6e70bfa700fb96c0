"""Email addresses have one stored form; the fast path is exactly as strict as the slow one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.base.errors import Refused
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.channels.email import address as addresses

LOCAL = st.text(alphabet="abcXYZ019_+-.=?!#/'éß用", max_size=70)
LABEL = st.text(alphabet="abcXYZ019-_éß例", max_size=65)
DOMAIN = st.lists(LABEL, max_size=4).map(".".join)
TOP = st.sampled_from(
    ["com", "COM", "de", "c", "123", "c1", "test", "local", "invalid", "xn--p1ai", "example", "", "广告"]
)
NEARLY = st.builds("{}@{}.{}".format, LOCAL, DOMAIN, TOP)


def slowly(text: str) -> str | None:
    """The stored form by the whole rule, or None when it is refused."""
    try:
        return addresses._normalise_thoroughly(text, "address", allow_smtputf8=False)
    except Refused:
        return None


def given_form(text: str) -> str | None:
    try:
        return addresses.normalise(text)
    except Refused:
        return None


def given_or_refused(text: str) -> tuple[str, Refused | None]:
    try:
        return addresses.normalise(text, field="to", allow_smtputf8=True), None
    except Refused as refused:
        return "", refused


@settings(max_examples=1500, deadline=None)
@given(NEARLY)
def test_the_fast_path_gives_what_the_slow_path_gives(text: str) -> None:
    assert given_form(text) == slowly(text)


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=300), NEARLY))
def test_any_text_is_either_refused_or_has_one_stored_form(text: str) -> None:
    stored, error = given_or_refused(text)
    if error:
        assert (error.field, error.code) == ("to", "invalid_address")
    else:
        assert addresses.normalise(stored, allow_smtputf8=True) == stored
        assert len(stored.encode()) <= addresses.LONGEST_BYTES
        assert stored.rpartition("@")[2].isascii()
        assert not any(character.isspace() or ord(character) < 0x20 for character in stored)


def test_the_fast_path_is_taken_for_plain_addresses_only() -> None:
    assert addresses._PLAIN.match("Ada.Lovelace+news@mail.example.com")
    for text in ("a@b.123", "a@-b.com", "a@xn--bcher-kva.de", "a b@c.de", "a@b", ".a@b.de", "a..b@c.de", "a@b.com\n"):
        assert not addresses._PLAIN.match(text), text


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Ada.Lovelace@Example.COM", "ada.lovelace@example.com"),
        ("a@bücher.de", "a@xn--bcher-kva.de"),
        ("a@XN--BCHER-KVA.de", "a@xn--bcher-kva.de"),
        ("a@faß.de", "a@xn--fa-hia.de"),
        ("a@\uff42.com", "a@b.com"),
        ("someone@mail.test", "someone@mail.test"),
    ],
)
def test_addresses_of_one_mailbox_have_one_form(given: str, stored: str) -> None:
    assert CHANNEL.normalise(given) == stored


@pytest.mark.parametrize("given", ["a@localhost", "a@printer.local", "a@x.invalid", "a@x.onion", "@test", "a@test"])
def test_names_that_can_never_receive_are_refused(given: str) -> None:
    with pytest.raises(Refused):
        CHANNEL.normalise(given)


def test_international_mailboxes_need_a_provider_that_carries_them() -> None:
    with pytest.raises(Refused) as refused:
        addresses.normalise("用户@例子.广告", field="/to/0")
    assert (refused.value.code, refused.value.field) == ("smtputf8_unsupported", "/to/0")
    assert addresses.normalise("用户@例子.广告", allow_smtputf8=True) == "用户@xn--fsqu00a.xn--4rr70v"
    assert addresses.normalise("Δοκιμή@example.org", allow_smtputf8=True) == "δοκιμή@example.org"
    with pytest.raises(Refused):
        addresses.normalise("\uff41@example.org", allow_smtputf8=True)


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("a@B.com", "", "a@b.com"),
        ("<a@b.com>", "", "a@b.com"),
        ("Ada Lovelace <A@b.com>", "Ada Lovelace", "a@b.com"),
        ('"Bank <security@bank.com>" <x@tenant.example>', "Bank <security@bank.com>", "x@tenant.example"),
        ('"a \\"b\\" c" <x@y.example>', 'a "b" c', "x@y.example"),
        ("Šárka <x@y.example>", "Šárka", "x@y.example"),
    ],
)
def test_a_from_field_takes_a_name_too(text: str, name: str, address: str) -> None:
    assert addresses.parse_mailbox(text) == (name, address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Ada",
        "a@b.com>",
        "Ada <a@b.com> <c@d.com>",
        "a@b.com, c@d.com",
        "alice@example.org)bob@evil.example",
        "Ada <a@b.com>\r\nBcc: x@y.de",
        '"A\nB" <a@b.com>',
        "<>",
        "Ada <>",
        "x" * 2000 + "@b.com",
    ],
)
def test_a_from_field_with_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        addresses.parse_mailbox(text)


def test_roles_are_noted_and_people_are_not() -> None:
    assert all(CHANNEL.notes(f"{local}@b.com").is_role for local in ("abuse", "noreply", "postmaster", "info+x"))
    assert not CHANNEL.notes("ada@b.com").is_role


@pytest.mark.parametrize(
    ("domain", "hint"),
    [
        ("gmial.com", "gmail.com"),
        ("gmail.con", "gmail.com"),
        ("gmal.com", "gmail.com"),
        ("hotmial.com", "hotmail.com"),
        ("yahooo.com", "yahoo.com"),
        ("gmail.com", ""),
        ("ymail.com", ""),
        ("mail.com", ""),
        ("example.com", ""),
        ("example.con", "example.com"),
        ("gmx.de", ""),
        ("gmil.con", "gmail.com"),
    ],
)
def test_a_probable_mistake_is_hinted_and_a_real_provider_is_not(domain: str, hint: str) -> None:
    assert CHANNEL.notes(f"a@{domain}").typo_hint == (f"a@{hint}" if hint else "")


def test_look_alike_letters_are_noted() -> None:
    assert CHANNEL.notes("\u0440\u0430ypal@b.com").is_mixed_script
    mixed = "p\u0430ypal".encode("punycode").decode()
    assert CHANNEL.notes(f"a@xn--{mixed}.com").is_mixed_script
    assert not CHANNEL.notes("a@xn--bcher-kva.de").is_mixed_script
    assert not CHANNEL.notes("用户@xn--fsqu00a.xn--4rr70v").is_mixed_script
