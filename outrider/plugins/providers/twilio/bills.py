"""What messages cost: read from the list of messages, page by page, and one by one what no page had.

Twilio knows a price some time after a message was sent; callbacks nearly never carry it. Owns the pace of asking: one
request after another, with a pause between.

Source:  twilio.com/docs/messaging/api/message-resource (list, price, price_unit)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Bill
from outrider.data.http_account import object_in
from outrider.data.http_out import HttpOut, Reply

_PAGE: Final = 1000
_MOST_PAGES: Final = 10
_MOST_SINGLES: Final = 20
_FEW: Final = 5
_PAUSE_S: Final = 0.1
_EARLIER = timedelta(minutes=1)
_LATER = timedelta(hours=1)
_OK, _UNKNOWN = 200, 404
_AMOUNT: Final = re.compile(r"-?\d{1,6}(?:\.\d{1,8})?")
_CURRENCY: Final = re.compile(r"[A-Za-z]{3}")


async def bills(http: HttpOut, path: str, sent: Mapping[str, datetime]) -> dict[str, Bill]:
    """What messages of an account cost, by their ids; see `contracts.callbacks.Bills`."""
    seen: dict[str, Bill | None] = {}
    if len(sent) > _FEW:
        await _listed(http, path, sent, seen)
    for sid in [each for each in sent if each not in seen][:_MOST_SINGLES]:
        said = await _asked(http, f"{path}/Messages/{sid}.json")
        if said is not None:
            seen[sid] = bill_of(said.get("price"), said.get("price_unit"))
        await asyncio.sleep(_PAUSE_S)
    return {sid: bill for sid, bill in seen.items() if bill is not None and sid in sent}


def bill_of(price: object, unit: object) -> Bill | None:
    """A price as Twilio writes it: what it takes from the account is negative; none while it is not known."""
    if not isinstance(price, str) or not isinstance(unit, str):
        return None
    if not _AMOUNT.fullmatch(price) or not _CURRENCY.fullmatch(unit):
        return None
    return Bill(abs(Decimal(price)), unit.upper())


async def _listed(http: HttpOut, path: str, sent: Mapping[str, datetime], seen: dict[str, Bill | None]) -> None:
    """Look through the messages sent in the hours in question."""
    span = {
        "PageSize": _PAGE,
        "DateSent>": f"{min(sent.values()).astimezone(UTC) - _EARLIER:%Y-%m-%dT%H:%M:%SZ}",
        "DateSent<": f"{max(sent.values()).astimezone(UTC) + _LATER:%Y-%m-%dT%H:%M:%SZ}",
    }
    url: object = f"{path}/Messages.json?{urlencode(span)}"
    for _ in range(_MOST_PAGES):
        # the address of the next page is the provider's word: only one of this account's list is followed
        if not isinstance(url, str) or not url.startswith(f"{path}/Messages.json?"):
            return
        said = await _asked(http, url)
        listed = said.get("messages") if said is not None else None
        if said is None or not isinstance(listed, list):
            raise Unavailable("provider_unavailable", "the provider cannot be asked now")
        for each in listed:
            if isinstance(each, dict) and isinstance(each.get("sid"), str) and each["sid"] in sent:
                seen[each["sid"]] = bill_of(each.get("price"), each.get("price_unit"))
        if len(seen) == len(sent):
            return
        url = said.get("next_page_uri")
        await asyncio.sleep(_PAUSE_S)


async def _asked(http: HttpOut, url: str) -> dict[str, Any] | None:
    """An answer; None where there is no such message.

    Raises:  Unavailable.
    """
    reply = await http.ask("GET", url)
    if isinstance(reply, Reply) and reply.status == _UNKNOWN:
        return None
    said = object_in(reply.body) if isinstance(reply, Reply) and reply.status == _OK else None
    if said is None:
        raise Unavailable("provider_unavailable", "the provider cannot be asked now")
    return said
