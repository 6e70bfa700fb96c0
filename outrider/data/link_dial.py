"""Whether web addresses answer: each asked for its head, then for the page where that is not answered; nothing is read.

Owns the limits of looking: every hop of a redirect passes the guard of addresses, time and number are bounded, no
cookie and no credential travels. Never says what an answer means for a campaign; never keeps a connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import aiohttp
from yarl import URL

from outrider.base.errors import Refused, Unavailable
from outrider.contracts.provider import Egress
from outrider.data.http_out import Guard, is_refused

MOST_LINKS: Final = 100
_MOST_HOPS: Final = 5
_AT_ONCE: Final = 8
_AT_ONCE_PER_HOST: Final = 2
_LINK_S: Final = 10.0
_WHOLE_S: Final = 30.0
_LONGEST_URL: Final = 2_000
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_GONE: Final = frozenset({404, 410})
_AGENT: Final = "Outrider link check"

Code = Literal[
    "answers", "gone", "no_such_host", "bad_certificate", "endless_redirect", "odd_redirect", "no_web_address",
    "refused", "fails", "no_answer", "not_allowed", "not_dialled",
]  # fmt: skip
Verdict = Literal["ok", "dead", "unsure"]

_VERDICTS: Final[dict[Code, Verdict]] = {
    "answers": "ok",
    "gone": "dead",
    "no_such_host": "dead",
    "bad_certificate": "dead",
    "endless_redirect": "dead",
    "odd_redirect": "dead",
    "no_web_address": "dead",
    "refused": "unsure",
    "fails": "unsure",
    "no_answer": "unsure",
    "not_allowed": "unsure",
    "not_dialled": "unsure",
}


@dataclass(frozen=True, slots=True)
class Dialled:
    """What became of one address.

    verdict    ok: it answers; dead: readers will not get there; unsure: look yourself
    status     of the last answer; None without one
    final_url  where redirects ended; `hop_count` of them were followed
    """

    url: str
    verdict: Verdict
    code: Code
    detail: str
    status: int | None
    final_url: str
    hop_count: int


@dataclass
class _Walk:
    """One address on its way."""

    url: str
    at: str
    hop_count: int = 0
    status: int | None = None

    def end(self, code: Code, detail: str) -> Dialled:
        final = self.at[:_LONGEST_URL]
        return Dialled(self.url, _VERDICTS[code], code, detail, self.status, final, self.hop_count)


class _Stop(Exception):
    """The walk ends here, or `_Broken`: this way of asking does."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code: Code = code
        self.detail = detail


class _Broken(_Stop):
    """Somebody is there, but the answer broke off."""


async def dial(
    urls: Sequence[str], egress: Egress, *, link_s: float = _LINK_S, whole_s: float = _WHOLE_S
) -> list[Dialled]:
    """Try addresses, eight at a time and two per host; takes at most half a minute.

    Takes:   http(s) addresses; those after the hundredth are not tried.
    Gives:   one answer per address, in order.
    """
    ends_at = asyncio.get_running_loop().time() + whole_s
    turns = asyncio.Semaphore(_AT_ONCE)
    connector = aiohttp.TCPConnector(
        resolver=Guard(egress), limit=_AT_ONCE, limit_per_host=_AT_ONCE_PER_HOST, use_dns_cache=False, force_close=True
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": _AGENT, "Accept": "*/*", "Accept-Encoding": "identity"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=link_s / 2),
    ) as session:

        async def one(url: str) -> Dialled:
            walk = _Walk(url, url)
            async with turns:
                left_s = min(link_s, ends_at - asyncio.get_running_loop().time())
                if left_s <= 0:
                    return walk.end("not_dialled", "no time was left to try it")
                try:
                    async with asyncio.timeout(left_s):
                        return await _followed(session, egress, walk)
                except TimeoutError:
                    return walk.end("no_answer", f"no answer within {left_s:.0f} s")

        tried = await asyncio.gather(*map(one, urls[:MOST_LINKS]))
    more = [_Walk(url, url).end("not_dialled", f"only {MOST_LINKS} are tried at a time") for url in urls[MOST_LINKS:]]
    return [*tried, *more]


async def _followed(session: aiohttp.ClientSession, egress: Egress, walk: _Walk) -> Dialled:
    """The end of one address's redirects."""
    seen = set[str]()
    try:
        while True:
            target = await _allowed(egress, walk.at)
            walk.status, onward = await _answered(session, target)
            if walk.status not in _REDIRECTS or not onward:
                return _judged(walk)
            seen.add(str(target))
            _follow(walk, target, onward, seen)
    except _Stop as stop:
        return walk.end(stop.code, stop.detail)


def _follow(walk: _Walk, target: URL, onward: str, seen: set[str]) -> None:
    """Go on to where an answer points."""
    try:
        after = target.join(URL(onward))
    except ValueError:
        raise _Stop("odd_redirect", "leads on to what is no web address") from None
    if after.scheme not in {"http", "https"}:
        raise _Stop("odd_redirect", f"leads on to an address of the kind {after.scheme[:20]!r}")
    if str(after) in seen:
        raise _Stop("endless_redirect", "leads back to itself")
    if walk.hop_count == _MOST_HOPS:
        raise _Stop("endless_redirect", f"leads on more than {_MOST_HOPS} times")
    walk.at, walk.hop_count = str(after), walk.hop_count + 1


async def _allowed(egress: Egress, url: str) -> URL:
    """An address that may be dialled. Numbers are not resolved by anybody on the way, so the guard is asked here."""
    try:
        target = URL(url).with_fragment(None)
        host, port = target.raw_host, target.port
    except ValueError:
        host, port = None, None
    if not host or not port or target.scheme not in {"http", "https"}:
        raise _Stop("no_web_address", "is no web address")
    if target.user is not None or target.password is not None:
        raise _Stop("not_allowed", "names a user: it is not tried with it")
    try:
        await egress.resolve(host, port)
    except Refused as error:
        raise _Stop("not_allowed", error.message) from None
    except Unavailable as error:
        raise _Stop("no_such_host", error.message) from None
    return target


async def _answered(session: aiohttp.ClientSession, target: URL) -> tuple[int, str]:
    """Status and destination: of the head, or of the page where a server has no head for us."""
    try:
        status, onward = await _asked(session, "HEAD", target)
    except _Broken:
        pass
    else:
        if status < 400:  # noqa: PLR2004 - RFC 9110 15: from here on an error
            return status, onward
    return await _asked(session, "GET", target)


async def _asked(session: aiohttp.ClientSession, method: str, target: URL) -> tuple[int, str]:
    """One request; the connection is closed with the header, whatever follows."""
    try:
        async with session.request(method, target, allow_redirects=False) as answer:
            return answer.status, answer.headers.get("Location", "")
    except (aiohttp.ClientSSLError, ssl.SSLError) as error:
        raise _Stop("bad_certificate", "the certificate or the TLS handshake is not acceptable") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        inner: Any = getattr(error, "os_error", None) or error
        if is_refused(inner):
            raise _Stop("not_allowed", str(inner)) from error
        what = _Stop if isinstance(error, (aiohttp.ClientConnectorError, TimeoutError)) else _Broken
        raise what(
            "no_answer", f"no answer: {getattr(inner, 'strerror', None) or type(inner).__name__}"[:200]
        ) from error


def _judged(walk: _Walk) -> Dialled:
    status = walk.status or 0
    if status in _GONE:
        return walk.end("gone", f"answers {status}: nothing is there")
    if status >= 500:  # noqa: PLR2004 - RFC 9110 15.6
        return walk.end("fails", f"answers {status}: the server has trouble")
    if status >= 400:  # noqa: PLR2004 - RFC 9110 15.5
        return walk.end("refused", f"answers {status} to a program; people may see more")
    return walk.end("answers", "")
