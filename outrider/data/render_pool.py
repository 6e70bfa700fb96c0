"""A pool of child processes that run tenants' templates: a template can end its child, never this process.

Owns how many children there are, who gets one, and the quarantine of versions that ended theirs. Implements
`contracts.channel.Renderer`. Never renders in this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from array import array
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from itertools import accumulate

from outrider.base.errors import Unavailable
from outrider.contracts.channel import TemplateProblem
from outrider.data.render_process import Child, Death, Key

_BATCH_COUNT = 250
"""Contexts per request: a heavy template gives way to other tenants after so many."""
_BATCH_CHARACTERS = 4 * 1024 * 1024
"""And so much text of them, which the child has to hold parsed."""
_CALLS_PER_CHILD = 4_000
_DEATHS_TO_QUARANTINE = 2
_QUARANTINE_S = 600.0
_QUARANTINE_COUNT = 1_000
_OUTSIDE_KILLS = 3
_LOOK_S = 60.0
"""How often children that were not needed lately are put away."""

_ENDED = "ended its renderer: it needs too much memory or time"
_QUARANTINED = "not rendered: this version ended its renderer before; mend it and save a new version"

Answer = dict[str, str] | str


class RenderPool:
    """As many children as work at once, and a spare beyond them, so that a dead one is replaced at once.

    At rest it is one child: the first render finds it ready, and while it works the spare is started. Up to `size`
    work at once.
    """

    def __init__(self, size: int = 2) -> None:
        self._size = size
        self._lanes = asyncio.Semaphore(size)
        self._ready: deque[Child] = deque()
        self._borrowed: set[Child] = set()
        self._starting_count = 0
        self._wanted_count = 1
        self._most_borrowed = 0
        self._look: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._deaths: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._is_closed = False

    async def start(self, count: int = 1) -> None:
        """Start so many children and wait for them; the others come when they are needed.

        Raises:  Unavailable(renderer_unavailable).
        """
        self._want(count)
        started = await asyncio.gather(*(Child.start() for _ in range(self._wanted_count)), return_exceptions=True)
        self._ready.extend(child for child in started if isinstance(child, Child))
        for failure in started:
            if isinstance(failure, BaseException):
                await self.close()
                raise failure

    async def close(self) -> None:
        """End all children; idempotent. Renders under way end as Unavailable."""
        self._is_closed = True
        if self._look is not None:
            self._look.cancel()
        await asyncio.gather(*(child.kill() for child in self._borrowed))
        while self._tasks or self._ready:
            children, self._ready = list(self._ready), deque()
            await asyncio.gather(*self._tasks, *(child.stop() for child in children))

    @property
    def pids(self) -> list[int]:
        """Process ids of the living children, for diagnosis."""
        return [child.process.pid for child in (*self._ready, *self._borrowed) if child.is_alive]

    async def render(self, sources: Mapping[str, str], version_key: str, contexts: Sequence[str]) -> list[Answer]:
        """Render every source for every context; see `contracts.channel.Renderer`.

        A context during which the child ends gets the reason, the others are rendered by the next child; a version that
        ends two children is refused for ten minutes. A child that is killed from outside costs nothing but time.
        """
        key = (version_key, tuple(sources.items()))
        answers: list[Answer] = []
        for batch in _batches(contexts):
            answers += await self._batch(key, batch)
        return answers

    async def _batch(self, key: Key, contexts: Sequence[str]) -> list[Answer]:
        answers: list[Answer] = [_QUARANTINED] * len(contexts)
        pending, kills = list(range(len(contexts))), 0
        while pending and not self._is_quarantined(key[0]):
            outcome = await self._ask(key, [contexts[at] for at in pending])
            if not isinstance(outcome, Death):
                for at, answer in zip(pending, outcome, strict=True):
                    answers[at] = answer
                break
            if outcome.is_from_outside:
                kills += 1
                if kills > _OUTSIDE_KILLS:
                    raise Unavailable("renderer_unavailable", "rendering processes are being killed or starved")
                continue
            answers[pending.pop(min(outcome.index, len(pending) - 1))] = _ENDED
            self._blame(key[0])
        return answers

    async def _ask(self, key: Key, contexts: Sequence[str]) -> list[Answer] | Death:
        def read(lengths: array[int], octets: bytes) -> list[Answer]:
            return _read_answers(names, len(contexts), lengths, octets)

        parts = dict(key[1])
        names = tuple(parts)
        payload = _payload(contexts)
        async with self._borrow(key) as child:
            return await child.exchange(child.request(key, parts, payload), read)

    async def check(self, sources: Mapping[str, str], version_key: str) -> list[TemplateProblem]:
        """Try templates without data; see `contracts.channel.Renderer`."""
        kills, found = 0, await self._check(sources)
        while isinstance(found, Death) and found.is_from_outside:
            kills += 1
            if kills > _OUTSIDE_KILLS:
                raise Unavailable("renderer_unavailable", "rendering processes are being killed or starved")
            found = await self._check(sources)
        if isinstance(found, list):
            return found
        if len(sources) > 1:
            return [
                problem for part, source in sources.items() for problem in await self.check({part: source}, version_key)
            ]
        return [TemplateProblem(next(iter(sources)), 1, _ENDED)]

    async def _check(self, sources: Mapping[str, str]) -> list[TemplateProblem] | Death:
        def read(_: array[int], octets: bytes) -> list[TemplateProblem]:
            return [TemplateProblem(str(part), int(line), str(detail)) for part, line, detail in json.loads(octets)]

        async with self._borrow(None) as child:
            return await child.exchange(json.dumps({"check": dict(sources)}).encode() + b"\n", read)

    @contextlib.asynccontextmanager
    async def _borrow(self, key: Key | None) -> AsyncIterator[Child]:
        """A child for one exchange; the one that knows the template if it is free."""
        async with self._lanes:
            if self._is_closed:
                raise Unavailable("renderer_unavailable", "the renderer is closed")
            child = self._take(key) or await Child.start()
            self._borrowed.add(child)
            self._most_borrowed = max(self._most_borrowed, len(self._borrowed))
            self._want(len(self._borrowed) + 1)
            self._fill_up()
            try:
                yield child
            finally:
                self._borrowed.discard(child)
                self._give_back(child)

    def _take(self, key: Key | None) -> Child | None:
        for child in [child for child in self._ready if not child.is_alive]:
            self._ready.remove(child)
            self._in_background(child)
        if not self._ready:
            return None
        best = next((child for child in self._ready if key in child.known), self._ready[0])
        self._ready.remove(best)
        return best

    def _give_back(self, child: Child) -> None:
        if child.is_alive and child.calls < _CALLS_PER_CHILD and not self._is_closed:
            self._ready.appendleft(child)
        else:
            self._in_background(child)
        self._fill_up()

    def _want(self, count: int) -> None:
        """Have at least so many from now on, the spare included; look again later whether they were needed."""
        self._wanted_count = max(self._wanted_count, min(count, self._size + 1))
        if self._wanted_count > 1 and self._look is None and not self._is_closed:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._calm_down)

    def _fill_up(self) -> None:
        missing = self._wanted_count - len(self._ready) - len(self._borrowed) - self._starting_count
        for _ in range(0 if self._is_closed else missing):
            self._starting_count += 1
            self._in_background(None)

    def _calm_down(self) -> None:
        """Put away what was not needed since the last look."""
        self._look = None
        self._wanted_count = 1
        self._want(self._most_borrowed + 1 if self._most_borrowed else 1)
        self._most_borrowed = len(self._borrowed)
        while self._ready and len(self._ready) + len(self._borrowed) > self._wanted_count:
            self._in_background(self._ready.pop())

    def _in_background(self, ended: Child | None) -> None:
        """Put an ended child away, or make one more ready."""
        task = asyncio.create_task(ended.stop() if ended else self._add_one())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add_one(self) -> None:
        try:
            child = await Child.start()
        except Unavailable:
            return  # the next render tries again and tells
        finally:
            self._starting_count -= 1
        if self._is_closed or len(self._ready) + len(self._borrowed) >= self._wanted_count:
            await child.stop()
        else:
            self._ready.append(child)

    def _is_quarantined(self, version_key: str) -> bool:
        deaths, until = self._deaths.get(version_key, (0, 0.0))
        if deaths and time.monotonic() > until:
            del self._deaths[version_key]
            return False
        return deaths >= _DEATHS_TO_QUARANTINE

    def _blame(self, version_key: str) -> None:
        deaths, _ = self._deaths.pop(version_key, (0, 0.0))
        self._deaths[version_key] = (deaths + 1, time.monotonic() + _QUARANTINE_S)
        while len(self._deaths) > _QUARANTINE_COUNT:
            self._deaths.popitem(last=False)


def _batches(contexts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Contexts in order, as many at once as a child should get."""
    start, size = 0, 0
    for at, context in enumerate(contexts):
        if at > start and (at - start >= _BATCH_COUNT or size + len(context) > _BATCH_CHARACTERS):
            yield contexts[start:at]
            start, size = at, 0
        size += len(context)
    if start < len(contexts):
        yield contexts[start:]


def _payload(contexts: Sequence[str]) -> bytes:
    """Contexts joined by NUL, which no JSON text has; one that has it, or half a surrogate pair, becomes empty."""
    joined = "\0".join(contexts)
    try:
        if joined.count("\0") < len(contexts):
            return joined.encode()
    except UnicodeEncodeError:
        pass
    return b"\0".join([b"" if "\0" in context else context.encode(errors="replace") for context in contexts])


def _read_answers(parts: Sequence[str], count: int, lengths: array[int], octets: bytes) -> list[Answer]:
    """The answer of a child, taken apart.

    Raises:  ValueError when it does not fit the question; nothing of it is used then.
    """
    width = len(parts)
    if len(lengths) != count * width or sum(map(abs, lengths)) != len(octets):
        raise ValueError("lengths do not fit the answer")
    ends = list(accumulate(map(abs, lengths), initial=0))
    answers: list[Answer] = []
    for at in range(0, len(lengths), width):
        if lengths[at] < 0:
            answers.append(octets[ends[at] : ends[at + 1]].decode())
        else:
            answers.append({part: octets[ends[at + n] : ends[at + n + 1]].decode() for n, part in enumerate(parts)})
    return answers
