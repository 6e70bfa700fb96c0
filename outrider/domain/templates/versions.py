"""Two versions of a template side by side: a unified difference per part.

Owns which parts are compared; the comparing runs in a process of its own, because texts can be made to take for ever.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from outrider.data import letters
from outrider.data.db import UnitOfWork
from outrider.domain.templates import templates
from outrider.domain.templates.templates import SourceView

_PARTS = ("subject", "preheader", "mjml", "html", "text", "files")


class Difference(msgspec.Struct, frozen=True):
    """What changed from one version to another; a part without a difference is not there."""

    from_version: int
    to_version: int
    parts: dict[str, str]


async def pair(uow: UnitOfWork, template_id: UUID, before: int, after: int | None) -> tuple[SourceView, SourceView]:
    """Both versions, `after` the latest when it is None.

    Raises:  Refused(not_found) naming template or version.
    """
    return await templates.source_of(uow, template_id, before), await templates.source_of(uow, template_id, after)


async def compared(before: SourceView, after: SourceView) -> Difference:
    """What changed, part by part; needs no unit of work.

    Raises:  Refused(too_complex); Unavailable when no process starts.
    """
    old, new = _parts(before), _parts(after)
    made = await letters.asked({"compare": {name: [old[name], new[name]] for name in _PARTS}}, field="version")
    changed = {name: text for name, text in made["parts"].items() if text is not None}
    return Difference(before.version, after.version, changed)


def _parts(source: SourceView) -> dict[str, str | None]:
    """What its author wrote, where that is not what is sent."""
    written = source.written
    files = "\n".join(f"{file.name} ({file.content_type}, {file.size_bytes} bytes)" for file in source.attachments)
    return {
        "subject": source.subject,
        "preheader": source.preheader,
        "mjml": written.mjml if written else None,
        "html": written.html if written else source.html,
        "text": written.text if written else source.text,
        "files": files,
    }
