r"""A raw SMTP client for tests of servers: it says exactly the bytes it is given, and hears whole replies.

async with open_sandbox(tmp_path) as sandbox:
    async with Talk(sandbox.addresses.smtp) as talk:
        await talk.say(b"EHLO me\r\n", expect=250)
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop

from outrider.interfaces.sandbox import Addresses, LedgerReader, Record, Sandbox, SandboxOptions
from outrider.interfaces.sandbox.house import House
from outrider.interfaces.sandbox.rules import AnyRule

_WAIT_S = 60.0
Result = TypeVar("Result")

MESSAGE = b"Message-ID: <m1@example.org>\r\nX-Outrider-Message: 0198\r\nSubject: hello\r\n\r\nhello\r\n"
ENVELOPE = b"MAIL FROM:<from@example.org>\r\nRCPT TO:<ana@example.org>\r\nDATA\r\n"


class Talk:
    """One connection. Waiting is bounded: a server that says nothing fails the test."""

    def __init__(self, address: tuple[str, int], *, is_greeting_heard: bool = True) -> None:
        self.address = address
        self._is_greeting_heard = is_greeting_heard
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def say(self, data: bytes, *, expect: int | None = None) -> bytes:
        """Write bytes; with `expect` hear one reply of that code and give its text."""
        self._writer.write(data)
        await self._writer.drain()
        return b"" if expect is None else await self.hear(expect)

    async def hear(self, *codes: int) -> bytes:
        """One reply per code, in that order; gives the last one, all its lines."""
        text = b""
        for code in codes:
            text = await self._reply()
            assert text[:3] == b"%d" % code, f"expected {code}, heard {text!r}"
        return text

    async def ended(self) -> bytes:
        """Whatever still comes until the server closes (reset or not)."""
        try:
            return await asyncio.wait_for(self._reader.read(), _WAIT_S)
        except ConnectionError:
            return b""

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands, the 220 having been heard."""
        await asyncio.wait_for(self._writer.start_tls(context, server_hostname="localhost"), _WAIT_S)

    def half_close(self) -> None:
        """Say no more, still hear."""
        self._writer.write_eof()

    def vanish(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(*self.address)
        if self._is_greeting_heard:
            await self.hear(220)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def _reply(self) -> bytes:
        lines = b""
        while True:
            line = await asyncio.wait_for(self._reader.readline(), _WAIT_S)
            assert line.endswith(b"\r\n"), f"the server closed after {lines!r} {line!r}"
            lines += line
            if line[3:4] == b" ":
                return lines


class RunningSandbox:
    """A sandbox on an event loop and a thread of its own, as in production: on uvloop."""

    def __init__(self, options: SandboxOptions, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self.options = options
        self.sandbox = Sandbox(options)
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox")

    @property
    def addresses(self) -> Addresses:
        """Where it listens."""
        return self.sandbox.addresses

    @property
    def house(self) -> House:
        """Its counters and sessions, to look at."""
        return self.sandbox.house

    async def start(self) -> None:
        """Open ports; the thread ends again when that fails."""
        self._thread.start()
        try:
            await self._there(self.sandbox.start())
        except BaseException:
            self._end_thread()
            raise

    async def stop(self) -> None:
        """Stop the sandbox, not yet its thread."""
        await self._there(self.sandbox.stop())

    async def set_rules(self, *rules: AnyRule) -> None:
        """Put these fault rules in force."""

        async def put() -> None:
            self.sandbox.set_rules(rules)

        await self._there(put())

    async def end(self) -> None:
        """Stop the sandbox and its thread."""
        try:
            await self.stop()
            await self._there(self._loop.shutdown_default_executor())
        finally:
            self._end_thread()

    async def _there(self, work: Coroutine[Any, Any, Result]) -> Result:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@asynccontextmanager
async def open_sandbox(
    directory: Path,
    *rules: AnyRule,
    http_port: int | None = None,
    new_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop,
    **options: Any,
) -> AsyncIterator[RunningSandbox]:
    """A sandbox in this process, on free ports, with its ledger in `directory`."""
    path = directory / "ledger.jsonl"
    values = SandboxOptions(ledger_path=path, smtp_port=0, http_port=http_port, faults=rules, **options)
    sandbox = RunningSandbox(values, new_loop)
    await sandbox.start()
    try:
        yield sandbox
    finally:
        await sandbox.end()


def records(sandbox: RunningSandbox) -> list[Record]:
    """What the ledger holds now."""
    return list(LedgerReader(sandbox.options.ledger_path))


def summary(sandbox: RunningSandbox) -> list[tuple[str, str, str | None]]:
    """Outcome, stage and recipient of each record."""
    return [(record.outcome, record.stage, record.rcpt_to) for record in records(sandbox)]


async def until(is_there: Callable[[], bool], *, within_s: float = _WAIT_S) -> None:
    """Wait for a condition; fails after `within_s`."""
    async with asyncio.timeout(within_s):
        while not is_there():  # noqa: ASYNC110 -- the condition is another process's or a file's, nobody sets an event
            await asyncio.sleep(0.005)


async def with_smtplib(sandbox: RunningSandbox, use: Callable[[smtplib.SMTP], Result]) -> Result:
    """Run a blocking session of the standard library's client in a thread."""
    host, port = sandbox.addresses.smtp

    def session() -> Result:
        with smtplib.SMTP(host, port, local_hostname="client.test", timeout=_WAIT_S) as client:
            return use(client)

    return await asyncio.to_thread(session)


def trusting(sandbox: RunningSandbox) -> ssl.SSLContext:
    """A client's TLS context that trusts this sandbox and nobody else."""
    return ssl.create_default_context(cafile=str(sandbox.addresses.certificate_path))
