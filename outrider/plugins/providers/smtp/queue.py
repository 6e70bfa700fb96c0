"""What waits for a connection: batches in turn, one message each, so that one message never waits for 500 others.

Urgent batches go first, but for every fourth turn.

Owns the messages not yet on a wire and the exactly-once settling of each; never knows about connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from outrider.contracts.outcome import Outcome, Unsent
from outrider.contracts.provider import Outgoing, Watch
from outrider.data.lines import Lines


class Item:
    """One message of a batch on its way. `is_retried`: its one further try on a fresh connection is used up."""

    __slots__ = ("batch", "is_retried", "is_settled", "message")

    def __init__(self, message: Outgoing, batch: Batch) -> None:
        self.message = message
        self.batch = batch
        self.is_retried = False
        self.is_settled = False

    def settle(self, outcome: Outcome) -> None:
        """Tell the engine, once; whatever comes later about this message is ignored."""
        if not self.is_settled:
            self.is_settled = True
            self.batch.settled(self, outcome)


class Batch:
    """The messages of one `send`."""

    __slots__ = ("_left", "done", "is_urgent", "waiting", "watch")

    def __init__(self, messages: Sequence[Outgoing], watch: Watch, done: asyncio.Future[None]) -> None:
        self.watch = watch
        self.done = done
        self.waiting = deque(Item(message, self) for message in messages)
        self._left = len(self.waiting)
        self.is_urgent = messages[0].is_urgent

    def settled(self, item: Item, outcome: Outcome) -> None:
        """Count one message off; the last one ends the `send`, even when the engine's own code raised."""
        self._left -= 1
        try:
            self.watch.settle(item.message, outcome)
        finally:
            if not self._left and not self.done.done():
                self.done.set_result(None)


class Queue:
    """Round robin over batches, urgent ones before the others. Every operation is O(1) but `drop`."""

    __slots__ = ("_lines", "count")

    def __init__(self) -> None:
        self._lines: Lines[Batch] = Lines()
        self.count = 0
        """Messages waiting."""

    def add(self, batch: Batch) -> None:
        """A whole batch, which takes its turns from now on."""
        self._lines.line(is_urgent=batch.is_urgent).append(batch)
        self.count += len(batch.waiting)

    def put_back(self, item: Item) -> None:
        """A message taken before: the first of its batch, whose turn is next."""
        batch = item.batch
        if not batch.waiting:
            self._lines.line(is_urgent=batch.is_urgent).appendleft(batch)
        batch.waiting.appendleft(item)
        self.count += 1

    def take(self) -> Item | None:
        """The next message in turn, or None."""
        turns = self._lines.turn()
        if not turns:
            return None
        batch = turns.popleft()
        item = batch.waiting.popleft()
        self.count -= 1
        if batch.waiting:
            turns.append(batch)
        return item

    def sift(self, batch: Batch) -> None:
        """Settle the first messages of a batch that the engine withdraws, up to the first that it lets go.

        That one is asked about again before its body. A pause thus costs one connection and not one for each message.
        """
        waiting = batch.waiting
        while waiting and (reason := batch.watch.begin(waiting[0].message)) is not None:
            item = waiting.popleft()
            self.count -= 1
            if not waiting:
                self._lines.line(is_urgent=batch.is_urgent).remove(batch)
            item.settle(Unsent(reason))

    def drain(self, outcome: Outcome) -> None:
        """Settle everything that waits, alike."""
        batches, self.count = self._lines.everybody(), 0
        self._lines.clear()
        for batch in batches:
            items, batch.waiting = batch.waiting, deque()
            for item in items:
                item.settle(outcome)

    def drop(self, batch: Batch, outcome: Outcome) -> None:
        """Settle what waits of one batch."""
        if batch.waiting:
            self._lines.line(is_urgent=batch.is_urgent).remove(batch)
            items, batch.waiting = batch.waiting, deque()
            self.count -= len(items)
            for item in items:
                item.settle(outcome)
