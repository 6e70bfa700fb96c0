"""Files that go with a message or a template, as the command line names them: `--attach PATH`, several times.

Owns how a file is read and which type it is given; what may be sent at all is domain/templates/attachments.py. Never
asks the system about types: the same command gives the same message on every machine.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.contracts.channel import Attachment
from outrider.domain.templates.attachments import MOST_BYTES, MOST_FILES, check_name, check_type
from outrider.interfaces.cli.options import readable_file

FIELD: Final = "--attach"
Attach = Annotated[
    list[str] | None,
    Parameter(
        name=FIELD,
        negative="",
        help=(
            f"File to send with it, several times: at most {MOST_FILES}, {MOST_BYTES // 1_000_000} MB together. Its "
            "type is told by its name, or by you: `terms.bin;type=application/pdf`."
        ),
    ),
]

_TYPE: Final = ";type="
_UNKNOWN: Final = "application/octet-stream"
_PACKED: Final = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
    "br": _UNKNOWN,
    "compress": "application/x-compress",
}
_OFFICE: Final = "application/vnd.openxmlformats-officedocument."
_NEWER: Final = {
    ".docx": _OFFICE + "wordprocessingml.document",
    ".xlsx": _OFFICE + "spreadsheetml.sheet",
    ".pptx": _OFFICE + "presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".ics": "text/calendar",
    ".webp": "image/webp",
}
"""What the standard library's own list does not know, or not in every release."""


def attachments_of(named: Sequence[str] | None) -> tuple[Attachment, ...]:
    """Read the files that a command names, in its order.

    Raises:  Refused(too_many_files, too_large, file_unusable, invalid_name, invalid_type) naming the file; nothing is
             read of a file that is too large.
    """
    wanted = list(named or ())
    if len(wanted) > MOST_FILES:
        raise Refused(
            "too_many_files", f"{len(wanted)} files are named, at most {MOST_FILES} are possible", field=FIELD
        )
    found: list[Attachment] = []
    left = MOST_BYTES
    for each in wanted:
        made = _read(each, left)
        left -= len(made.content)
        found.append(made)
    return tuple(found)


def _read(named: str, left: int) -> Attachment:
    """One file, of at most `left` bytes."""
    text, sign, given = named.rpartition(_TYPE)
    path = readable_file(Path(text if sign else named), FIELD)
    try:
        name = check_name(path.name, field=FIELD)
        content_type = check_type(given if sign else guessed(name), field=FIELD)
    except Refused as error:
        raise Refused(error.code, f"{named}: {error.message}", field=FIELD) from None
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            content = stream.read(left + 1) if size <= left else b""
    except OSError as error:
        raise Refused("file_unusable", f"{path} cannot be read: {error.strerror}", field=FIELD) from None
    if max(size, len(content)) > left:
        why = f"{path} has {size:,} bytes; the files of one message may have {MOST_BYTES:,} together"
        raise Refused("too_large", why, field=FIELD, status=413)
    return Attachment(name, content_type, content)


def guessed(name: str) -> str:
    """The media type that a file's name stands for; bytes of no known kind where it says nothing."""
    kind, packed = mimetypes.MimeTypes().guess_type(f"/{name}")
    if packed is not None:
        return _PACKED.get(packed, _UNKNOWN)
    found = kind or _NEWER.get(Path(name).suffix.lower(), _UNKNOWN)
    # a whole mail would hide its parts from every check: sent as bytes, which is what an attached file is
    return _UNKNOWN if found.startswith(("message/", "multipart/")) else found
