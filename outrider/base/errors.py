"""The four kinds of error, named after who must act. Verdicts and outcomes are values, never these.

Owns the exception classes and their wire facts (code, field, HTTP status, exit code); never formats HTTP or prints.
"""

from __future__ import annotations

from typing import Any, ClassVar


class OutriderError(Exception):
    """Something that was asked for did not happen; nothing was changed.

    `code` is stable and machine-readable, `message` says in one or two lines what to do, `field` is the JSON pointer
    or option the caller can mend, `data` holds named facts (never secrets).
    """

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70

    def __init__(self, code: str, message: str, *, field: str | None = None, **data: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.data = data

    def __str__(self) -> str:
        """The field, when known, then the message."""
        return f"{self.field}: {self.message}" if self.field else self.message


class Refused(OutriderError):
    """The caller must change the request (4xx). Never pages anybody."""

    status = 422
    exit_code = 2

    def __init__(self, code: str, message: str, *, field: str | None = None, status: int = 422, **data: Any) -> None:
        super().__init__(code, message, field=field, **data)
        self.http_status = status
        self.exit_status = {401: 77, 403: 77, 404: 4, 409: 75}.get(status, 2)


class RefusedMany(Refused):
    """Several independent mistakes in one request, each with its own field; all or nothing."""

    def __init__(self, errors: list[Refused]) -> None:
        first = errors[0]
        super().__init__(first.code, first.message, field=first.field, status=first.http_status)
        self.errors = errors


class Unavailable(OutriderError):
    """Try again later (503, counted). Nothing was done, or what was done is safe to repeat."""

    status = 503
    exit_code = 69

    def __init__(self, code: str, message: str, *, retry_after_s: int = 2, **data: Any) -> None:
        super().__init__(code, message, **data)
        self.retry_after_s = retry_after_s


class Misconfigured(OutriderError):
    """The operator must act: the process refuses to start and `doctor` shows it."""

    status = 503
    exit_code = 78


class Broken(OutriderError):
    """A bug in Outrider: logged with its trace, answered as a plain 500."""

    status = 500
    exit_code = 70
