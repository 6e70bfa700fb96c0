"""Whose word is believed about where a request came from: only that of proxies the operator named."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_MOST_HOPS = 20
_MOST_REMEMBERED = 4096
"""Addresses read lately: the same callers come again and again, and to read one costs more than all the rest."""
_LONGEST = 64

Network = IPv4Network | IPv6Network


def address(text: str) -> IPv4Address | IPv6Address | None:
    """An address as written in a header or by a socket, IPv4-mapped ones as IPv4; None for anything else."""
    return _understood(text)[0]


def is_within(text: str, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of the networks; False for what is no address."""
    if not networks:
        return False
    found = address(text)
    return found is not None and any(found in network for network in networks if network.version == found.version)


def client_of(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of the client.

    Takes:   peer           the socket's other end
             forwarded_for  values of X-Forwarded-For in their order
    Gives:   the last address that a trusted proxy vouches for; the peer when it is not trusted (ASVS V4.1.3).
    """
    if not trusted or not is_within(peer, trusted):
        return _plain(peer)
    hops = [hop for value in forwarded_for for hop in value.split(",")][-_MOST_HOPS:]
    client = peer
    for hop in reversed(hops):
        if address(hop) is None:
            break
        client = hop
        if not is_within(hop, trusted):
            break
    return _plain(client)


def _plain(text: str) -> str:
    return _understood(text)[1]


def _understood(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    """What an address means, and how it is written; what is too long to be one is not remembered."""
    return _remembered(text) if len(text) <= _LONGEST else _read(text)


def _read(text: str) -> tuple[IPv4Address | IPv6Address | None, str]:
    cleaned = text.strip().strip('"')
    if cleaned.startswith("["):
        cleaned = cleaned[1:].partition("]")[0]
    elif cleaned.count(":") == 1:
        cleaned = cleaned.partition(":")[0]
    try:
        found = ip_address(cleaned.partition("%")[0])
    except ValueError:
        return None, "unknown"
    plain = found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
    return plain, str(plain)


_remembered = lru_cache(_MOST_REMEMBERED)(_read)
