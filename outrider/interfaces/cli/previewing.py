"""What commands that show a message before it is sent share: for whom it is made, and how it is printed.

Owns the options and the wording; made as the worker makes it by `domain/templates/preview`, sent to nobody.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.views import ContactView
from outrider.domain.messages.quotes import PricedPreview, Quote
from outrider.domain.templates import preview as previews
from outrider.interfaces.cli import named
from outrider.interfaces.cli.output import facts

_SAMPLE_NAME = "Sample Recipient"
Values = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A value as name=text, in place of the contact's; several times."),
]
Contact = Annotated[str | None, Parameter(help="For this contact: an address or its id. Its values are put in.")]
Part = Annotated[Literal["text", "html"], Parameter(help="Which part to print.")]


async def person_of(uow: UnitOfWork, contact: str | None) -> ContactView | None:
    """The contact named, if one is.

    Raises:  Refused(not_found).
    """
    return await named.contact(uow, contact, None, field="--contact") if contact is not None else None


def values_of(person: ContactView | None, channel: str, address: str, given: list[str] | None) -> dict[str, str]:
    """What a template is rendered with beside a contact's values; without a contact, what every recipient has.

    Raises:  Refused(invalid_setting).
    """
    own = previews.ADDRESS_VARIABLES.get(channel, "address")
    values = {} if person is not None else {"name": _SAMPLE_NAME, own: address}
    return values | pairs_of(given)


def pairs_of(given: list[str] | None) -> dict[str, str]:
    """What was given as name=text, by name.

    Raises:  Refused(invalid_setting).
    """
    values = {}
    for each in given or ():
        name, sign, text = each.partition("=")
        if not sign or not name:
            raise Refused("invalid_setting", "must be name=text", field="--set")
        values[name] = text
    return values


def told(made: PricedPreview, address: str, part: Part) -> str:
    """A preview for people: what its channel has of subject and parts, what it costs, then the words."""
    head: dict[str, Any] = {"from": made.sender, "to": address}
    if made.measure is None:
        head |= {"subject": made.subject, "size bytes": made.size_bytes}
    else:
        size = made.measure
        head |= {"parts": size.segments, "encoding": size.encoding, "characters": size.characters}
    return f"{facts(head | price_facts(made.price))}\n--- {part}\n{getattr(made, part) or '(none)'}"


def price_facts(price: Quote) -> dict[str, Any]:
    """A price for people: of one message, and by country where it is not known who gets it."""
    parts = f"{price.parts} part{'s' * (price.parts > 1)}"
    head: dict[str, Any] = {}
    if price.country:
        head["country"] = price.country
    if price.per_part_micros is None or price.total_micros is None:
        head["price"] = price.note
    else:
        each = f" ({parts} at {_amount(price.per_part_micros)})" if price.parts > 1 else ""
        head["price"] = f"{_amount(price.total_micros)} {price.currency}{each}"
    for own in price.countries:
        head[f"to {own.country}"] = f"{_amount(own.total_micros)} {price.currency}"
    return head


def _amount(micros: int) -> str:
    """An amount in units of the currency, to the last digit that says something but at least cents."""
    text = f"{Decimal(micros) / 1_000_000:,.6f}".rstrip("0")
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<2}"
