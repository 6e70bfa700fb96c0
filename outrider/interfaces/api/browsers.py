"""Rules for browsers: the session's cookie, and refusing state changes that another site started."""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from litestar.datastructures import Cookie

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.interfaces.api.exchange import Exchange

_PLAIN = "session_id"
_SECURE = "__Host-session_id"
_LONGEST_COOKIES = 16_384


def is_https(settings: Settings) -> bool:
    """Whether people reach this installation by https."""
    return urlsplit(settings.public_url).scheme == "https"


def cookie_name(settings: Settings) -> str:
    """`session_id`, the runbooks' name [S1-16]; with the prefix that browsers protect when the public URL is https."""
    return _SECURE if is_https(settings) else _PLAIN


def session_cookie(settings: Settings, token: str, *, lasts_s: int) -> Cookie:
    """The cookie of a session; an empty token with 0 seconds takes it away."""
    return Cookie(
        key=cookie_name(settings),
        value=token,
        path="/",
        max_age=lasts_s,
        httponly=True,
        secure=is_https(settings),
        samesite="lax",
    )


def session_token(cookie_header: str, settings: Settings) -> str:
    """The session's token of a Cookie header; empty when there is none or it is given twice."""
    if len(cookie_header) > _LONGEST_COOKIES:
        return ""
    name = cookie_name(settings)
    found = [part.strip()[len(name) + 1 :] for part in cookie_header.split(";") if part.strip().startswith(f"{name}=")]
    if len(found) != 1:
        return ""
    try:
        cookie = SimpleCookie(f"{name}={found[0]}")
    except CookieError:
        return ""
    return cookie[name].value if name in cookie else ""


def refuse_cross_site(exchange: Exchange, fetch_site: str | None, origin: str | None, settings: Settings) -> None:
    """Refuse what another site made a browser send; programs such as curl send neither header and pass.

    Raises:  Refused(cross_site, 403).
    Source:  ASVS V3.5; bad_inputs.json H79; architecture.md section 6
    """
    if fetch_site is not None:
        if fetch_site.strip().lower() not in {"same-origin", "none"}:
            raise _cross_site()
        return
    if origin is None:
        return
    own = {_origin(settings.public_url), f"{exchange.scheme}://{exchange.host}".lower()}
    if origin.strip().lower() not in own:
        raise _cross_site()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _cross_site() -> Refused:
    return Refused("cross_site", "a request of another site may not change anything here", status=403)
