"""Email addresses: the one stored form, what is refused, and what is worth noting about one.

Owns syntax and normalisation; never asks DNS and never decides whether somebody may be written to.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from outrider.base.errors import Refused
from outrider.contracts.channel import AddressNotes

LONGEST_BYTES = 254
"""RFC 5321 4.5.3.1.3: a path has at most 256 octets, angle brackets included."""

_LONGEST_LOCAL_BYTES = 64
_LONGEST_GIVEN = 1000

# A subset of what the slow path accepts, with the same result: no "=" or "?" in the local part (encoded words), no "--"
# in the domain (IDNA), a top-level domain of letters. A property test holds both paths together.
_PLAIN = re.compile(
    r"(?=[^@]{1,64}@.{1,189}\Z)"
    r"([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@"
    r"((?:(?![^.]*--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63})\Z"
)
_RESERVED = re.compile(r"(?:^|\.)(?:arpa|broadcasthost|invalid|local|localhost|onion|lan|internal|home|corp|mail)$")

_MAILBOX = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^"<>]*?))\s*<([^<>]*)>\s*\Z')

_ROLES = frozenset(
    {
        "abuse", "admin", "administrator", "billing", "compliance", "devnull", "dns", "do-not-reply", "donotreply",
        "ftp", "hostmaster", "info", "inoc", "ispfeedback", "ispsupport", "list", "list-request", "mailer-daemon",
        "maildaemon", "marketing", "no-reply", "noc", "noreply", "null", "office", "phish", "phishing", "postmaster",
        "privacy", "registrar", "root", "sales", "security", "spam", "support", "sysadmin", "tech",
        "undisclosed-recipients", "unsubscribe", "usenet", "uucp", "webmaster", "www",
    }
)  # fmt: skip
_PROVIDERS = (
    "gmail.com", "googlemail.com", "hotmail.com", "yahoo.com", "outlook.com", "icloud.com", "protonmail.com",
    "yandex.com", "hotmail.co.uk", "yahoo.co.uk", "hotmail.fr", "yahoo.fr", "t-online.de", "freenet.de",
)  # fmt: skip
_REAL_NEIGHBOURS = frozenset({"ymail.com", "mail.com", "email.com", "gmail.co", "hotmail.co", "yahoo.co", "outlook.co"})
_TOP_LEVEL_TYPOS = {
    "con": "com", "cmo": "com", "ocm": "com", "vom": "com", "xom": "com", "comm": "com", "coom": "com", "ogr": "org",
    "nte": "net",
}  # fmt: skip

_LOOK_ALIKE_SCRIPTS = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "GEORGIAN", "HEBREW", "ARABIC"})


def normalise(address: str, *, field: str = "address", allow_smtputf8: bool = False) -> str:
    """Check one address and give its one stored form.

    Takes:   allow_smtputf8 True only where the sender's provider carries RFC 6531 addresses.
    Gives:   local part in lower case and NFC, domain in lower-case IDNA ASCII. Equal people compare equal, whatever was
             typed; `a+tag@` and `a@` stay different.
    Raises:  Refused(smtputf8_unsupported) for a non-ASCII local part without allow_smtputf8, else
             Refused(invalid_address); both name `field`.
    Source:  RFC 5321, 5322, 6531, 5891; bad_inputs E03 to E67; decisions/0014-email-addresses.md
    """
    plain = _PLAIN.match(address) if isinstance(address, str) else None
    if plain:
        domain = plain[2].lower()
        if not _RESERVED.search(domain):
            return f"{plain[1].lower()}@{domain}"
    return _normalise_thoroughly(address, field, allow_smtputf8=allow_smtputf8)


def _normalise_thoroughly(address: str, field: str, *, allow_smtputf8: bool) -> str:
    """The whole rule; the regular expression above only shortens the way for plain addresses."""
    if not isinstance(address, str) or not address.strip():
        raise _invalid("is empty: one address like name@example.org is needed", field)
    if len(address) > _LONGEST_GIVEN:
        raise _invalid(f"is longer than {LONGEST_BYTES} octets", field)
    if "," in address or ";" in address:
        raise _invalid("is more than one address, or has a comma or semicolon: one address per field", field)
    try:
        valid = validate_email(address, check_deliverability=False, strict=True, test_environment=True)
    except (EmailNotValidError, UnicodeError) as error:
        raise _invalid(str(error), field) from None
    local, domain = valid.local_part, valid.ascii_domain.lower()
    if "=?" in local:
        raise _invalid("has an encoded word (=?…?=) before the @-sign", field)
    if "." not in domain:
        raise _invalid("has no period after the @-sign", field)
    if not local.isascii():
        local = _international_local(local, field, is_allowed=allow_smtputf8)
    stored = f"{local.lower()}@{domain}"
    if len(local.lower().encode()) > _LONGEST_LOCAL_BYTES:
        raise _invalid(f"has more than {_LONGEST_LOCAL_BYTES} octets before the @-sign", field)
    if len(stored.encode()) > LONGEST_BYTES:
        raise _invalid(f"is longer than {LONGEST_BYTES} octets", field)
    return stored


def _international_local(local: str, field: str, *, is_allowed: bool) -> str:
    if not is_allowed:
        raise Refused(
            "smtputf8_unsupported",
            "has letters outside ASCII before the @-sign; the sender's provider cannot carry such addresses (RFC 6531)",
            field=field,
        )
    if unicodedata.normalize("NFKC", local) != local:
        raise _invalid("has compatibility characters (full-width, ligatures) before the @-sign", field)
    lowered = unicodedata.normalize("NFC", local.lower())
    if lowered != unicodedata.normalize("NFC", lowered.lower()):
        raise _invalid("has letters without one lower-case form before the @-sign", field)
    return lowered


def _invalid(detail: str, field: str) -> Refused:
    return Refused("invalid_address", detail, field=field)


def parse_mailbox(text: str, *, field: str = "from_address", allow_smtputf8: bool = False) -> tuple[str, str]:
    """Read `a@b.example` or `Name <a@b.example>`, for fields documented to take a name too.

    Gives:   (name, stored address); name is empty when none was given. Comments and groups of RFC 5322 are refused.
    Raises:  as `normalise`.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_GIVEN:
        raise _invalid("is not one address", field)
    found = _MAILBOX.match(text)
    if not found:
        return "", normalise(text.strip(" "), field=field, allow_smtputf8=allow_smtputf8)
    quoted, bare, address = found.groups()
    name = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
    if any(ord(character) < ord(" ") for character in name):
        raise _invalid("has a control character in its name", field)
    return name.strip(), normalise(address, field=field, allow_smtputf8=allow_smtputf8)


def notes(address: str) -> AddressNotes:
    """What is worth knowing about a stored address: role, probable typing mistake, look-alike letters."""
    local, _, domain = address.rpartition("@")
    suggestion = typo_hint(domain)
    return AddressNotes(
        is_role=is_role(local),
        typo_hint=f"{local}@{suggestion}" if suggestion else "",
        is_mixed_script=_is_mixed(local) or any(_is_mixed(_decoded(label)) for label in domain.split(".")),
    )


def is_role(local: str) -> bool:
    """Whether a local part names a function and not a person (RFC 2142 and common practice)."""
    return local.partition("+")[0].lower() in _ROLES


@lru_cache(maxsize=10_000)
def typo_hint(domain: str) -> str:
    """The domain that was probably meant, or an empty text."""
    name, _, top = domain.lower().rpartition(".")
    if top in _TOP_LEVEL_TYPOS and name:
        mended = f"{name}.{_TOP_LEVEL_TYPOS[top]}"
        return typo_hint(mended) or mended
    if domain in _PROVIDERS or domain in _REAL_NEIGHBOURS:
        return ""
    return next((provider for provider in _PROVIDERS if _is_one_slip(domain, provider)), "")


def _is_one_slip(given: str, meant: str) -> bool:
    """Whether one insertion, omission, replacement or exchange of neighbours leads from one to the other."""
    if abs(len(given) - len(meant)) > 1:
        return False
    start = next(
        (at for at, (a, b) in enumerate(zip(given, meant, strict=False)) if a != b), min(len(given), len(meant))
    )
    a, b = given[start:], meant[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _decoded(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def _is_mixed(text: str) -> bool:
    if text.isascii():
        return False
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in text if letter.isalpha()}
    return len(scripts & _LOOK_ALIKE_SCRIPTS) > 1
