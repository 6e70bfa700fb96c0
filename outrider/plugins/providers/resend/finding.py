"""Asking Resend which emails it has: what became of messages whose answer was lost and whose key is of no use any more.

Needs a key with full access; one that may only send cannot tell, and then nothing is said about any message.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from outrider.base.clock import utc_now
from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Lost
from outrider.data.http_account import object_in
from outrider.data.http_out import HttpOut, Reply
from outrider.data.mail_parts import MailParts, parts_of
from outrider.plugins.providers.resend.answers import is_id
from outrider.plugins.providers.resend.settings import MESSAGE_TAG

_PAGE: Final = 100
_MOST_PAGES: Final = 50
_OK: Final = 200
_NOT_ALLOWED: Final = frozenset({401, 403})
_SLACK: Final = timedelta(seconds=60)
"""Their clock against ours."""
_KEPT: Final = timedelta(hours=23, minutes=30)
"""So long every account shows its emails, by the smallest plan a day; the rest is in case they count otherwise."""
Turn = Callable[[], Awaitable[None]]


async def find(http: HttpOut, turn: Turn, lost: Sequence[Lost]) -> dict[UUID, str | None]:
    """The id of each message's email, None where there certainly is none; what cannot be told is missing.

    Raises:  Unavailable when the account cannot be asked now.
    """
    if not lost:
        return {}
    listed = await _listed(http, turn, min(each.since for each in lost) - _SLACK)
    if listed is None:
        return {}
    emails, whole_since = listed
    found: dict[UUID, str | None] = {}
    taken: set[str] = set()
    for each in lost:
        parts = parts_of(each.body)
        unclear = False
        for email in emails.get(_folded(each.address), ()):
            if email["id"] in each.known_ids | taken or email.get("subject") != parts.subject:
                continue
            is_it = _is_it(await _object(http, turn, f"/emails/{quote(email['id'])}"), each, parts)
            if is_it:
                found[each.id] = email["id"]
                taken.add(email["id"])
                break
            unclear |= is_it is None
        else:
            if whole_since is not None and each.since - _SLACK >= whole_since and not unclear:
                found[each.id] = None
    return found


async def _listed(
    http: HttpOut, turn: Turn, since: datetime
) -> tuple[dict[str, list[dict[str, Any]]], datetime | None] | None:
    """Emails since a moment by recipient, oldest first, and since when that is all of them; None: the key must not ask.

    Recipients are `_folded`. Accounts keep their emails for a day, some longer: a list that ends says nothing about
    what is older than its end.

    Raises:  Unavailable.
    """
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    after, whole_since = "", utc_now() - _KEPT
    for _ in range(_MOST_PAGES):
        said = await _object(http, turn, f"/emails?limit={_PAGE}{f'&after={quote(after)}' if after else ''}")
        if said is None:
            return None
        listed = said.get("data")
        if not isinstance(listed, list):  # an answer that lists nothing does not say that there is nothing
            raise Unavailable("provider_unavailable", "the provider cannot be asked now")
        page = [each for each in listed if isinstance(each, dict) and is_id(each.get("id"))]
        for email in page:
            made = moment_of(email.get("created_at"))
            if made is not None and made < since:
                return found, since
            whole_since = whole_since if made is None else min(whole_since, made)
            recipients = email.get("to")
            if isinstance(recipients, list) and len(recipients) == 1 and isinstance(recipients[0], str):
                found[_folded(recipients[0])].insert(0, email)
        if not said.get("has_more"):
            return found, whole_since
        if not page:
            break
        after = page[-1]["id"]
    return found, None


def _folded(address: str) -> str:
    """An address as it is compared: theirs may be written in other cases than it was given. Tag or text decide."""
    return address.casefold()


def _is_it(email: Mapping[str, Any] | None, lost: Lost, parts: MailParts) -> bool | None:
    """Whether an email is a message: by its tag, else by its text; None when that cannot be told."""
    tagged = message_of((email or {}).get("tags"))
    if tagged is not None:
        return tagged == lost.id
    pairs = [(parts.html, (email or {}).get("html")), (parts.text, (email or {}).get("text"))]
    same = [ours == theirs for ours, theirs in pairs if ours is not None and isinstance(theirs, str)]
    return True if same and all(same) else None


def message_of(tags: object) -> UUID | None:
    """Our id of a message among the tags of an email: a list in answers, an object in events."""
    value: object = None
    if isinstance(tags, dict):
        value = tags.get(MESSAGE_TAG)
    elif isinstance(tags, list):
        values = [each.get("value") for each in tags if isinstance(each, dict) and each.get("name") == MESSAGE_TAG]
        value = values[0] if values else None
    try:
        return UUID(value) if isinstance(value, str) else None
    except ValueError:
        return None


async def _object(http: HttpOut, turn: Turn, path: str) -> dict[str, Any] | None:
    """One answer; None when the key must not ask.

    Raises:  Unavailable.
    """
    await turn()
    reply = await http.ask("GET", path)
    if isinstance(reply, Reply):
        if reply.status in _NOT_ALLOWED:
            return None
        said = object_in(reply.body) if reply.status == _OK else None
        if said is not None:
            return said
    raise Unavailable("provider_unavailable", "the provider cannot be asked now")


def moment_of(text: object) -> datetime | None:
    """A time as the API writes it, with a space or a T, and a zone of two digits or four."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
