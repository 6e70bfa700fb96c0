"""Telephone numbers: the one stored form, what is refused, and what a sender may be called.

Owns syntax and normalisation; the library knows the world's numbering plans, this file what of its leniency we refuse.
Never asks a carrier whether a number lives.
"""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType, ValidationResult

from outrider.base.errors import Refused
from outrider.contracts.channel import AddressNotes

_TYPED = re.compile(r"\+?\(?[0-9][0-9 ().\-/\u00a0]{0,40}[0-9)]")
"""Digits of ASCII with what people put between them. No letters, schemes, parameters, extensions: the library takes all
of those, and drops some in silence (`;ext=5`, `whatsapp:`, a leading `=`)."""
_DECIMAL = re.compile(r"[0-9]+\.[0-9]{1,2}")
"""`14155552671.0`: a number that a spreadsheet took for a quantity."""
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SHORT_CODE = re.compile(r"[1-9][0-9]{2,7}")
_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9 &._+-]{0,9}[A-Za-z0-9])?")
_COSTLY = frozenset({PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST})
_REFUSED = {
    PhoneNumberType.UAN: "a company's shared number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.VOICEMAIL: "a voice mail box",
}
_FIXED = frozenset({PhoneNumberType.FIXED_LINE})
_LONGEST_SHOWN = 60


def normalise(address: str, *, field: str = "address", region: str = "") -> str:
    """Check one number and give its one stored form: E.164.

    Takes:   region: ISO 3166 country in which a number without + was typed; empty: the + is required.
    Gives:   + and 7 to 15 digits. A trunk zero behind the country code is dropped where the plan has none, kept
             where it belongs to the number (Italy).
    Raises:  Refused(invalid_address; no_country where nobody knows which one is meant; premium_rate for numbers that
             cost whoever calls them) naming `field`.
    """
    try:
        return _normalised(address.strip(" \t\u00a0"), region.upper())
    except _Bad as bad:
        raise Refused(bad.code, str(bad), field=field) from None


class _Bad(Exception):
    """What is wrong with a number."""

    def __init__(self, why: str, code: str = "invalid_address") -> None:
        super().__init__(why)
        self.code = code


@lru_cache(maxsize=65_536)
def _normalised(typed: str, region: str) -> str:
    _check_spelling(typed, region)
    try:
        number = phonenumbers.parse(typed, region or None)
    except NumberParseException:
        raise _Bad("has no country code that exists") from None
    _check_plan(number)
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def _check_spelling(typed: str, region: str) -> None:
    if not typed:
        raise _Bad("is empty: a telephone number is needed")
    if not typed.isascii() and "\u00a0" not in typed:
        raise _Bad("must be written with the digits 0 to 9")
    if not _TYPED.fullmatch(typed) or _DECIMAL.fullmatch(typed):
        raise _Bad("must be a telephone number such as +14155552671, without extension or prefix")
    if not typed.startswith("+") and not region:
        raise _Bad("needs + and the country code: this tenant has no default_region", "no_country")


def _check_plan(number: phonenumbers.PhoneNumber) -> None:
    reason = phonenumbers.is_possible_number_with_reason(number)
    if reason == ValidationResult.TOO_SHORT:
        raise _Bad("has too few digits")
    if reason == ValidationResult.TOO_LONG:
        raise _Bad("has too many digits")
    kind = phonenumbers.number_type(number)
    if kind in _COSTLY:
        raise _Bad("is a premium-rate number", "premium_rate")
    if kind in _REFUSED:
        raise _Bad(f"is {_REFUSED[kind]}, which takes no SMS")
    if not phonenumbers.is_valid_number(number):
        raise _Bad("is no number of its country's numbering plan")


@lru_cache(maxsize=65_536)
def notes(address: str) -> AddressNotes:
    """A landline takes SMS rarely: worth knowing, not refused (carriers read some of them out)."""
    kind = phonenumbers.number_type(phonenumbers.parse(address))
    return AddressNotes(is_landline=kind in _FIXED)


def is_number(text: str) -> bool:
    """Whether a sender's address is a number people can answer to."""
    return bool(_E164.fullmatch(text) or _SHORT_CODE.fullmatch(text))


def sender_address(text: str, *, field: str) -> str:
    """The stored form of what messages come from: a number, a short code, or a name of at most 11 characters.

    Raises:  Refused(invalid_address).
    """
    plain = text.strip()
    if plain.startswith("+"):
        return normalise(plain, field=field)
    if _SHORT_CODE.fullmatch(plain) or _NAME.fullmatch(plain):
        return plain
    raise Refused(
        "invalid_address",
        "must be a number with + and country code, a short code of 3 to 8 digits, or a name of 1 to 11 letters and "
        f"digits; is {plain[:_LONGEST_SHOWN]!r}",
        field=field,
    )
