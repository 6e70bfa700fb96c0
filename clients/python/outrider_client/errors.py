"""What the API refuses, as exceptions: RFC 9457 problems with their stable codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mistake:
    """One wrong place of a request: `pointer` into the body, or `parameter` of query, path or headers."""

    code: str
    detail: str
    pointer: str = ""
    parameter: str = ""


class ApiError(Exception):
    """The API refused a request; nothing was changed.

    `code` is stable and made for programs, `detail` for people. `request_id` finds the request in the server's log.
    """

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", "unknown"))
        self.detail = str(problem.get("detail", ""))
        self.pointer = str(problem.get("pointer", ""))
        self.parameter = str(problem.get("parameter", ""))
        self.request_id = str(problem.get("request_id", ""))
        self.errors = [
            Mistake(one["code"], one["detail"], one.get("pointer", ""), one.get("parameter", ""))
            for one in problem.get("errors", [])
        ]
        self.data: dict[str, Any] = dict(problem.get("data", {}))
        where = self.pointer or self.parameter
        super().__init__(f"{status} {self.code}{f' at {where}' if where else ''}: {self.detail}")


class NotNow(ApiError):
    """It did not work within the client's patience, and may work later: no connection, too many requests."""
