"""The settings of an SMTP account."""

from __future__ import annotations

import pytest

from outrider.base.errors import RefusedMany
from outrider.base.fields import check
from outrider.base.registry import discover
from outrider.plugins.providers.smtp import PROVIDER
from outrider.plugins.providers.smtp.settings import FIELDS, Account, account_of, ehlo_name


def test_the_provider_is_found_by_its_name() -> None:
    assert discover("outrider.plugins.providers", "PROVIDER")["smtp"] is PROVIDER


def test_a_host_alone_is_a_submission_service_with_tls() -> None:
    account = account_of(check(FIELDS, {"host": "mail.example.org"}), {})
    assert (account.port, account.tls, account.connections, account.is_verified) == (587, "required", 8, True)


@pytest.mark.parametrize(
    "settings",
    [{}, {"host": "a\r\nb"}, {"host": "a", "port": 0}, {"host": "a", "tls": "maybe"}, {"host": "a", "connections": 65}],
)
def test_settings_out_of_bounds_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(RefusedMany):
        check(FIELDS, settings)


def test_the_password_is_not_shown() -> None:
    account = account_of({"host": "a", "username": "me"}, {"password": "hunter2"})
    assert account.password == "hunter2"
    assert "hunter2" not in repr(account)


@pytest.mark.parametrize(
    ("mode", "username", "is_verified"),
    [
        ("required", "", True),
        ("implicit", "", True),
        ("off", "", True),
        ("opportunistic", "", False),
        ("opportunistic", "me", True),
    ],
)
def test_a_certificate_goes_unverified_only_without_a_password_to_protect(
    mode: str, username: str, *, is_verified: bool
) -> None:
    assert Account("a", tls=mode, username=username).is_verified is is_verified


def test_the_ehlo_name_is_the_setting_the_machine_or_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ehlo_name(Account("a", ehlo_name="me.example"), "10.0.0.1") == "me.example"
    monkeypatch.setattr("socket.gethostname", lambda: "box.example.org")
    assert ehlo_name(Account("a"), "10.0.0.1") == "box.example.org"
    for name in ("box", "bad name.example", "a.b\r\nMAIL", "-a.b"):
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        assert ehlo_name(Account("a"), "10.0.0.1") == "[10.0.0.1]"
    assert ehlo_name(Account("a"), "fd00::1") == "[IPv6:fd00::1]"
