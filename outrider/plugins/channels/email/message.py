"""Assembling the bytes of an email: constant pieces made once per content and sender, the rest joined per recipient.

Owns header order, MIME structure and the two ways to a message: from slots (compiled content) and from the engine.
A message is a pure function of content, identity and item. Never reads a clock, a random number or a network.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from outrider.contracts.channel import Content, Identity, Item, Renderer, Unrenderable
from outrider.contracts.provider import Outgoing
from outrider.data.slots import Failed, Missing, NotPlain, Slot, escape, fill, text_of
from outrider.data.template_syntax import split
from outrider.plugins.channels.email import headers, html_policy
from outrider.plugins.channels.email.body import (
    PREFERENCES,
    UNSUBSCRIBE,
    WEB_VERSION,
    Footer,
    end_of_body,
    html_footer,
    html_shows,
    shows_link,
    sources_of,
    text_footer,
)
from outrider.plugins.channels.email.compile import Compiled, read_compiled
from outrider.plugins.channels.email.dkim import Signer
from outrider.plugins.channels.email.encoding import choose, encode, is_sendable, with_crlf
from outrider.plugins.channels.email.frame import Envelope, Frame
from outrider.plugins.channels.email.links import filled, in_attribute
from outrider.plugins.channels.email.substitution import Substitution, Unfit
from outrider.plugins.channels.email.tracked import prepared

_ADDRESS = re.compile(r'[^\x00-\x20\x7f<>()\[\],;:\\"@]+@[^\x00-\x20\x7f<>()\[\],;:\\"@]+')
_LINK = re.compile(r"https?://[\x21\x23-\x3b\x3d\x3f-\x7e]{1,900}")
_SIGNED_BETWEEN_PAUSES = 8
"""RSA takes a third of a millisecond and holds the interpreter: other work of the loop goes between."""


class EmailComposer:
    """Implements `contracts.channel.Composer` for one content and one identity."""

    def __init__(self, content: Content, identity: Identity, renderer: Renderer) -> None:
        self._content = content
        self._identity = identity
        self._renderer = renderer
        self._frame = Frame(content, identity)
        compiled = read_compiled(content)
        sources = sources_of(content)
        if compiled is None and not content.is_template:
            compiled = {part: [source] for part, source in sources.items()}
        made = prepared(content, sources, compiled)
        self._sources, compiled, self.links = made.sources, made.compiled, made.links
        is_changed = made.sources is not sources  # the renderer keeps templates by their key
        self._version_key = (
            f"{content.version_key}/{int(content.tracking.opens)}{int(content.tracking.clicks)}"
            if is_changed
            else content.version_key
        )
        self._link_slots = [Slot(*part) for link in made.links for part in link.parts if not isinstance(part, str)]
        self.has_pixel = is_changed and content.tracking.opens
        self._address_count = 1 + len(made.links) if made.links or self.has_pixel else 0
        self.has_web_version = any(WEB_VERSION in source for source in sources.values())
        self.has_preferences = any(PREFERENCES in source for source in sources.values())
        self.has_preferences_footer = identity.has_preferences_footer and _may_need_footer(compiled)
        self._footer = Footer(identity.postal_address, self.has_preferences_footer)
        self._substitution = Substitution(compiled, self._frame, self._footer) if compiled else None
        self._signer = Signer(identity.dkim) if identity.dkim else None
        self._sender_is_ascii = identity.from_address.isascii() and identity.reply_to.isascii()
        is_own = identity.return_path.startswith("*@")  # then each item has an address of its own
        self._return_path = identity.from_address if is_own else identity.return_path or identity.from_address
        self._has_url_places: bool | None = None
        self._dated: tuple[datetime | None, str] = (None, "")

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        """One answer per item, in order; see `contracts.channel.Composer`.

        Raises:  Unavailable when the renderer has no child process.
        """
        made: list[Outgoing | Unrenderable | None] = [self._from_slots(item) for item in items]
        waiting = [at for at, result in enumerate(made) if result is None]
        if waiting:
            contexts = [self._context(items[at]) for at in waiting]
            answers = await self._renderer.render(self._sources, self._version_key, contexts)
            for at, answer in zip(waiting, answers, strict=True):
                made[at] = self._from_engine(items[at], answer)
        done = [result for result in made if result is not None]
        if self._signer:
            await self._sign(done, items, self._signer)
        return done

    async def page(self, item: Item) -> str | Unrenderable:
        """The message for a browser: its HTML with the footer, else its text; see `contracts.channel.Composer`."""
        try:
            parts = self._page_parts(item)
        except NotPlain:
            (answer,) = await self._renderer.render(self._sources, self._version_key, [self._context(item)])
            if isinstance(answer, str):
                return Unrenderable(item.id, answer)
            problem = html_policy.rendered_problem(answer["html"]) if "html" in answer else None
            if problem:
                return Unrenderable(item.id, f"html: {problem}")
            parts = answer
        except (Missing, Failed, ValueError) as error:
            return Unrenderable(item.id, str(error))
        if "html" in parts:
            return self._finished("html", parts["html"], item)
        text = self._finished("text", parts["text"], item)
        return f'<!doctype html><pre style="white-space:pre-wrap">{escape(text)}</pre>'

    def _page_parts(self, item: Item) -> Mapping[str, str]:
        """The parts from compiled pieces. Raises NotPlain when the engine has to make them; Missing, Failed."""
        if self._substitution is None:
            raise NotPlain
        return _filled(self._substitution, self._variables(item))

    async def _sign(self, made: Sequence[Outgoing | Unrenderable], items: Sequence[Item], signer: Signer) -> None:
        for number, (message, item) in enumerate(zip(made, items, strict=True)):
            if isinstance(message, Outgoing):
                message.body = signer.sign(message.body, item.dated_at) + message.body
            if number % _SIGNED_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)

    def _from_slots(self, item: Item) -> Outgoing | Unrenderable | None:
        """The message from compiled pieces; None when the engine has to make it."""
        substitution = self._substitution
        if substitution is None:
            return None
        try:
            variables = self._variables(item)
            envelope = self._envelope(item)
            addresses = self._addresses(item)
            for slot in self._link_slots:  # what the destination needs must be there, as if it were written here
                text_of(slot, variables)
            try:
                body = substitution.assemble(variables, envelope, addresses)
            except Unfit:
                body = self._assemble(item, envelope, _filled(substitution, variables), addresses)
        except NotPlain:
            return None
        except Missing as missing:
            return Unrenderable(item.id, f"variable '{missing}' is missing")
        except (Failed, ValueError) as error:
            return Unrenderable(item.id, str(error))
        return self._outgoing(item, envelope, body)

    def _from_engine(self, item: Item, answer: Mapping[str, str] | str) -> Outgoing | Unrenderable:
        """The message from what the child rendered."""
        if isinstance(answer, str):
            return Unrenderable(item.id, answer)
        try:
            if "html" in answer and self._must_check_urls():
                problem = html_policy.rendered_problem(answer["html"])
                if problem:
                    return Unrenderable(item.id, f"html: {problem}")
            envelope = self._envelope(item)
            body = self._assemble(item, envelope, answer, self._addresses(item))
        except (Failed, ValueError) as error:
            return Unrenderable(item.id, str(error))
        return self._outgoing(item, envelope, body)

    def _must_check_urls(self) -> bool:
        """Whether a value other than the system's own link may stand at the beginning of an address."""
        if self._has_url_places is None:
            source = self._sources["html"]
            expressions = [segment.text.strip() for segment in split(source) if segment.kind == "print"]
            places = html_policy.scan(source, is_template=True).places
            deciding = {text for text, place in zip(expressions, places, strict=True) if place == "url"}
            self._has_url_places = bool(deciding - {UNSUBSCRIBE, WEB_VERSION, PREFERENCES})
        return self._has_url_places

    def _envelope(self, item: Item) -> Envelope:
        """What is per recipient and not from variables.

        Raises:  Failed when address or link could not stand in a header.
        """
        if not _ADDRESS.fullmatch(item.address):
            raise Failed("the address is not in its stored form")
        if item.unsubscribe_url and not _LINK.fullmatch(item.unsubscribe_url):
            raise Failed("the unsubscribe link is not an http address in ASCII")
        if item.preferences_url and not _LINK.fullmatch(item.preferences_url):
            raise Failed("the link to the preference centre is not an http address in ASCII")
        moment, dated = self._dated
        if moment is not item.dated_at and moment != item.dated_at:
            dated = headers.date(item.dated_at)
            self._dated = (item.dated_at, dated)
        return Envelope(str(item.id), item.address, dated, item.unsubscribe_url)

    def _addresses(self, item: Item) -> list[str]:
        """What goes into the marks, by number: the pixel's address, then the links'.

        Raises:  Failed when one is missing or could not stand in HTML.
        """
        if not self._address_count:
            return []
        addresses = [item.open_url, *item.click_urls]
        if (self.has_pixel and not item.open_url) or len(addresses) < self._address_count:
            raise Failed("the content is tracked, but the message has no tracked addresses")
        if any(address and not _LINK.fullmatch(address) for address in addresses):
            raise Failed("a tracked address is not an http address in ASCII")
        return [in_attribute(address) for address in addresses]

    def _assemble(self, item: Item, envelope: Envelope, parts: Mapping[str, str], addresses: Sequence[str]) -> bytes:
        """The bytes of a message from whole rendered parts.

        Raises:  ValueError when a part has what cannot be sent.
        """
        subject = headers.one_line(parts["subject"])
        if not subject:
            raise Failed("the subject is empty")
        bodies = {}
        for part, text in parts.items():
            if part != "subject":
                if not is_sendable(text):
                    raise Failed(f"{part}: has NUL, U+FFFE or U+FFFF, which cannot be sent")
                whole = with_crlf(self._finished(part, text, item))
                if addresses and part == "html":
                    whole = filled(whole, addresses)
                encoding = choose(whole)
                bodies[part] = (encoding, encode(whole, encoding))
        return self._frame.join(envelope, headers.unstructured("Subject", subject), bodies)

    def _finished(self, part: str, text: str, item: Item) -> str:
        """A rendered part with its last line end, and with the footer if it is bulk and shows no link [T52]."""
        is_html = part == "html"
        if not item.unsubscribe_url or _shows(text, item.unsubscribe_url, is_html=is_html):
            return self._ended(part, text)
        preferences = item.preferences_url
        has_preferences = self._footer.has_preferences and preferences != ""
        footer = self._footer._replace(
            has_preferences=has_preferences and not _shows(text, preferences, is_html=is_html)
        )
        variables = {UNSUBSCRIBE: item.unsubscribe_url, PREFERENCES: preferences}
        if not is_html:
            return f"{self._ended(part, text)}{fill(text_footer(footer), variables, is_html=False)}"
        at = end_of_body(text)
        return self._ended(part, f"{text[:at]}{fill(html_footer(footer), variables, is_html=True)}{text[at:]}")

    def _ended(self, part: str, text: str) -> str:
        """A part that ends with a line end: the source's own, or one more, whatever the values are."""
        return text if self._sources[part].endswith("\n") and text.endswith("\n") else f"{text}\n"

    def _outgoing(self, item: Item, envelope: Envelope, body: bytes) -> Outgoing:
        is_ascii = self._sender_is_ascii and item.address.isascii()
        return Outgoing(
            item.id,
            item.address,
            item.return_address or self._return_path,
            body,
            envelope.id,
            not is_ascii,
            not is_ascii,
        )

    def _variables(self, item: Item) -> dict[str, Any]:
        """The variables of an item, with the system's own.

        Raises:  Failed for what is no JSON object.
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
        if self.has_web_version:
            variables[WEB_VERSION] = item.web_version_url
        if self.has_preferences or self.has_preferences_footer:
            variables[PREFERENCES] = item.preferences_url
        return variables  # type: ignore[no-any-return]  # its type was just compared

    def _context(self, item: Item) -> str:
        """The variables of an item as JSON text for the engine, the system's own spliced in without parsing.

        The last of equal keys counts, so the link of a bulk message cannot be overridden [T50]; in a transactional
        message the caller's own link stands.
        """
        text = (item.variables or "{}").strip()
        if not text.startswith("{") or not text.endswith("}"):
            return text
        inner = text[1:-1].strip()
        link = f'"{UNSUBSCRIBE}":{orjson.dumps(item.unsubscribe_url).decode()}'
        members = [link, inner] if not item.unsubscribe_url else [inner, link]
        if self.has_web_version:
            members.append(f'"{WEB_VERSION}":{orjson.dumps(item.web_version_url).decode()}')
        if self.has_preferences:
            members.append(f'"{PREFERENCES}":{orjson.dumps(item.preferences_url).decode()}')
        return f"{{{','.join(filter(None, members))}}}"


def _may_need_footer(compiled: Compiled | None) -> bool:
    """Whether a part may come out without the unsubscribe link; what the engine renders shows that only then."""
    return compiled is None or not all(shows_link(pieces) for part, pieces in compiled.items() if part != "subject")


def _shows(text: str, url: str, *, is_html: bool) -> bool:
    """Whether a rendered part shows a link to a reader."""
    return html_shows(text, url, escape(url)) if is_html else url in text


def _filled(substitution: Substitution, variables: Mapping[str, Any]) -> dict[str, str]:
    """Whole parts from compiled pieces. Raises Missing, NotPlain, Failed."""
    parts = {part: fill(pieces, variables, is_html=part == "html") for part, pieces in substitution.parts.items()}
    substitution.check_urls(variables)
    return parts
