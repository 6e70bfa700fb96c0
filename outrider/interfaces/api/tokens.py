"""Bearer tokens of sessions (JWT): short-lived, one algorithm, worth nothing once their session has ended."""

from __future__ import annotations

import time
from uuid import UUID

import jwt
import msgspec

from outrider.base.secret import Keyring

LASTS_S = 900
_ALGORITHM = "HS256"
_ISSUER = "outrider"
_AUDIENCE = "outrider-api"
_LONGEST = 2048
_LEEWAY_S = 5


class Claim(msgspec.Struct, frozen=True):
    """What a token says: whose session it speaks for."""

    tenant_id: UUID
    user_id: UUID
    session_hash: bytes


class Tokens:
    """Makes and reads the tokens of one installation."""

    def __init__(self, keyring: Keyring) -> None:
        self._key = keyring.derive("session-jwt")

    def issue(self, claim: Claim, *, lasts_s: int = LASTS_S) -> str:
        """A token that ends after `lasts_s` seconds, or with its session."""
        now = int(time.time())
        payload = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "sub": str(claim.user_id),
            "tid": str(claim.tenant_id),
            "sid": claim.session_hash.hex(),
            "iat": now,
            "exp": now + lasts_s,
        }
        return jwt.encode(payload, self._key, algorithm=_ALGORITHM)

    def read(self, text: str) -> Claim | None:
        """What a token of ours says; None for one that was changed, has ended, or is somebody else's."""
        if len(text) > _LONGEST or not text.isascii():
            return None
        try:
            payload = jwt.decode(
                text,
                self._key,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "aud", "iss", "sub"]},
            )
            return Claim(UUID(payload["tid"]), UUID(payload["sub"]), bytes.fromhex(payload["sid"]))
        except (jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError):
            return None
