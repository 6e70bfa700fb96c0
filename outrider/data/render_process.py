"""One rendering child process as its parent sees it: start, one request at a time, death.

Owns the pipes, the progress page and the stall limit. Never unpickles, evaluates or trusts what a child answers:
lengths are checked, octets are decoded as UTF-8, that is all.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import signal
import struct
import sys
import tempfile
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from outrider.base.errors import Unavailable

_CHILD = Path(__file__).with_name("render_child.py")
_STALL_S = 2.0
"""Processor time without a context rendered: the template is at fault. One context may use FUEL steps: some ms."""
_FROZEN_S = 10.0
"""Time by the clock without one: the machine is starved or the child was stopped, and no template is at fault."""
_POLL_S = 0.25
_START_S = 20.0
_STOP_S = 2.0
_KNOWN_TEMPLATES = 64
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
_STREAM_BYTES = 1024 * 1024
_BROKEN = (EOFError, OSError, ValueError, struct.error)

Key = tuple[str, tuple[tuple[str, str], ...]]
"""What a child keeps a template under: the version key and the sources themselves."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Death:
    """A child ended during a request: at which context (from 0), and whether somebody outside killed it."""

    index: int
    is_from_outside: bool


@dataclass(slots=True, eq=False)
class Child:
    """One process and what its templates are known as."""

    process: asyncio.subprocess.Process
    progress: mmap.mmap
    known: OrderedDict[Key, int] = field(default_factory=OrderedDict)
    slots_used: int = 0
    calls: int = 0
    is_killed_by_us: bool = False

    @classmethod
    async def start(cls) -> Child:
        """Start a process and wait until it is ready.

        Raises:  Unavailable(renderer_unavailable).
        """
        engine = find_spec("minijinja")
        if engine is None or engine.origin is None:
            raise Unavailable("renderer_unavailable", "minijinja is not installed")
        with tempfile.TemporaryFile() as page:
            page.truncate(mmap.PAGESIZE)
            progress = mmap.mmap(page.fileno(), mmap.PAGESIZE)
            try:
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", "-S", "-B", str(_CHILD),
                    str(Path(engine.origin).parent.parent), str(page.fileno()),
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                    env={}, cwd="/", pass_fds=(page.fileno(),), start_new_session=True, limit=_STREAM_BYTES,
                )  # fmt: skip
            except OSError as error:
                raise Unavailable("renderer_unavailable", f"no child process: {error.strerror}") from error
        child = cls(process, progress)
        try:
            async with asyncio.timeout(_START_S):
                greeting = await child.output.readline()
        except BaseException:
            await child.kill()
            raise
        if greeting != b"ready\n":
            await child.kill()
            raise Unavailable("renderer_unavailable", "a rendering process did not start")
        return child

    @property
    def output(self) -> asyncio.StreamReader:
        """Where answers come from."""
        if self.process.stdout is None:
            raise RuntimeError("the child was started without a pipe")
        return self.process.stdout

    def request(self, key: Key, parts: Mapping[str, str], payload: bytes) -> bytes:
        """The octets of a request; sends the sources only when this child does not have them."""
        head: dict[str, Any] = {"bytes": len(payload)}
        slot = self.known.get(key)
        if slot is None:
            self.slots_used += 1
            slot = self.known[key] = self.slots_used
            head["parts"] = parts
            if len(self.known) > _KNOWN_TEMPLATES:
                head["forget"] = self.known.popitem(last=False)[1]
        self.known.move_to_end(key)
        head["slot"] = slot
        return json.dumps(head).encode() + b"\n" + payload

    async def exchange(self, request: bytes, read: Callable[[array[int], bytes], T]) -> T | Death:
        """Send a request, wait for its answer as long as the child makes progress, and read it.

        Takes:   read: gives the answer's meaning; a ValueError in it counts as a broken child.
        """
        self.calls += 1
        struct.pack_into("<Q", self.progress, 0, 0)
        task = asyncio.ensure_future(self._exchange(request))
        seen, seen_at, used = 0, time.monotonic(), self._processor_s()
        try:
            while not (await asyncio.wait({task}, timeout=_POLL_S))[0]:
                done = self._done()
                if done != seen:
                    seen, seen_at, used = done, time.monotonic(), self._processor_s()
                elif self._processor_s() - used > _STALL_S or time.monotonic() - seen_at > _FROZEN_S:
                    return await self._died(task, is_from_outside=self._processor_s() - used <= _STALL_S)
            try:
                return read(*task.result())
            except _BROKEN:
                return await self._died(task)
        except asyncio.CancelledError:
            task.cancel()
            await self.kill()
            raise

    async def _exchange(self, request: bytes) -> tuple[array[int], bytes]:
        if self.process.stdin is None:
            raise RuntimeError("the child was started without a pipe")
        self.process.stdin.write(request)
        await self.process.stdin.drain()
        count, size = struct.unpack("<II", await self.output.readexactly(8))
        if size > _LARGEST_ANSWER_BYTES or count > _LARGEST_ANSWER_BYTES:
            raise ValueError("the answer is larger than any answer may be")
        lengths = array("i")
        lengths.frombytes(await self.output.readexactly(count * lengths.itemsize))
        return lengths, await self.output.readexactly(size)

    def _processor_s(self) -> float:
        """Processor time it has used; the clock where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return time.monotonic()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def _died(self, task: asyncio.Future[Any], *, is_from_outside: bool = False) -> Death:
        """Make sure that it is dead, and tell where it was."""
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, *_BROKEN):
            await task
        has_ended = await self._ends_within(_POLL_S)
        await self.kill()
        is_killed = has_ended and self.process.returncode in (-signal.SIGKILL, -signal.SIGTERM)
        return Death(max(0, self._done() - 1), is_from_outside or is_killed)

    def _done(self) -> int:
        count: int = struct.unpack_from("<Q", self.progress, 0)[0]
        return count

    @property
    def is_alive(self) -> bool:
        """Whether it can take another request."""
        return self.process.returncode is None and not self.is_killed_by_us

    async def kill(self) -> None:
        """End it at once; idempotent."""
        self.is_killed_by_us = True
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
            with contextlib.suppress(OSError):
                await self.process.stdin.wait_closed()

    async def stop(self) -> None:
        """Let it end by itself, or end it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self._ends_within(_STOP_S)
        await self.kill()
        self.progress.close()

    async def _ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself in time."""
        ending = asyncio.ensure_future(self.process.wait())
        done, _ = await asyncio.wait({ending}, timeout=seconds)
        ending.cancel()
        return bool(done)
