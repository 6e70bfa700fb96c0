"""Making the text of an SMS for one recipient: from pieces where the content only substitutes, else by the engine.

A message is a pure function of content, identity and item. Never reads a clock, a random number or a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import orjson

from outrider.contracts.channel import Content, Identity, Item, Link, Renderer, Unrenderable
from outrider.contracts.provider import Outgoing
from outrider.data.slots import Failed, Missing, NotPlain, fill
from outrider.plugins.channels.sms.text import UNSUBSCRIBE, problem_of, read_compiled, way_out, with_lf


class SmsComposer:
    """Implements `contracts.channel.Composer` for one content and one identity."""

    links: Sequence[Link] = ()
    has_pixel = False
    has_web_version = False
    has_preferences = False
    has_preferences_footer = False

    def __init__(self, content: Content, identity: Identity, renderer: Renderer) -> None:
        self._identity = identity
        self._renderer = renderer
        self._source = with_lf(content.text or "")
        self._version_key = content.version_key
        self._pieces = read_compiled(content)

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        """One answer per item, in order; see `contracts.channel.Composer`.

        Raises:  Unavailable when the renderer has no child process.
        """
        made = await self._texts(items)
        return [self._outgoing(item, text) for item, text in zip(items, made, strict=True)]

    async def page(self, item: Item) -> str | Unrenderable:
        """The text for a browser."""
        (text,) = await self._texts([item])
        if isinstance(text, Unrenderable):
            return text
        return f'<!doctype html><meta charset="utf-8"><pre style="white-space:pre-wrap">{escape(text)}</pre>'

    async def _texts(self, items: Sequence[Item]) -> list[str | Unrenderable]:
        made: list[str | Unrenderable | None] = [self._from_pieces(item) for item in items]
        waiting = [at for at, text in enumerate(made) if text is None]
        if waiting:
            contexts = [_context(items[at]) for at in waiting]
            answers = await self._renderer.render({"text": self._source}, self._version_key, contexts)
            for at, answer in zip(waiting, answers, strict=True):
                if isinstance(answer, str):
                    made[at] = Unrenderable(items[at].id, answer)
                else:
                    made[at] = self._finished(answer["text"], items[at])
        return [text for text in made if text is not None]

    def _from_pieces(self, item: Item) -> str | Unrenderable | None:
        """The text from compiled pieces; None when the engine has to make it."""
        if self._pieces is None:
            return None
        try:
            return self._finished(fill(self._pieces, _variables(item), is_html=False), item)
        except NotPlain:
            return None
        except Missing as missing:
            return Unrenderable(item.id, f"variable '{missing}' is missing")
        except Failed as error:
            return Unrenderable(item.id, str(error))

    def _finished(self, text: str, item: Item) -> str | Unrenderable:
        whole = with_lf(text).rstrip() + way_out(self._source, self._identity, item.unsubscribe_url)
        problem = problem_of(whole)
        return Unrenderable(item.id, f"text: {problem}") if problem else whole

    def _outgoing(self, item: Item, text: str | Unrenderable) -> Outgoing | Unrenderable:
        if isinstance(text, Unrenderable):
            return text
        sender = item.from_address or self._identity.from_address
        if sender == item.address:
            return Unrenderable(item.id, "the recipient is the number it would be sent from")
        return Outgoing(item.id, item.address, sender, text.encode(), str(item.id), is_8bit=not text.isascii())


def _variables(item: Item) -> dict[str, Any]:
    """The variables of an item, with the system's own.

    Raises:  NotPlain for what is no JSON; Failed for what is no JSON object.
    """
    variables: Any = {}
    if item.variables and item.variables != "{}":
        try:
            variables = orjson.loads(item.variables)
        except orjson.JSONDecodeError:
            raise NotPlain from None  # the engine says what is wrong
        if type(variables) is not dict:
            raise Failed("variables: the variables are not a JSON object")
    if item.unsubscribe_url:
        variables[UNSUBSCRIBE] = item.unsubscribe_url
    else:
        variables.setdefault(UNSUBSCRIBE, "")
    return variables  # type: ignore[no-any-return]  # its type was just compared


def _context(item: Item) -> str:
    """The variables as JSON text for the engine; the last of equal keys counts, so a bulk message's link stands."""
    text = (item.variables or "{}").strip()
    if not text.startswith("{") or not text.endswith("}"):
        return text
    inner = text[1:-1].strip()
    link = f'"{UNSUBSCRIBE}":{orjson.dumps(item.unsubscribe_url).decode()}'
    members = [link, inner] if not item.unsubscribe_url else [inner, link]
    return f"{{{','.join(filter(None, members))}}}"
