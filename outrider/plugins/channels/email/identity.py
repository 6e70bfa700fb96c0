"""Who a message comes from: every field checked when a sender is saved.

Owns the refusals of a sender's addresses, name, headers and keys. Never decides whether a domain is verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Identity
from outrider.plugins.channels.email import dkim, headers
from outrider.plugins.channels.email.address import normalise, parse_mailbox

_LONGEST_NAME = 200
_LONGEST_POSTAL_ADDRESS = 500
T = TypeVar("T")


def check_identity(identity: Identity) -> tuple[Identity, list[str]]:
    """Check and complete an identity; see `contracts.channel.Channel.check_identity`.

    Raises:  RefusedMany naming every field that is wrong.
    """
    errors: list[Refused] = []
    warnings: list[str] = []

    def tried(check: Callable[[], T], otherwise: T) -> T:
        try:
            return check()
        except Refused as error:
            errors.append(error)
            return otherwise

    name, address = tried(lambda: parse_mailbox(identity.from_address, field="from_address"), ("", ""))
    name = identity.from_name.strip() or name
    tried(lambda: _check_name(name), None)
    reply_to = tried(lambda: normalise(identity.reply_to, field="reply_to") if identity.reply_to else "", "")
    return_path = tried(lambda: _return_path(identity.return_path), "")
    tried(lambda: _check_postal_address(identity.postal_address), None)
    tried(lambda: headers.check_custom(identity.headers), None)
    if identity.opt_out_line:
        errors.append(Refused("not_for_channel", "an email carries a link to unsubscribe", field="opt_out_line"))
    for index, key in enumerate(identity.dkim):
        field = f"dkim.{index}"
        warnings += tried(lambda key=key, field=field: dkim.check(key, field=field), [])  # type: ignore[misc]  # bound now
        if address and not _is_aligned(address.rpartition("@")[2], key.domain.lower()):
            warnings.append(
                f"{field}: d={key.domain} is not the domain of {address}: DMARC does not count this signature"
            )
    if errors:
        raise RefusedMany(errors)
    checked = replace(
        identity, from_address=address, from_name=name, reply_to=reply_to, return_path=return_path, opt_out_line=""
    )
    return checked, warnings


def _return_path(given: str) -> str:
    """Where messages come back; `*@domain` stays, with the domain in its stored form."""
    if not given.startswith("*@"):
        return normalise(given, field="return_path") if given else ""
    domain = normalise(f"b{given[1:]}", field="return_path").rpartition("@")[2]
    return f"*@{domain}"


def _check_name(name: str) -> None:
    problem = headers.text_problem(name)
    if problem or len(name) > _LONGEST_NAME:
        raise Refused("invalid_header", problem or f"has more than {_LONGEST_NAME} characters", field="from_name")


def _check_postal_address(text: str) -> None:
    if len(text) > _LONGEST_POSTAL_ADDRESS or any(headers.text_problem(line) for line in text.splitlines()):
        detail = f"must be lines of printable text, at most {_LONGEST_POSTAL_ADDRESS} characters"
        raise Refused("invalid_postal_address", detail, field="postal_address")


def _is_aligned(from_domain: str, signing_domain: str) -> bool:
    """Whether one domain is the other or below it: what relaxed DMARC alignment needs at least."""
    return (
        from_domain == signing_domain
        or from_domain.endswith(f".{signing_domain}")
        or signing_domain.endswith(f".{from_domain}")
    )
