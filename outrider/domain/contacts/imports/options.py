"""What an import is told, and which column of a file is which field. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.domain.contacts import values
from outrider.domain.contacts.attributes import Type, Typed
from outrider.domain.contacts.suppressions import Reason

Delimiter = Literal[",", ";", "\t", "|"]
DELIMITERS: tuple[Delimiter, ...] = (",", ";", "\t", "|")
Dates = Literal["day_first", "month_first"]
Kind = Literal["contacts", "suppressions", "consents"]

MOST_COLUMNS = 200
LONGEST_HEADER = 100

_NAMES: dict[str, str] = {
    "name": "name",
    "fullname": "name",
    "externalid": "external_id",
    "timezone": "timezone",
    "locale": "locale",
    "language": "locale",
    "consent": "consent",
    "tag": "tags",
    "tags": "tags",
    "labels": "tags",
    "attributes": "attributes",
    "attribs": "attributes",
}
_ADDRESS_NAMES: dict[str, frozenset[str]] = {
    "email": frozenset({"email", "mail", "emailaddress", "address"}),
    "sms": frozenset({"phone", "phonenumber", "mobile", "mobilenumber", "cell", "number", "sms", "address"}),
}
"""Per channel; a channel that is not here takes its own key and `address`."""

_ONLY_TOLD = "outrider"
"""Headers of our own exports that begin so say what other files hold, such as lists."""

_IGNORED = frozenset({"", "tenantid", "id", "createdat", "updatedat"})
"""Never bound, whatever a file says [C55]; an empty header is a trailing delimiter [C30]."""

_MOVED: dict[str, dict[str, tuple[str, ...]]] = {
    "suppressions": {
        "address": (),
        "reason": ("suppressionreason", "reason", "status", "type", "event"),
        "at": (
            "unsubtime", "cleantime", "unsubscribedat", "bouncedat", "suppressedat", "optouttime", "time", "timestamp",
            "date", "at", "created", "lastchanged", "updatedat", "createdat",
        ),
        "source": ("source",),
        "note": ("note", "unsubreason", "description"),
    },
    "consents": {
        "address": (),
        "status": ("consent", "consentstatus", "subscriptionstatus", "emailmarketingstatus", "status"),
        "at": (
            "consenttime", "confirmtime", "optintime", "subscribedat", "unsubscribedat", "unsubtime", "time",
            "timestamp", "date", "at", "lastchanged", "updatedat", "created", "createdat",
        ),
        "source": ("source", "signupsource", "optinsource"),
        "ip": ("confirmip", "optinip", "ip"),
    },
}  # fmt: skip
"""For what comes from other systems: target -> headers that mean it, the best first."""

_FIELDS = frozenset({"address", "name", "external_id", "timezone", "locale", "consent", "tags", "attributes"})


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a file is to be read and what holds for all of its rows.

    kind      what its rows are: contacts, or what another system knows of whom not to contact, or of consent
    consent   what the importer asserts for rows that say nothing themselves; it never undoes a withdrawal
    mapping   header -> address, name, external_id, timezone, locale, consent, tags, attributes (a JSON object),
              ignore, or attribute:<key>; headers that are not named are matched by their names, and others become
              attributes
    region    country (ISO 3166) in which telephone numbers without + are read; empty: the tenant's default_region
    dates     how 01/02/2026 is to be read where an attribute holds a day; without it such a row is refused
    reason    suppressions: why, for rows that say nothing; a column of reasons is then only a note
    dry_run   walk the whole file, say what would happen, change nothing
    """

    kind: Kind = "contacts"
    channel: str = "email"
    list_id: UUID | None = None
    consent: Literal["granted", "withdrawn"] | None = None
    purpose: str = "marketing"
    consent_source: str = ""
    delimiter: Delimiter | None = None
    mapping: dict[str, str] = {}
    dates: Dates | None = None
    region: str = ""
    reason: Reason | None = None
    dry_run: bool = False


class Holds(msgspec.Struct, frozen=True):
    """What an attribute was defined to hold when the file was examined; later definitions do not change an import."""

    type: Type
    choices: list[str] = []


class Column(msgspec.Struct, frozen=True):
    """One column of a file, and where its cells go: a field, `tags`, `attribute:<key>` or `ignore`.

    `holds` is there for an attribute that the tenant has defined; cells of others are text.
    """

    header: str
    target: str
    holds: Holds | None = None


def check_options(options: Options) -> Options:
    """Refuse what no file could make right.

    Raises:  Refused naming the option: an assertion of consent must say where it is known from.
    """
    values.check_purpose(options.purpose, field="purpose")
    if options.kind != "contacts" and options.list_id is not None:
        raise Refused("not_for_this", f"imports of {options.kind} put nobody on a list", field="list")
    if options.kind != "suppressions" and options.reason is not None:
        raise Refused("not_for_this", f"imports of {options.kind} have no reason", field="reason")
    if options.kind == "suppressions" and options.consent is not None:
        raise Refused("not_for_this", "imports of suppressions say nothing of consent", field="consent")
    source = options.consent_source.strip()
    if options.consent is not None and not source:
        raise Refused("required", "say where this consent is known from", field="consent_source")
    if len(source) > values.LONGEST_NAME or not source.isprintable():
        raise Refused("invalid_source", f"at most {values.LONGEST_NAME} printable characters", field="consent_source")
    return options


def map_columns(header: list[str], options: Options, definitions: Mapping[str, Typed] | None = None) -> list[Column]:
    """Which column is which field [C19], and what it holds by the tenant's definitions.

    Raises:  Refused(bad_header) when no column holds addresses; Refused(duplicate_column) when two hold the same.
    """
    plain = [cell.strip().lstrip("\ufeff") for cell in header]
    unknown = [name for name in options.mapping if name not in plain]
    if unknown:
        raise Refused("bad_mapping", f"the file has no column {unknown[0][:80]!r}", field="mapping")
    targets = moved_targets(plain, options) if options.kind != "contacts" else _targets(plain, options)
    columns = [_column(name, target, definitions or {}) for name, target in zip(plain, targets, strict=True)]
    taken: set[str] = set()
    for column in columns:
        if column.target != "ignore" and column.target in taken:
            message = f"two columns are both {column.target}; map one of them to `ignore`"
            raise Refused("duplicate_column", message, field="file", line=1)
        taken.add(column.target)
    if "address" not in taken:
        names = ", ".join(sorted(address_names(options.channel)))
        raise Refused(
            "bad_header",
            f"the first line must name the columns, one of them: {names}; or map one",
            field="file",
            line=1,
        )
    return columns


def address_names(channel: str) -> frozenset[str]:
    """Headers that mean the address of a channel, without case, spaces and punctuation."""
    return _ADDRESS_NAMES.get(channel, frozenset({channel, "address"}))


def _targets(names: list[str], options: Options) -> list[str]:
    """Where each column of contacts goes; beside a column called e-mail one called address is where somebody lives."""
    targets = [_target(name, options) for name in names]
    if targets.count("address") > 1:
        for position, name in enumerate(names):
            if name not in options.mapping and plain_word(name) == "address":
                targets[position] = "attribute:address"
    return targets


def moved_targets(names: list[str], options: Options) -> list[str]:
    """Where each column of another system's suppressions or consents goes; what is not needed is never stored.

    Of several columns that could be the same, the one whose name says it best.
    """
    wanted = _MOVED[options.kind]
    targets = ["ignore"] * len(names)
    for position, name in enumerate(names):
        if (chosen := options.mapping.get(name)) is not None:
            if chosen not in wanted and chosen != "ignore":
                allowed = ", ".join(sorted(wanted))
                raise Refused("bad_mapping", f"{chosen[:80]!r}: must be one of {allowed}, ignore", field="mapping")
            targets[position] = chosen
    for target, words in wanted.items():
        if target in targets or (target == "reason" and options.reason is not None):
            continue
        known = sorted(address_names(options.channel), key=len, reverse=True) if target == "address" else words
        found = {plain_word(name): n for n, name in reversed(list(enumerate(names))) if name not in options.mapping}
        position = next((found[word] for word in known if word in found), -1)
        if position >= 0 and targets[position] == "ignore":
            targets[position] = target
    return targets


def plain_word(header: str) -> str:
    """A header without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", header.casefold())


def _column(name: str, target: str, definitions: Mapping[str, Typed]) -> Column:
    defined = definitions.get(target.removeprefix("attribute:")) if target.startswith("attribute:") else None
    return Column(name, target, Holds(defined.type, defined.choices) if defined is not None else None)


def _target(name: str, options: Options) -> str:
    chosen = options.mapping.get(name)
    if chosen is not None:
        return _chosen(chosen)
    if len(name) > LONGEST_HEADER or any(unicodedata.category(c)[0] == "C" for c in name):
        raise Refused(
            "bad_header",
            f"a column name has more than {LONGEST_HEADER} or unprintable characters",
            field="file",
            line=1,
        )
    word = plain_word(name)
    if word in _IGNORED or word.startswith(_ONLY_TOLD):
        return "ignore"
    if word in address_names(options.channel):
        return "address"
    return _NAMES.get(word) or f"attribute:{attribute_key(name)}"


def attribute_key(header: str) -> str:
    """The attribute a column becomes: `First Name` is first_name; letters without an ASCII base make column names."""
    plain = unicodedata.normalize("NFKD", header.casefold().replace("ß", "ss")).encode("ascii", "ignore").decode()
    key = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:63]
    if not re.match(r"[a-z]", key):
        raise Refused(
            "bad_header",
            f"the column {header[:80]!r} needs a name with a Latin letter first, or a mapping",
            field="file",
            line=1,
        )
    return key


def _chosen(target: str) -> str:
    if target in _FIELDS or target == "ignore":
        return target
    kind, _, key = target.partition(":")
    if kind == "attribute" and re.fullmatch(r"[a-z][a-z0-9_]{0,62}", key):
        return target
    raise Refused(
        "bad_mapping",
        f"{target[:80]!r}: must be one of {', '.join(sorted(_FIELDS))}, ignore, attribute:key",
        field="mapping",
    )
