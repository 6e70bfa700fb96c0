"""How many messages a second one process puts into an SMTP server: ours against Postfix's own `smtp-source`.

Needs `smtp-sink` and `smtp-source` (Debian package postfix). Run: `python bench/smtp_client.py [--messages N]`. Prints
our rate, the processor time of each message on our side, smtp-source's rate with its best number of sessions, and the
ratio.
Nothing else should run; compare ratios, not figures of different machines.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from ipaddress import ip_network
from uuid import UUID

import uvloop

from bench.kit.figures import median, say
from bench.kit.servers import smtp_sink, smtp_source
from outrider.contracts.outcome import Accepted, Outcome
from outrider.contracts.provider import Outgoing
from outrider.data.egress import Egress
from outrider.plugins.providers.smtp import PROVIDER

BATCH = 500
SESSIONS = (4, 8, 16, 32)
BODY = (b"Subject: bench\r\n\r\n" + (b"x" * 70 + b"\r\n") * 57)[:4094] + b"\r\n"


class Count:
    """Counts outcomes; gives leave to everything, as an engine without a stop does."""

    def __init__(self) -> None:
        self.accepted = 0
        self.others: list[Outcome] = []

    def begin(self, message: Outgoing) -> str | None:
        """Leave for everything."""
        del message
        return None

    def settle(self, message: Outgoing, outcome: Outcome) -> None:
        """One more."""
        del message
        if isinstance(outcome, Accepted):
            self.accepted += 1
        else:
            self.others.append(outcome)

    async def keep_key(self, key: str, messages: Sequence[Outgoing]) -> str | None:
        """Mail servers know no keys."""
        raise NotImplementedError


async def ours(port: int, messages: int, connections: int, senders: int) -> tuple[float, float]:
    """Messages a second and microseconds of our processor time for each."""
    transport = PROVIDER.open(
        {"host": "127.0.0.1", "port": port, "tls": "off", "connections": connections},
        {},
        Egress((ip_network("127.0.0.0/8"),)),
    )
    count = Count()
    batches = iter(range(messages // BATCH))

    async def sender() -> None:
        for batch in batches:
            await transport.send(
                [
                    Outgoing(UUID(int=batch * BATCH + n), f"user{n}@example.com", "news@example.org", BODY, "key")
                    for n in range(BATCH)
                ],
                count,
            )

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(sender() for _ in range(senders)))
    took, used = time.perf_counter() - began, time.process_time() - used
    await transport.close()
    assert count.accepted == messages // BATCH * BATCH, count.others[:3]
    return count.accepted / took, used / count.accepted * 1e6


def main() -> None:
    """Run both against one sink and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--senders", type=int, default=2, help="batches of 500 under way at once")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    with smtp_sink() as port:
        rates = []
        for _ in range(options.runs):
            rate, cpu_us = uvloop.run(ours(port, options.messages, options.connections, options.senders))
            rates.append(rate)
            say(f"ours: {rate:,.0f} messages/s of {len(BODY)} bytes, {cpu_us:.1f} us of processor time each")
        if options.no_peer:
            return
        peers = {
            sessions: smtp_source(port, messages=options.messages, sessions=sessions, message_bytes=len(BODY))
            for sessions in SESSIONS
        }
        best = max(peers, key=lambda sessions: peers[sessions])
        print(f"smtp-source -d: {peers[best]:,.0f} messages/s with its best of {list(peers)} sessions, {best}")
        print(f"ratio: {median(rates) / peers[best]:.2f}")


if __name__ == "__main__":
    main()
