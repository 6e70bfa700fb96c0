"""The guard in front of every address a tenant can set: it says which numeric addresses may be dialled (SSRF).

Owns the list of networks that are not the public internet, the reading of host names, and their resolving. Whoever
dials uses the addresses given here and never resolves the name again, so what was checked is what is dialled. Never
connects.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from outrider.base.errors import Refused, Unavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Numeric addresses of a name, in order of preference; raises OSError when there is none now."""

# The IANA registries of special-purpose addresses, written out: `ipaddress.is_global` of Python 3.11 calls 2002::/16,
# fec0::/10 and 64:ff9b:1::/48 global, and later versions differ among themselves.
_FORBIDDEN_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
            "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16",
            "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        ),
    )
)  # fmt: skip
# Of IPv6 only 2000::/3 is given out, and of that not: protocol assignments with Teredo, documentation, 6to4, AS112.
_GLOBAL_6: Final = IPv6Network("2000::/3")
_FORBIDDEN_6: Final = tuple(
    map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"))
)
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)

_LABEL: Final = r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_LONGEST_NAME: Final = 253
# A name whose last label is a number is an IPv4 address to somebody (127.1, 2130706433, 0x7f.1): WHATWG URL 3.5.
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_RESOLVE_TIMEOUT_S: Final = 10.0
_MOST_LOOKUPS: Final = 16


class Egress:
    """Refuses every host that is, or resolves to, anything but public addresses or those an operator allowed."""

    def __init__(self, allow: Sequence[Network] = (), resolver: Resolver | None = None) -> None:
        """`allow` is the operator's list (OUTRIDER_EGRESS_ALLOW), never a tenant's; empty: the public internet only."""
        self.allow = tuple(allow)
        self._resolver = resolver or system_resolver

    async def resolve(self, host: str, port: int) -> list[str]:
        """Numeric addresses that may be dialled, in order of preference; see `contracts.provider.Egress`.

        Takes:   a name or a canonical address; IPv6 without brackets or scope.
        Gives:   1 or more different addresses, canonical. One forbidden address among them refuses the whole name,
                 because an attacker chooses which of them answers.
        Raises:  Refused(target_refused) without saying which address it was; Unavailable(dns_failed).
        """
        literal = address_of(host)
        if literal is not None:
            found: Sequence[str] = (str(literal),)
        else:
            found = await self._lookup(host.removesuffix("."), port)
        addresses = [dialled(address) for address in map(_numeric, found)]
        if not addresses:
            raise Unavailable("dns_failed", "the name has no address")
        if not all(map(self.may_dial, addresses)):
            raise _refusal()
        return list(dict.fromkeys(map(str, addresses)))

    def may_dial(self, address: Address) -> bool:
        """Whether one address is public, or in a network the operator allowed."""
        return any(address in network for network in self.allow if network.version == address.version) or (
            is_public(address) and all(self.may_dial(inner) for inner in embedded(address))
        )

    async def _lookup(self, name: str, port: int) -> Sequence[str]:
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                return await self._resolver(name, port)
        except TimeoutError:
            raise Unavailable("dns_failed", "the name was not resolved in time") from None
        except (OSError, UnicodeError):
            raise Unavailable("dns_failed", "the name does not resolve") from None


def address_of(host: str) -> Address | None:
    """The address a host text is, or None when it is a name.

    Raises:  Refused for everything that some reader takes for another host than we do: odd spellings of IPv4,
             other scripts' digits and dots, scopes, brackets, user info.
    """
    if not host.isascii() or not 0 < len(host.removesuffix(".")) <= _LONGEST_NAME:
        raise _refusal("must be a host name in ASCII (xn-- for others) or a canonical address")
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is not None and "%" not in host:
        return address
    if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]):
        raise _refusal("must be a host name or a canonical address")
    return None


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet by the registries; what it may embed is asked separately."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _FORBIDDEN_4)
    if address in _NAT64:
        return True
    return address in _GLOBAL_6 and not any(address in network for network in _FORBIDDEN_6)


def embedded(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that a gateway or tunnel would make of an IPv6 address (NAT64, ISATAP).

    Those of 6to4 and Teredo need no look: both are forbidden as a whole. IPv4-mapped ones are dialled as IPv4.
    """
    if isinstance(address, IPv4Address):
        return ()
    low = int(address) & 0xFFFF_FFFF
    if address in _NAT64 or (int(address) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return (IPv4Address(low),)
    return ()


def dialled(address: Address) -> Address:
    """The address that a socket connects to: IPv4-mapped IPv6 is IPv4."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


async def system_resolver(name: str, port: int) -> list[str]:
    """The operating system's resolver, in threads of its own: a slow name of one tenant must not occupy the others'."""
    rows = await asyncio.get_running_loop().run_in_executor(
        _lookups(), lambda: socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    )
    return [str(address[0]) for _, _, _, _, address in rows]


@lru_cache(maxsize=1)
def _lookups() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_MOST_LOOKUPS, thread_name_prefix="resolve")


def _numeric(text: str) -> Address:
    """What a resolver gave; a scope (link-local) or anything odd is refused like a forbidden address."""
    try:
        if "%" not in text:
            return ip_address(text)
    except ValueError:
        pass
    raise _refusal()


def _refusal(why: str = "is not an address that may be dialled from here") -> Refused:
    return Refused("target_refused", why, field="host")
