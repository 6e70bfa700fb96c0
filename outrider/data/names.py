"""Questions to the name system: text, mail, alias and address records of a name, asked with a bound.

Owns the difference between "there is none" (an empty answer) and "nobody could say" (Unavailable). Never judges what
an answer means, and never dials what it names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from outrider.base.errors import Unavailable
from outrider.base.web import name_server

WITHIN_S: Final = 4.0
_MOST_AT_ONCE: Final = 8


class Names(Protocol):
    """Who answers; tests bring their own."""

    async def texts(self, name: str) -> list[str]:
        """TXT records, each joined from its pieces. Raises Unavailable(dns_failed)."""
        ...

    async def mail_hosts(self, name: str) -> list[str]:
        """MX hosts, best first, without the last dot; a null MX is `""`. Raises Unavailable(dns_failed)."""
        ...

    async def alias(self, name: str) -> str:
        """What a CNAME names, without the last dot; empty without one. Raises Unavailable(dns_failed)."""
        ...

    async def addresses(self, name: str) -> list[str]:
        """A and AAAA records. Raises Unavailable(dns_failed)."""
        ...


class NameSystem:
    """Implements `Names` with the system's name servers or those an operator set."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        """`servers` as in OUTRIDER_DNS_SERVERS; empty: those of /etc/resolv.conf."""
        self._servers = tuple(servers)
        self._made: dns.asyncresolver.Resolver | None = None
        self._slots = asyncio.Semaphore(_MOST_AT_ONCE)

    async def texts(self, name: str) -> list[str]:
        """See `Names`."""
        return [b"".join(each.strings).decode("utf-8", "replace") for each in await self._ask(name, "TXT")]

    async def mail_hosts(self, name: str) -> list[str]:
        """See `Names`."""
        found = sorted(await self._ask(name, "MX"), key=lambda each: each.preference)
        return [_plain(each.exchange) for each in found]

    async def alias(self, name: str) -> str:
        """See `Names`."""
        return next((_plain(each.target) for each in await self._ask(name, "CNAME")), "")

    async def addresses(self, name: str) -> list[str]:
        """See `Names`."""
        return [each.address for kind in ("A", "AAAA") for each in await self._ask(name, kind)]

    async def _ask(self, name: str, kind: str) -> list[Any]:
        """The records of one kind; none is an answer too."""
        try:
            async with self._slots:
                return list(await self._resolver().resolve(f"{name}.", kind, lifetime=WITHIN_S))
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel):
            return []
        except (dns.exception.DNSException, OSError) as error:
            why = "no answer in time" if isinstance(error, dns.exception.Timeout) else "no name server could say"
            raise Unavailable("dns_failed", f"{name} {kind}: {why}") from None

    def _resolver(self) -> dns.asyncresolver.Resolver:
        """The resolver, made at the first question: a machine without name servers is told then."""
        if self._made is None:
            made = dns.asyncresolver.Resolver(configure=not self._servers)
            if self._servers:
                made.nameservers = [dns.nameserver.Do53Nameserver(*name_server(each)) for each in self._servers]
            self._made = made
        return self._made


def _plain(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).rstrip(".").lower()
