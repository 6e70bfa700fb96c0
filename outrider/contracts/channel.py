"""What a channel is: it knows its addresses and turns content into bytes.

A channel is one file or package `plugins/channels/<key>` with a module-level `CHANNEL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from outrider.contracts.provider import Outgoing


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with the message. `name` has passed the channel's check; content is raw bytes."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Tracking:
    """What is noticed about recipients of a content: that they opened it, that they followed a link."""

    opens: bool = False
    clicks: bool = False


UNTRACKED = Tracking()


@dataclass(frozen=True, slots=True)
class Link:
    """A link whose clicks are noticed. Its destination is kept in the database; the address in the message names `key`.

    key     the same for the same link, whatever is around it; 64 bits, signed, never 0
    url     as its author wrote it, for people
    parts   texts, and for variables (path, default): joined they are the destination
    """

    key: int
    url: str
    parts: tuple[str | tuple[tuple[str, ...], str | None], ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent, before recipients are known: template sources and, where possible, their compiled form.

    subject, html, text are template sources (minijinja); at least one of html and text for email. `compiled`
    is what `Channel.compile` gave at save time, or None when rendering needs the child process. `version_key` names the
    content: equal keys mean equal content (template version id, or a hash of inline content). Without `is_template` the
    sources are literal: braces in them mean nothing and are sent as they are.
    """

    version_key: str
    subject: str
    html: str | None
    text: str | None
    preheader: str = ""
    compiled: Mapping[str, Any] | None = None
    attachments: tuple[Attachment, ...] = ()
    is_template: bool = True
    tracking: Tracking = UNTRACKED


@dataclass(frozen=True, slots=True)
class Manuscript:
    """What an author wrote, before it is content: MJML or HTML, text or none.

    inline_css  put style rules into the elements they are for, as mail programs need it
    auto_text   make the text part from the HTML when there is none; one that was written is never touched
    """

    mjml: str | None = None
    html: str | None = None
    text: str | None = None
    inline_css: bool = True
    auto_text: bool = True


@dataclass(frozen=True, slots=True)
class Written:
    """The parts made of a manuscript, and what its author should know about the making."""

    html: str | None
    text: str | None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LinkNote:
    """One thing about one address in a content.

    severity  error: it leads nowhere for recipients; warning: probably not meant; info: worth knowing
    part      html, text or preheader; `url` as written; `line` from 1, 0 for the content as a whole
    """

    severity: Literal["error", "warning", "info"]
    code: str
    part: str
    line: int
    url: str
    detail: str


@dataclass(frozen=True, slots=True)
class Dkim:
    """A signing key: private key as PEM; algorithm follows from it (RSA or Ed25519)."""

    domain: str
    selector: str
    private_key_pem: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a message comes from, as frozen with the sender.

    return_path   where messages come back; `*@domain`: each message to an address of its own there
    public_url    the base of links to unsubscribe and to the web version; empty: the installation's
    tracking_url  the base of tracked links; empty: `public_url`
    opt_out_line  what a bulk text says at its end about the way out, on channels where people answer; empty: nothing;
                  None: not chosen, so the channel's own words
    has_preferences_footer  whether the footer of bulk emails shows the way to the preference centre too
    """

    sender_id: UUID
    from_address: str
    from_name: str = ""
    reply_to: str = ""
    return_path: str = ""
    postal_address: str = ""
    dkim: tuple[Dkim, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    public_url: str = ""
    tracking_url: str = ""
    opt_out_line: str | None = None
    has_preferences_footer: bool = False


@dataclass(slots=True)
class Item:
    """One recipient of a batch. `variables` is the raw JSON object text from the ledger, never parsed by callers."""

    id: UUID
    address: str
    variables: str | None
    dated_at: datetime
    unsubscribe_url: str = ""
    """Empty for transactional messages: no List-Unsubscribe header, no footer."""
    return_address: str = ""
    """Where this message comes back; empty: where the identity says."""
    web_version_url: str = ""
    """What `{{ web_version_url }}` is; asked for by `Composer.has_web_version`."""
    preferences_url: str = ""
    """What `{{ preferences_url }}` is; asked for by `Composer.has_preferences`, for bulk also by its footer."""
    open_url: str = ""
    click_urls: tuple[str, ...] = ()
    """One per link of `Composer.links`, in their order; both only for tracked content."""
    from_address: str = ""
    """What this recipient's messages come from, where the sender has several; empty: the identity's."""


@dataclass(frozen=True, slots=True)
class Unrenderable:
    """This recipient's message cannot be made; the others are not concerned."""

    id: UUID
    detail: str


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """Why a template cannot be saved: the part it is in (subject, html, text), the line from 1, and what to mend."""

    part: str
    line: int
    detail: str


@dataclass(frozen=True, slots=True)
class AddressNotes:
    """What is worth knowing about a stored address; none of it makes the address invalid.

    is_role         a function and not a person (abuse, postmaster, noreply …): campaigns skip it by policy
    typo_hint       what was probably meant ("a@gmail.com"); never applied by itself
    is_mixed_script letters of several alphabets side by side, as look-alikes are made
    is_landline     a number of the fixed network, which takes an SMS rarely
    """

    is_role: bool = False
    typo_hint: str = ""
    is_mixed_script: bool = False
    is_landline: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """What a finished message comes to on a channel that is billed by parts.

    encoding    GSM-7 or UCS-2
    segments    parts that are sent and billed
    units       septets, or UTF-16 code units; `units_left`: how many more fit before another part is needed
    odd         the characters that force UCS-2, each once, at most ten
    """

    encoding: str
    segments: int
    characters: int
    units: int
    units_left: int
    odd: str = ""


class Renderer(Protocol):
    """Runs tenants' templates in child processes with limits; a dead child fails its template's messages only."""

    async def check(self, sources: Mapping[str, str], version_key: str) -> list[TemplateProblem]:
        """Try templates at save time, with no data: syntax, names of filters, and the limits.

        Gives:   every problem found; empty when the templates may be saved. What depends on a recipient's data shows
                 only in `render`.
        Raises:  Unavailable when no child process can be had.
        """
        ...

    async def render(
        self, sources: Mapping[str, str], version_key: str, contexts: Sequence[str]
    ) -> list[dict[str, str] | str]:
        """Render every source for every context.

        Takes:   sources: part name -> template source; a name ending in `html` is auto-escaped. contexts: 1..1000 raw
                 JSON object texts.
        Gives:   per context a dict part -> text, or a str: why it could not be rendered.
        Raises:  Unavailable when no child process can be had; nothing was rendered.
        """
        ...


class Composer(Protocol):
    """Makes the bytes of one content and one identity; cached by the worker."""

    @property
    def links(self) -> Sequence[Link]:
        """The links whose clicks are noticed: empty unless the content is tracked."""
        ...

    @property
    def has_pixel(self) -> bool:
        """Whether messages show that they were opened."""
        ...

    @property
    def has_web_version(self) -> bool:
        """Whether the content shows a link to its web version."""
        ...

    @property
    def has_preferences(self) -> bool:
        """Whether the content shows a link to the recipient's preference centre."""
        ...

    @property
    def has_preferences_footer(self) -> bool:
        """Whether bulk messages may show that link without the content saying so."""
        ...

    async def page(self, item: Item) -> str | Unrenderable:
        """The message as a page for a browser: HTML, as harmless as the content was found at save time.

        Raises:  Unavailable when the renderer has no child process.
        """
        ...

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        """One answer per item, in order. The bytes are a pure function of content, identity and item."""
        ...


class Channel(Protocol):
    """One way of reaching people."""

    key: str
    help: str
    is_regional: bool
    """Whether an address may be typed as people of one country do, so that `normalise` needs to know which."""
    is_repeatable: bool
    """Whether a transactional message may go twice when its answer was lost, unless its sender says otherwise."""

    def normalise(self, address: str, *, field: str = "address", region: str = "") -> str:
        """The one stored form of an address. Raises Refused(invalid_address …) naming `field`.

        Takes:   region: ISO 3166 country in which it was typed, for regional channels; empty: the international form.
        """
        ...

    def notes(self, address: str) -> AddressNotes:
        """Look at an address in its stored form: role, probable typing mistake, mixed alphabets."""
        ...

    def check_identity(self, identity: Identity) -> tuple[Identity, list[str]]:
        """Check who a message comes from when a sender is saved; addresses become their stored form.

        Takes:   from_address may be the documented form `Name <a@b.example>`; its name serves when from_name is empty.
        Gives:   the identity to store, and warnings worth showing (weak keys).
        Raises:  Refused or RefusedMany naming from_address, from_name, reply_to, return_path, headers or dkim.
        """
        ...

    async def write(self, manuscript: Manuscript, renderer: Renderer) -> Written:
        """Make the parts of a template from what its author wrote; once, when it is saved.

        Raises:  Refused naming mjml, html or text, with the line where there is one.
        """
        ...

    def review(self, content: Content, *, is_bulk: bool) -> list[LinkNote]:
        """Look at the addresses in a content; dials nobody."""
        ...

    def links(self, content: Content) -> list[str]:
        """The web addresses in a content that are the same for everybody, each once: those that could be dialled."""
        ...

    def measure(self, body: bytes) -> Measure | None:
        """How many parts a finished message is sent and billed as; None where messages are not counted in parts."""
        ...

    async def compile(self, content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
        """Check content at save time (rendered once in a child) and compile it if it only substitutes variables.

        Gives:   JSON-able compiled form, or None when every send needs the child process.
        Raises:  Refused naming subject, html or text, with the line.
        """
        ...

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        """A composer for this content; cheap enough to make per claim, worth caching."""
        ...
