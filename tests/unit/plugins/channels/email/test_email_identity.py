"""A sender is checked as a whole: every wrong field is named at once, addresses become their stored form."""

from __future__ import annotations

import pytest

from outrider.base.errors import RefusedMany
from outrider.contracts.channel import Dkim
from outrider.plugins.channels.email import CHANNEL
from tests.kit.letters import identity
from tests.unit.plugins.channels.email.test_email_dkim import ED25519, RSA


def test_a_good_sender_is_stored_in_one_form() -> None:
    checked, warnings = CHANNEL.check_identity(
        identity(
            from_address='"Tenant, News" <News@TENANT.example>',
            from_name="",
            reply_to="Help@Bücher.de",
            dkim=(RSA, ED25519),
        )
    )
    assert (checked.from_name, checked.from_address) == ("Tenant, News", "news@tenant.example")
    assert checked.reply_to == "help@xn--bcher-kva.de"
    assert warnings == []


def test_the_name_that_was_given_wins_over_the_one_in_the_address() -> None:
    checked, _ = CHANNEL.check_identity(identity(from_address="Other <a@b.example>", from_name=" Mine "))
    assert checked.from_name == "Mine"


def test_a_star_gives_each_message_a_return_address_of_its_own() -> None:
    checked, _ = CHANNEL.check_identity(identity(return_path="*@Bounces.Bücher.de"))
    assert checked.return_path == "*@bounces.xn--bcher-kva.de"


@pytest.mark.parametrize("path", ["*", "*@", "*@a b.example", "*@a@b.example", "a*@b.example\r\n"])
def test_a_star_stands_before_a_domain(path: str) -> None:
    with pytest.raises(RefusedMany) as refused:
        CHANNEL.check_identity(identity(return_path=path))
    assert [error.field for error in refused.value.errors] == ["return_path"]


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(RefusedMany) as refused:
        CHANNEL.check_identity(
            identity(
                from_address="a@b@c",
                from_name="x\r\nBcc: y@z.example",
                reply_to="nobody",
                return_path="a b@c.example",
                postal_address="a\0b",
                headers={"List-Unsubscribe": "<https://x>"},
                dkim=(Dkim("b.example", "s", "no key"),),
            )
        )
    assert [error.field for error in refused.value.errors] == [
        "from_address",
        "from_name",
        "reply_to",
        "return_path",
        "postal_address",
        "headers.List-Unsubscribe",
        "dkim.0.private_key_pem",
    ]


def test_a_signature_for_another_domain_is_warned_about() -> None:
    _, warnings = CHANNEL.check_identity(identity(from_address="a@other.example", dkim=(RSA,)))
    assert len(warnings) == 1
    assert "DMARC" in warnings[0]
    assert CHANNEL.check_identity(identity(from_address="a@mail.tenant.example", dkim=(RSA,)))[1] == []


def test_encoded_words_in_a_name_are_refused() -> None:
    with pytest.raises(RefusedMany):
        CHANNEL.check_identity(identity(from_name="=?utf-8?q?=0D=0ABcc?="))
