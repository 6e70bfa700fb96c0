"""The sandbox as a whole: opens ledger and ports, watches the rules file, stops without losing an answer.

Owns the life of the listeners and of the background tasks. Prints nothing: addresses go to `ready`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, Self

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.faults import FaultBook
from outrider.interfaces.sandbox.house import House
from outrider.interfaces.sandbox.ledger import Ledger
from outrider.interfaces.sandbox.options import Addresses, Endpoint, SandboxOptions
from outrider.interfaces.sandbox.rules import AnyRule, RulesFile
from outrider.interfaces.sandbox.smtp import Session
from outrider.interfaces.sandbox.status import StatusPages
from outrider.interfaces.sandbox.tls import certificate_path, server_context

_RULES_POLL_S: Final = 0.1
_STOP_POLL_S: Final = 0.01
_TICKS_PER_TIMEOUT: Final = 20
_BACKLOG: Final = 1_024

_log = logging.getLogger(__name__)


class Sandbox:
    """A running capture server: `async with Sandbox(options) as sandbox`, then `sandbox.addresses`."""

    def __init__(self, options: SandboxOptions) -> None:
        """Check the options; opens nothing yet.

        Raises:  Misconfigured naming the option.
        """
        options.check()
        self.options = options
        self.addresses: Addresses
        self._own_rules = options.faults
        self._file_rules: tuple[AnyRule, ...] = ()
        self._book = FaultBook(options.faults)
        self._rules_file = RulesFile(options.faults_path) if options.faults_path else None
        self._house: House | None = None
        self._servers: list[asyncio.Server] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def house(self) -> House:
        """The shared state, for statistics; after `start`."""
        if self._house is None:
            raise RuntimeError("the sandbox has not been started")
        return self._house

    async def start(self) -> Addresses:
        """Open ledger and ports.

        Raises:  Misconfigured: ledger, rules, certificate or a port cannot be used; everything opened is closed again.
        """
        options = self.options
        if self._rules_file is not None:
            self._file_rules = self._rules_file.read_if_changed() or ()
            self._book.replace((*self._own_rules, *self._file_rules))
        ledger = Ledger(options.ledger_path, keeps_bodies=options.keeps_bodies, is_fsynced=options.fsync == "flush")
        try:
            context = server_context(options)
            house = self._house = House(options, ledger, self._book, context, f"{time.time_ns():x}")
            smtp = await self._listen(lambda: Session(house), options.smtp_port, "smtp_port")
            smtps: Endpoint | None = None
            if options.smtps_port is not None:
                smtps = await self._listen(
                    lambda: Session(house, is_tls=True), options.smtps_port, "smtps_port", is_tls=True
                )
            http: Endpoint | None = None
            if options.http_port is not None:
                pages = StatusPages(house)
                http = await self._listen(pages.connection, options.http_port, "http_port")
        except BaseException:
            await self._close_servers()
            await ledger.close()
            raise
        self._tasks.append(asyncio.create_task(self._tick()))
        if self._rules_file is not None:
            self._tasks.append(asyncio.create_task(self._watch_rules(self._rules_file)))
        self.addresses = Addresses(smtp, smtps, http, certificate_path(options))
        return self.addresses

    async def stop(self) -> None:
        """Take nobody new, give messages under way the grace time, write the ledger out; idempotent."""
        house = self._house
        if house is None:
            return
        house.is_stopping = True
        for server in self._servers:
            server.close()
        deadline_s = time.monotonic() + self.options.grace_s
        while house.sessions and time.monotonic() < deadline_s:
            for session in list(house.sessions):
                if not session.is_in_transaction:
                    session.dismiss(b"421 4.3.2 Shutting down\r\n")
            await asyncio.sleep(_STOP_POLL_S)
        for session in list(house.sessions):
            session.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await house.empty.wait()
        await self._close_servers()
        await house.ledger.close()

    def set_rules(self, rules: tuple[AnyRule, ...]) -> None:
        """Put fault rules in force instead of those of the options, from within the process.

        Raises:  Misconfigured naming the rule; the old ones stay in force.
        """
        self._book.replace((*rules, *self._file_rules))
        self._own_rules = rules

    def reload_rules(self) -> None:
        """Read the rules file now, changed or not."""
        if self._rules_file is not None:
            self._read_rules(self._rules_file, is_forced=True)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(
        self, factory: Callable[[], asyncio.BaseProtocol], port: int, field: str, *, is_tls: bool = False
    ) -> Endpoint:
        try:
            server = await asyncio.get_running_loop().create_server(
                factory,
                self.options.host,
                port,
                backlog=_BACKLOG,
                ssl=self.house.tls if is_tls else None,
                ssl_handshake_timeout=self.options.handshake_timeout_s if is_tls else None,
            )
        except OSError as error:
            raise Misconfigured(
                "port_unusable", f"{self.options.host}:{port} cannot be listened on: {error.strerror}", field=field
            ) from error
        self._servers.append(server)
        address = server.sockets[0].getsockname()
        return str(address[0]), int(address[1])

    async def _close_servers(self) -> None:
        for server in self._servers:
            server.close()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    async def _tick(self) -> None:
        """Dismiss sessions that say nothing."""
        while True:
            await asyncio.sleep(self.options.idle_timeout_s / _TICKS_PER_TIMEOUT)
            for session in list(self.house.sessions):
                session.tick(_TICKS_PER_TIMEOUT)

    async def _watch_rules(self, file: RulesFile) -> None:
        while True:
            await asyncio.sleep(_RULES_POLL_S)
            self._read_rules(file)

    def _read_rules(self, file: RulesFile, *, is_forced: bool = False) -> None:
        """Take over changed rules; what cannot be read changes nothing but `rules_error` in the statistics."""
        try:
            rules = file.read_if_changed(is_forced=is_forced)
            if rules is None:
                return
            self._book.replace((*self._own_rules, *rules))
        except Misconfigured as error:
            self.house.rules_error = str(error)
            _log.warning("the old fault rules stay in force: %s", error)
        else:
            self._file_rules = rules
            self.house.rules_error = None
        self.house.rules_reads += 1


async def serve(options: SandboxOptions, *, ready: Callable[[Addresses], None], stop: asyncio.Event) -> None:
    """Run a sandbox until `stop` is set; SIGHUP reads the rules file again.

    Takes:   ready: called once with the addresses, when all ports are open.
    Raises:  Misconfigured when it cannot start.
    """
    sandbox = Sandbox(options)
    ready(await sandbox.start())
    try:
        with _on_hangup(sandbox.reload_rules):
            await stop.wait()
    finally:
        await sandbox.stop()


async def run(options: SandboxOptions, *, ready: Callable[[Addresses], None] = lambda _: None) -> None:
    """Run a sandbox as a process of its own: until SIGTERM or SIGINT.

    Raises:  Misconfigured when it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(options, ready=ready, stop=stop)


@contextlib.contextmanager
def _on_hangup(action: Callable[[], None]) -> Iterator[None]:
    """Listen for SIGHUP, where a process may: in its main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, action)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
