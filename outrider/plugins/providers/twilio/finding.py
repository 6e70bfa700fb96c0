"""Asking Twilio which messages it has: what became of those whose answer was lost.

Owns how far a list is read: page by page to its end, each number's once. What stands in it was taken, however long it
is; that a message is not in it is only said of one that was read whole.

Source:  twilio.com/docs/messaging/api/message-resource (list, paging)
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import structlog

from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Lost
from outrider.data.http_account import object_in
from outrider.data.http_out import HttpOut, Reply
from outrider.plugins.providers.twilio.answers import is_sid

PAGE: Final = 1000
MOST_PAGES: Final = 20
"""Of one number: what is behind them is looked at by people, in the provider's own log."""
_PAUSE_S: Final = 0.1
_OK: Final = 200
_log = structlog.get_logger(__name__)
Listed = list[Mapping[str, Any]]


async def find(http: HttpOut, path: str, lost: Sequence[Lost]) -> dict[UUID, str | None]:
    """The id of each message, None where there certainly is none; what cannot be told is missing.

    Takes:   path of the account's list of messages.
    Raises:  Unavailable when the account cannot be asked now.
    """
    by_number: dict[str, list[Lost]] = defaultdict(list)
    for each in lost:
        by_number[each.address].append(each)
    found: dict[UUID, str | None] = {}
    for number, ours in by_number.items():
        listed, is_whole = await _listed(http, path, number, {each.body.decode() for each in ours})
        taken: set[str] = set()
        for each in ours:
            candidates = [sid for sid in _alike(listed, each) if sid not in each.known_ids | taken]
            # of several alike it does not matter which is which: the same text reached the same person
            if candidates or is_whole:
                found[each.id] = candidates[-1] if candidates else None
            taken.update(candidates[-1:])
        undecided = [str(each.id) for each in ours if each.id not in found]
        if undecided:
            _log.warning(
                "reconciling_undecided", messages=undecided, why=f"more than {MOST_PAGES * PAGE} texts to one number"
            )
    return found


async def _listed(http: HttpOut, path: str, number: str, texts: set[str]) -> tuple[Listed, bool]:
    """Messages to a number that say one of some texts, the latest first, and whether that is all of them.

    Never asked for by when they were sent: what still waits at the provider was not sent yet, but it was taken.
    """
    kept: Listed = []
    url: object = f"{path}?{urlencode({'To': number, 'PageSize': PAGE})}"
    for page in range(MOST_PAGES):
        # the address of the next page is the provider's word: only one of this account's list is followed
        if not isinstance(url, str) or not url.startswith(f"{path}?"):
            raise Unavailable("provider_unavailable", "the provider's list goes on somewhere else")
        if page:
            await asyncio.sleep(_PAUSE_S)
        reply = await http.ask("GET", url)
        said = object_in(reply.body) if isinstance(reply, Reply) and reply.status == _OK else None
        listed = said.get("messages") if said is not None else None
        if said is None or not isinstance(listed, list):
            raise Unavailable("provider_unavailable", "the provider cannot be asked now")
        # a body may be anything: what is no text can be none of ours, and cannot be looked for in a set
        kept += [each for each in listed if isinstance(each, dict) and _text(each.get("body")) in texts]
        url = said.get("next_page_uri")
        if not url:
            return kept, True
    return kept, False


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _alike(listed: Listed, lost: Lost) -> list[str]:
    """Ids of messages with the text of one, made since the day of its attempt."""
    text = lost.body.decode()
    return [
        each["sid"]
        for each in listed
        if each["body"] == text and is_sid(str(each.get("sid"))) and _made_since(each.get("date_created"), lost.since)
    ]


def _made_since(made: object, since: datetime) -> bool:
    """Whether a message was made on the day of an attempt or later; one that does not say when may have been."""
    try:
        return parsedate_to_datetime(str(made)).astimezone(UTC).date() >= since.astimezone(UTC).date()
    except (ValueError, OverflowError):
        return True
