"""The reason people give for what they do: one printable line, kept in the audit log."""

from __future__ import annotations

from outrider.base.errors import Refused

NOT_GIVEN = "not given"
_LONGEST = 500


def clean_reason(text: str | None, *, field: str = "/reason") -> str:
    """The reason as it is kept.

    Gives:   `not given` for nothing.
    Raises:  Refused(invalid_reason) for more than 500 characters or control characters.
    """
    stripped = (text or "").strip()
    if not stripped:
        return NOT_GIVEN
    if len(stripped) > _LONGEST or not stripped.isprintable():
        raise Refused("invalid_reason", f"must be one line of at most {_LONGEST} printable characters", field=field)
    return stripped
