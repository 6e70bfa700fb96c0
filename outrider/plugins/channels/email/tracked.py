"""A content with its marks in place: sources for the engine and pieces for substitution, both of the same links.

Owns the difference between the two ways to a message: what the engine renders may follow only constant links, because
a variable there can be a loop's own; pure substitution may follow links with variables too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outrider.contracts.channel import Content, Link
from outrider.data.slots import Piece, pieces
from outrider.plugins.channels.email import html_policy
from outrider.plugins.channels.email.compile import Compiled
from outrider.plugins.channels.email.links import marked


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a composer works with."""

    sources: Mapping[str, str]
    compiled: Compiled | None
    links: tuple[Link, ...]


def prepared(content: Content, sources: Mapping[str, str], compiled: Compiled | None) -> Prepared:
    """Put marks where the content is tracked; unchanged without HTML or tracking.

    Takes:   sources and compiled form of the content as saved: what is compiled was proven with the engine, and marks
             only put constants in the place of values.
    """
    tracking = content.tracking
    if "html" not in sources or not (tracking.opens or tracking.clicks):
        return Prepared(sources, compiled, ())
    is_template = content.is_template
    html = sources["html"]
    if compiled is None:
        made = marked(html, tracking, is_template=is_template, with_variables=False)
        return Prepared({**sources, "html": made.html}, None, made.links)
    made = marked(html, tracking, is_template=is_template, with_variables=True)
    places = html_policy.scan(made.html, is_template=is_template).places
    split: list[Piece] | None = pieces(made.html, places) if is_template else [made.html]
    if split is None:
        return Prepared(sources, compiled, ())
    constant = {link: number for number, link in enumerate(made.links, 1)}
    plain = marked(html, tracking, is_template=is_template, with_variables=False, numbers=constant)
    return Prepared({**sources, "html": plain.html}, {**compiled, "html": split}, made.links)
