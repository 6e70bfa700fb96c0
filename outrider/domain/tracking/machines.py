"""Telling machines from people by what a request says about itself: who it says it is, and why it comes.

Owns the lists. Nothing of a request is kept but the verdict: no address, no user agent, no cookie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

PREFETCH: Final = "prefetch"
AGENT: Final = "agent"
NO_AGENT: Final = "no_agent"
PRIVACY_PROXY: Final = "privacy_proxy"
NETWORK: Final = "network"
TOO_SOON: Final = "too_soon"
BURST: Final = "burst"
EVERY: Final = (PREFETCH, AGENT, NO_AGENT, PRIVACY_PROXY, NETWORK, TOO_SOON, BURST)

_PURPOSES: Final = (b"purpose", b"x-purpose", b"sec-purpose", b"x-moz")
_PREFETCHING: Final = re.compile(rb"prefetch|preview|prerender|instant", re.IGNORECASE)
_MACHINES: Final = re.compile(
    rb"""(?<!cu)bot\b|crawl|spider|scan|slurp|preview|monitor|validator|archiver|link.?check|headless|phantomjs
    |puppeteer|playwright|selenium|curl/|wget|python|aiohttp|httpx|okhttp|java/|libwww|lwp::|go-http-client|node-fetch
    |axios|undici|guzzle|apache-httpclient|ruby|perl|powershell|winhttp|facebookexternalhit|whatsapp/|embedly|barracuda
    |proofpoint|mimecast|messagelabs|symantec|trend\ ?micro|cloudmark|safelinks|fireeye|trellix|urldefense|forcepoint
    |sophos|zscaler|google-safety|existence\ discovery""",
    re.IGNORECASE | re.VERBOSE,
)
_IMAGE_PROXIES: Final = re.compile(rb"GoogleImageProxy|YahooMailProxy|YahooCacheSystem", re.IGNORECASE)
"""They fetch when a person opens the message, in that person's place."""
_PRIVACY_PROXY: Final = re.compile(rb"Mozilla/5\.0\Z")
"""Apple's mail privacy protection fetches every image of every message, opened or not, and says just this."""


def verdict(headers: Mapping[bytes, bytes]) -> str:
    """Why a request is a machine's; an empty text when nothing speaks against a person.

    Takes:   header names in lower case.
    """
    for name in _PURPOSES:
        if name in headers and _PREFETCHING.search(headers[name]):
            return PREFETCH
    return _of_agent(headers.get(b"user-agent", b"").strip())


@lru_cache(maxsize=4_096)
def _of_agent(agent: bytes) -> str:
    """What a user agent says; few differ, and they are many."""
    if not agent:
        return NO_AGENT
    if _PRIVACY_PROXY.match(agent):
        return PRIVACY_PROXY
    if not _IMAGE_PROXIES.search(agent) and _MACHINES.search(agent):
        return AGENT
    return ""
