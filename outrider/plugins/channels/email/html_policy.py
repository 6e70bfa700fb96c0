"""What the HTML of an email may hold, decided when it is saved: no script, no handlers, no frames, no forms.

Owns the scan of a template source: it follows HTML through template syntax, names the element and line it refuses, and
tells in which place every expression stands. Nothing is rewritten: an author sees what is wrong instead of a mail that
silently differs. The scan is stricter than a browser; where it cannot follow, it refuses.
Source: bad_inputs T31, T33 to T35; decisions/0015-email-templates.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from typing import Literal

from outrider.data.template_syntax import Segment, split

Place = Literal["text", "attribute", "url", "comment"]
"""Where an expression stands. `url`: at the beginning of an address, so that its value decides the scheme."""

_FORBIDDEN_ELEMENTS = frozenset(
    {
        "applet", "base", "embed", "form", "frame", "frameset", "iframe", "input", "isindex", "keygen", "math",
        "noembed", "noframes", "noscript", "object", "param", "plaintext", "portal", "script", "select", "svg",
        "template", "textarea", "xml", "xmp",
    }
)  # fmt: skip
_RAW_ELEMENTS = frozenset({"style", "title"})
_URL_ATTRIBUTES = frozenset(
    {
        "action", "background", "cite", "classid", "codebase", "data", "dynsrc", "formaction", "href", "longdesc",
        "lowsrc", "manifest", "ping", "poster", "profile", "src", "srcset", "usemap", "xlink:href",
    }
)  # fmt: skip
_FORBIDDEN_ATTRIBUTES = frozenset({"srcdoc", "formaction", "ping", "manifest", "dynsrc", "lowsrc", "fscommand"})
_SCHEMES = frozenset({"http", "https", "mailto", "tel", "sms", "cid"})

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_PART_OF_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z", re.IGNORECASE)
_IMAGE_DATA = re.compile(r"data:image/(?:png|gif|jpe?g|webp);", re.IGNORECASE)
_IGNORED_IN_URLS = re.compile("[\x00-\x20]")
_BAD_STYLE = re.compile(r"expression\s*\(|javascript:|vbscript:|-moz-binding|behaviou?r\s*:|</?script", re.IGNORECASE)
_EXPRESSION = "\ufffc"
"""Stands for an expression inside a value."""
_MOST_EXPRESSIONS = 100
"""In one value: each is looked at together with everything before it."""

_TAG_START = re.compile(r"<(/?)([A-Za-z][^\s/>]*)|<!--(?:-?>)?|<[!?]|</")
_ATTRIBUTE_NAME = re.compile(r"[^\s/>=]+")
_UNQUOTED = re.compile(r"[^\s>]+")
_COMMENT_END = re.compile(r"--!?>")
_RENDERED_URL = re.compile(
    r"""[\s/"'](?:href|src|srcset|background|cite|poster|longdesc|data|action|usemap)\s*=\s*(?:"([^"]*)|'([^']*))""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a scan found: problems as (line, detail), and one place per expression, in order."""

    problems: list[tuple[int, str]]
    places: list[Place]


def url_problem(url: str) -> str | None:
    """Why an address may not stand in a link or image, or None. Relative ones and images as data are allowed."""
    bare = _IGNORED_IN_URLS.sub("", unescape(url))
    found = _SCHEME.match(bare)
    if not found or found[1].lower() in _SCHEMES or _IMAGE_DATA.match(bare):
        return None
    return (
        f"an address with the scheme {found[1][:20].lower()!r} is not allowed (allowed: {', '.join(sorted(_SCHEMES))})"
    )


def rendered_problem(html: str) -> str | None:
    """Why a rendered part may not be sent: a value gave an address its scheme. For templates with `url` places."""
    for found in _RENDERED_URL.finditer(html):
        problem = url_problem(found[1] or found[2] or "")
        if problem:
            return problem
    return None


def scan(source: str, *, is_template: bool) -> Scan:
    """Look through the source of an HTML part.

    Raises:  TemplateSyntaxProblem when the template itself cannot be read.
    """
    scanner = _Scanner()
    for segment in split(source) if is_template else iter((Segment("raw", source, 1),)):
        scanner.take(segment)
    scanner.finish()
    return Scan(scanner.problems, scanner.places)


@dataclass(slots=True)
class _Scanner:
    """The state of the HTML at one point of the source.

    mode: data, raw (style, title), comment, declaration, tag (between attributes), tag_name and name (of an attribute,
    so far), broken (a name ended at template syntax), before_value, quoted, unquoted.
    """

    mode: str = "data"
    tag: str = ""
    attribute: str = ""
    quote: str = ""
    value: str = ""
    line: int = 1
    expression_count: int = 0
    is_pending: bool = False
    problems: list[tuple[int, str]] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    stack: list[tuple[str, str, str, str]] = field(default_factory=list)
    holders: set[str] = field(default_factory=set)

    def take(self, segment: Segment) -> None:
        """Go through one segment."""
        self.line = segment.line
        self.markup_passed()  # segments are apart because template syntax is between them
        match segment.kind:
            case "text" | "raw":
                self.literal(segment.text)
            case "print":
                self.expression(segment)
            case "block":
                self.statement(segment)

    def refuse(self, detail: str) -> None:
        """Note a problem at this line."""
        self.problems.append((self.line, detail))

    def markup_passed(self) -> None:
        """Template syntax stands here: names must be whole, values quoted."""
        if self.is_pending:
            self.refuse("template syntax directly after < is not allowed: write the tag in one piece")
            self.is_pending = False
        if self.mode in ("name", "tag_name"):
            self.mode = "broken"
        elif self.mode in ("unquoted", "before_value"):
            self.refuse(f"put quotes around the value of {self.attribute!r}: template syntax needs them")
            self.mode = "tag"

    def expression(self, segment: Segment) -> None:
        """An expression stands here."""
        place: Place = "text"
        if self.mode == "quoted":
            place = self.expression_in_value(segment)
        elif self.mode == "comment":
            place = "comment"
        elif self.mode == "raw" and self.tag != "title":
            self.refuse(f"expressions are not allowed in <{self.tag}>")
        elif self.mode in ("tag", "broken"):
            self.refuse(f"an expression in <{self.tag}> must stand inside a quoted value")
        elif self.mode == "declaration":
            self.refuse("an expression cannot stand in a declaration")
        self.places.append(place)

    def expression_in_value(self, segment: Segment) -> Place:
        """Tell whether an expression inside a quoted value decides what the value is."""
        if any(token.text in self.holders for token in segment.tokens):
            self.refuse(f"a macro or captured block cannot stand in the value of {self.attribute!r}")
        self.expression_count += 1
        if self.expression_count > _MOST_EXPRESSIONS:
            if self.expression_count == _MOST_EXPRESSIONS + 1:
                self.refuse(f"the value of {self.attribute!r} has more than {_MOST_EXPRESSIONS} expressions")
            return "attribute"
        so_far = _IGNORED_IN_URLS.sub("", self.value)
        self.value += _EXPRESSION
        if self.attribute not in _URL_ATTRIBUTES:
            return "attribute"
        if not so_far.strip(_EXPRESSION):
            return "url"
        if _PART_OF_SCHEME.match(so_far):
            self.refuse(f"begin the value of {self.attribute!r} with a whole scheme such as https://")
        return "attribute"

    def statement(self, segment: Segment) -> None:
        """Go through a statement: each branch must leave the HTML where it found it."""
        words = [token.text for token in segment.tokens]
        word = words[0] if words else ""
        here = (self.mode, self.tag, self.attribute, self.quote)
        if word in ("if", "for", "with", "macro") or (word == "set" and "=" not in words):
            if word in ("macro", "set"):
                self.holders.add(words[1] if len(words) > 1 else "")
            self.stack.append(here)
        elif word in ("elif", "else", "endif", "endfor", "endwith", "endmacro", "endset"):
            start = self.stack[-1] if self.stack else here
            if not _same(start, here):
                self.refuse(f"{{% {word} %}} must leave the HTML where its block began (same tag, same quote)")
            if word.startswith("end") and self.stack:
                self.stack.pop()
            self.mode, self.tag, self.attribute, self.quote = (
                start if start[0] == "broken" or not _same(start, here) else here
            )

    def literal(self, text: str) -> None:
        """Go through literal text."""
        at = 0
        while at < len(text):
            start, at = at, self.step(text, at)
            self.line += text.count("\n", start, at)

    def step(self, text: str, at: int) -> int:
        """Go on from `at` in the present mode; gives where to go on."""
        match self.mode:
            case "data":
                return self.in_data(text, at)
            case "raw":
                return self.in_raw(text, at)
            case "comment":
                found = _COMMENT_END.search(text, at)
                self.mode = "data" if found else "comment"
                return found.end() if found else len(text)
            case "declaration":
                end = text.find(">", at)
                self.mode = "data" if end >= 0 else "declaration"
                return end + 1 if end >= 0 else len(text)
            case "quoted":
                return self.in_quoted(text, at)
            case _:
                return self.in_tag(text, at)

    def in_data(self, text: str, at: int) -> int:
        found = _TAG_START.search(text, at)
        if not found:
            self.is_pending = text.endswith("<")
            return len(text)
        if found.start() > at:
            return found.start()  # so that the line is counted up to the tag
        opening = found[0]
        if opening.startswith("<!--"):
            self.mode = "data" if opening.endswith(">") else "comment"
        elif opening in ("<!", "<?", "</"):
            self.mode = "declaration"
            self.is_pending = found.end() == len(text)
        else:
            self.begin_tag(found[2].lower(), is_end=bool(found[1]), is_whole=found.end() < len(text))
        return found.end()

    def begin_tag(self, name: str, *, is_end: bool, is_whole: bool) -> None:
        self.tag = f"/{name}" if is_end else name
        self.mode = "tag" if is_whole else "tag_name"
        if name in _FORBIDDEN_ELEMENTS or name.rpartition(":")[2] in _FORBIDDEN_ELEMENTS:
            self.refuse(f"<{name}> is not allowed in email")

    def in_raw(self, text: str, at: int) -> int:
        end = re.compile(rf"</{self.tag}(?=[\s/>])", re.IGNORECASE).search(text, at)
        content = text[at : end.start() if end else len(text)]
        if _BAD_STYLE.search(unescape(content)):
            self.refuse(f"<{self.tag}> holds something that can run")
        elif self.tag == "title" and "<" in content:  # not every reader knows that a title has no elements
            self.refuse("<title> may hold text only")
        if end:
            self.mode, self.tag = "tag", f"/{self.tag}"
        return end.end() if end else len(text)

    def in_quoted(self, text: str, at: int) -> int:
        end = text.find(self.quote, at)
        self.value += text[at : end if end >= 0 else len(text)]
        if end < 0:
            return len(text)
        self.end_value()
        return end + 1

    def in_tag(self, text: str, at: int) -> int:
        """Between the attributes of a tag, in a name, or before or in an unquoted value."""
        character = text[at]
        if self.mode == "broken" and not (character.isspace() or character in "/>="):
            self.refuse("a name cannot continue after template syntax: write it in one piece")
        if character == ">":
            if self.mode in ("unquoted", "before_value"):
                self.end_value()
            self.mode = "raw" if self.tag in _RAW_ELEMENTS else "data"
            return at + 1
        if self.mode == "before_value":
            return self.before_value(at, character)
        if self.mode == "unquoted":
            return self.in_unquoted(text, at)
        if character == "=" and self.attribute:
            self.mode, self.value = "before_value", ""
            return at + 1
        if character.isspace() or character == "/":
            self.mode = "tag"
            return at + 1
        found = _ATTRIBUTE_NAME.match(text, at)
        end = found.end() if found else at + 1
        self.begin_attribute(text[at:end].lower())
        self.mode = "name" if end == len(text) else "tag"
        return end

    def begin_attribute(self, name: str) -> None:
        self.attribute = name
        local = name.rpartition(":")[2]
        if name.startswith("on") or local.startswith("on") or name in _FORBIDDEN_ATTRIBUTES:
            self.refuse(f"the attribute {name[:40]!r} of <{self.tag}> is not allowed in email")

    def before_value(self, at: int, character: str) -> int:
        if character.isspace():
            return at + 1
        if character in "\"'":
            self.mode, self.quote = "quoted", character
            return at + 1
        self.mode = "unquoted"
        return at

    def in_unquoted(self, text: str, at: int) -> int:
        found = _UNQUOTED.match(text, at)
        if not found:
            self.end_value()
            return at + 1
        self.value += found[0]
        return found.end()

    def end_value(self) -> None:
        """Check a complete value."""
        self.mode = "tag"
        value = self.value.replace(_EXPRESSION, "")
        if self.attribute in _URL_ATTRIBUTES and not self.value.startswith(_EXPRESSION):
            problem = url_problem(value)
            if problem:
                self.refuse(f"{self.attribute} of <{self.tag}>: {problem}")
        elif self.attribute in _URL_ATTRIBUTES and value.lstrip().startswith(":"):
            self.refuse(f"{self.attribute} of <{self.tag}>: the scheme of an address cannot come from a value")
        if self.attribute == "style" and _BAD_STYLE.search(unescape(value)):
            self.refuse(f"the style of <{self.tag}> holds something that can run")
        if self.attribute == "http-equiv" and value.strip().lower() in ("refresh", "set-cookie"):
            self.refuse(f"http-equiv={value.strip().lower()} is not allowed in email")
        self.attribute, self.value, self.quote, self.expression_count = "", "", "", 0

    def finish(self) -> None:
        """The source ends here."""
        if self.mode not in ("data", "raw"):
            self.refuse("the HTML ends inside a tag or comment")
        elif self.mode == "raw":
            self.refuse(f"<{self.tag}> is not closed")
        elif self.is_pending:
            self.refuse("the HTML ends with <")


def _same(start: tuple[str, str, str, str], here: tuple[str, str, str, str]) -> bool:
    """Whether two states are one place of the HTML; between attributes the last attribute's name does not matter."""
    between = ("tag", "broken")
    if start[0] in between and here[0] in between:
        return start[1] == here[1]
    if start[0] == here[0] == "data":
        return True
    return start == here


Scanner = _Scanner
"""For whoever looks for more than the policy does (`links`, `writing`, `review`)."""
EXPRESSION = _EXPRESSION
