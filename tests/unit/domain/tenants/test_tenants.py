from __future__ import annotations

import pytest

from outrider.base.errors import Refused
from outrider.base.fields import Field
from outrider.contracts.gate import Gate
from outrider.domain.tenants.tenants import FIELDS, check_name, check_timezone, known_fields
from outrider.domain.tenants.users import normalise_email


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Australia/Lord_Howe"])
def test_iana_zones_are_accepted(zone: str) -> None:
    assert check_timezone(zone) == zone


@pytest.mark.parametrize(
    "zone",
    [
        "",
        "Mars/Olympus",
        "../../etc/passwd",
        "Europe/London\0",
        "europe/berlin",
        "/usr/share/zoneinfo/UTC",
        "U" * 5000,
        ".",
    ],
)
def test_what_is_no_iana_zone_is_refused_without_reading_a_file(zone: str) -> None:
    with pytest.raises(Refused) as caught:
        check_timezone(zone)
    assert caught.value.code == "unknown_timezone"


@pytest.mark.parametrize("name", ["Acme", "Müller & Söhne (Nord)", "株式会社 例", "a", "x" * 80])
def test_names_people_use_are_accepted(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", " Acme", "Acme ", "x" * 81, "a\nb", "a\0", "<script>", "../x", "\u202eevil"])
def test_names_that_could_mislead_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        check_name(name)


def test_gates_add_their_settings_once() -> None:
    gate = Gate(
        key="x", order=1, help="", fields=(Field("consent_required", "again", "boolean"), Field("quiet", "new"))
    )
    assert [field.name for field in known_fields([gate])] == [*(field.name for field in FIELDS), "quiet"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Ann@Example.ORG", "ann@example.org"),
        ("  ann@example.org ", "ann@example.org"),
        ("ANN@BÜCHER.example", "ann@bücher.example"),
    ],
)
def test_addresses_have_one_form(given: str, kept: str) -> None:
    assert normalise_email(given) == kept


@pytest.mark.parametrize(
    "address", ["", "ann", "ann@", "@example.org", "a b@example.org", "ann@example.org\n.evil", "a" * 600]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Refused) as caught:
        normalise_email(address)
    assert caught.value.code == "invalid_email"
