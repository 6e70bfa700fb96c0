"""Token buckets in this process: how often one caller may ask."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from time import monotonic

_SITE_BITS = 64
_MOST_CALLERS = 50_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


def source_of(client_ip: str) -> str:
    """Whose rate it is: an IPv4 address, or the network of an IPv6 address, in which one caller has 2^64."""
    try:
        address = ip_address(client_ip)
    except ValueError:
        return client_ip
    if not isinstance(address, IPv6Address):
        return client_ip
    return str(address.ipv4_mapped or ip_network((address, _SITE_BITS), strict=False))


class Buckets:
    """One bucket per caller; forgotten ones are full again.

    Takes:   rate_per_s refills, burst is the most a bucket holds.
    """

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._by_caller: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one token.

        Gives:   0.0 when there was one, else the seconds until there will be.
        """
        now_s = monotonic()
        bucket = self._by_caller.get(caller)
        if bucket is None:
            bucket = self._by_caller[caller] = _Bucket(self._burst, now_s)
            if len(self._by_caller) > _MOST_CALLERS:
                self._by_caller.popitem(last=False)
        else:
            self._by_caller.move_to_end(caller)
            bucket.tokens = min(self._burst, bucket.tokens + (now_s - bucket.at_s) * self._rate_per_s)
            bucket.at_s = now_s
        if bucket.tokens >= 1:
            bucket.tokens -= 1
            return 0.0
        return (1 - bucket.tokens) / self._rate_per_s

    def left(self, caller: str) -> int:
        """Whole tokens a caller has, as of the last `take`."""
        bucket = self._by_caller.get(caller)
        return int(bucket.tokens if bucket else self._burst)

    def headers(self, caller: str) -> tuple[tuple[bytes, bytes], ...]:
        """RateLimit (what is left, and when it is all there again) and RateLimit-Policy.

        Source:  draft-ietf-httpapi-ratelimit-headers
        """
        window_s = max(1, math.ceil(self._burst / self._rate_per_s))
        bucket = self._by_caller.get(caller)
        missing = self._burst - bucket.tokens if bucket else 0.0
        full_in_s = max(1, math.ceil(missing / self._rate_per_s))
        return (
            (b"ratelimit-policy", f'"default";q={int(self._burst)};w={window_s}'.encode()),
            (b"ratelimit", f'"default";r={self.left(caller)};t={full_in_s}'.encode()),
        )
