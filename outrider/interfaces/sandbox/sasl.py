"""AUTH PLAIN and LOGIN as pure exchanges: what to say next, and whom the client says it is.

Owns the decoding and the constant-time comparison; never keeps, logs or repeats a password.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Final, Literal

Verdict = Literal["go_on", "right", "wrong", "malformed", "cancelled"]

_ASK_USER: Final = b"334 VXNlcm5hbWU6\r\n"
_ASK_PASSWORD: Final = b"334 UGFzc3dvcmQ6\r\n"
_ASK_PLAIN: Final = b"334 \r\n"

MECHANISMS: Final = (b"PLAIN", b"LOGIN")


class Exchange:
    """One AUTH command with the lines that follow it."""

    __slots__ = ("_credentials", "_is_plain", "_password", "_user", "question", "user")

    def __init__(self, mechanism: bytes, credentials: Mapping[str, str]) -> None:
        self._is_plain = mechanism == b"PLAIN"
        self._credentials = credentials
        self._user: bytes | None = None
        self._password: bytes | None = None
        self.user = ""
        """Whom the client turned out to be, after `right`."""
        self.question = _ASK_PLAIN if self._is_plain else _ASK_USER
        """What to send on `go_on`, and at the start without an initial response."""

    def answer(self, line: bytes) -> Verdict:
        """Take a response in base64 (the initial one or a line)."""
        if line == b"*":
            return "cancelled"
        try:
            response = b"" if line == b"=" else base64.b64decode(line, validate=True)
        except (binascii.Error, ValueError):
            return "malformed"
        if self._is_plain:
            parts = response.split(b"\0")
            if len(parts) != 3 or (parts[0] and parts[0] != parts[1]):  # noqa: PLR2004 -- RFC 4616: identity, user, password
                return "malformed" if len(parts) != 3 else "wrong"  # noqa: PLR2004 -- as above
            return self._compare(parts[1], parts[2])
        if self._user is None:
            self._user = response
            self.question = _ASK_PASSWORD
            return "go_on"
        return self._compare(self._user, response)

    def _compare(self, user: bytes, password: bytes) -> Verdict:
        """Compare with every account, so that the time says nothing about which names exist."""
        found = ""
        for name, secret in self._credentials.items():
            is_user = hmac.compare_digest(user, name.encode())
            is_password = hmac.compare_digest(password, secret.encode())
            if is_user and is_password:
                found = name
        self.user = found
        return "right" if found else "wrong"
