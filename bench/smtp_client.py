"""How many messages a second one process puts into an SMTP server: ours against Postfix's own `smtp-source`.

Needs `smtp-sink` and `smtp-source` (Debian package postfix). Run: `python bench/smtp_client.py [--messages N]`. Prints
our rate, the processor time of each message on our side, smtp-source's rate with its best number of sessions, and the
ratio.
Nothing else should run; compare ratios, not figures of different machines.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from ipaddress import ip_network
from uuid import UUID

import uvloop

from outrider.contracts.outcome import Accepted, Outcome
from outrider.contracts.provider import Outgoing
from outrider.data.egress import Egress
from outrider.plugins.providers.smtp import PROVIDER

BATCH = 500
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


def source(port: int, messages: int, sessions: int) -> float:
    """The rate of smtp-source, which keeps its connections with -d."""
    began = time.perf_counter()
    argv = ["smtp-source", "-d", "-s", str(sessions), "-m", str(messages), "-l", str(len(BODY)), f"127.0.0.1:{port}"]
    subprocess.run(argv, check=True)
    return messages / (time.perf_counter() - began)


def sink(port: int) -> subprocess.Popen[bytes]:
    """smtp-sink, which throws everything away."""
    argv = ["smtp-sink", *(["-u", "nobody"] if os.geteuid() == 0 else []), f"127.0.0.1:{port}", "1000"]
    process = subprocess.Popen(argv)
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    sys.exit("smtp-sink did not start")


def main() -> None:
    """Run both against one sink and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--senders", type=int, default=2, help="batches of 500 under way at once")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    if not shutil.which("smtp-sink"):
        sys.exit("install smtp-sink (Debian package postfix)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = sink(port)
    try:
        rates = []
        for _ in range(options.runs):
            rate, cpu_us = uvloop.run(ours(port, options.messages, options.connections, options.senders))
            rates.append(rate)
            print(
                f"ours: {rate:,.0f} messages/s of {len(BODY)} bytes, {cpu_us:.1f} us of processor time each", flush=True
            )
        if options.no_peer:
            return
        peers = {sessions: source(port, options.messages, sessions) for sessions in (4, 8, 16, 32)}
        best = max(peers, key=lambda sessions: peers[sessions])
        print(f"smtp-source -d: {peers[best]:,.0f} messages/s with its best of {list(peers)} sessions, {best}")
        print(f"ratio: {sorted(rates)[len(rates) // 2] / peers[best]:.2f}")
        print(f"children used {resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.1f} s")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
