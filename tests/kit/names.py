"""Name servers for tests: a table that answers in memory, and the same table behind a real UDP server on loopback.

API
    Table(texts=…, mail=…, aliases=…, addresses=…)   implements outrider.data.names.Names; `broken` names raise
    serving(table) -> async context manager of "127.0.0.1:port", for OUTRIDER_DNS_SERVERS
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from outrider.base.errors import Unavailable


@dataclass
class Table:
    """What the name system says."""

    texts_of: dict[str, list[str]] = field(default_factory=dict)
    mail_of: dict[str, list[str]] = field(default_factory=dict)
    alias_of: dict[str, str] = field(default_factory=dict)
    addresses_of: dict[str, list[str]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def _ask(self, name: str) -> str:
        self.asked.append(name)
        if name in self.broken:
            raise Unavailable("dns_failed", f"{name}: no name server could say")
        return name

    async def texts(self, name: str) -> list[str]:
        return self.texts_of.get(self._ask(name), [])

    async def mail_hosts(self, name: str) -> list[str]:
        return self.mail_of.get(self._ask(name), [])

    async def alias(self, name: str) -> str:
        return self.alias_of.get(self._ask(name), "")

    async def addresses(self, name: str) -> list[str]:
        return self.addresses_of.get(self._ask(name), [])

    def rows(self, name: str, kind: str) -> list[str]:
        """The records of one name and kind as their text in a zone file."""
        if kind == "TXT":
            cut = [[text[at : at + 200] for at in range(0, len(text), 200)] for text in self.texts_of.get(name, [])]
            return [" ".join(f'"{piece}"' for piece in pieces) for pieces in cut]
        if kind == "MX":
            return [f"{10 * at} {host}." for at, host in enumerate(self.mail_of.get(name, []), 1)]
        if kind == "CNAME":
            return [f"{self.alias_of[name]}."] if name in self.alias_of else []
        return [text for text in self.addresses_of.get(name, []) if (":" in text) == (kind == "AAAA")]


class _Server(asyncio.DatagramProtocol):
    def __init__(self, table: Table) -> None:
        self._table = table
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query: dns.message.Message = dns.message.from_wire(data)
        (question,) = query.question
        name = question.name.to_text(omit_final_dot=True)
        kind = dns.rdatatype.to_text(question.rdtype)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        rows = self._table.rows(name, kind)
        if name in self._table.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif rows:
            answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *rows))
        elif not any(self._table.rows(name, each) for each in ("TXT", "MX", "CNAME", "A", "AAAA")):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def serving(table: Table) -> AsyncIterator[str]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Server(table), local_addr=("127.0.0.1", 0)
    )
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
