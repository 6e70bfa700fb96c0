"""One connection that carries messages: the SMTP transaction as a state machine over replies.

Owns what has been written and not yet answered, and settles each message by the answer that concerns it. At any time
at most one body is unanswered (`_body`) and one envelope ahead of its body (`_next`); bytes that can lead to acceptance
are written only after the engine gave leave. Never opens connections and never chooses messages.
"""

from __future__ import annotations

from typing import Final, Protocol

from outrider.contracts.outcome import Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.plugins.providers.smtp.envelope import LONE_DOT, Offer, commands, stuffed
from outrider.plugins.providers.smtp.queue import Batch, Item
from outrider.plugins.providers.smtp.replies import CLOSING, GO_AHEAD, OK, REFUSED, Reply, Step, accepted, judge
from outrider.plugins.providers.smtp.settings import Account
from outrider.plugins.providers.smtp.writing import Writing

IDLE_LIMIT_S: Final = 30.0
"""An idle connection is given up after this; most servers and address translators keep theirs for longer."""
_AGE_LIMIT_S: Final = 900.0
_QUIT_TIMEOUT_S: Final = 2.0
_SLOW_DOT_S: Final = 0.25
"""A server slower than this to take a message gains nothing from an envelope sent ahead."""
_STUCK_S: Final = 1.0
_ENVELOPE: Final = (Step.MAIL, Step.RCPT, Step.DATA)


class Source(Protocol):
    """Where a session's messages come from and whom it tells that it is free or gone."""

    def take(self) -> Item | None:
        """The next message, now this session's to settle or give back."""
        ...

    def give_back(self, item: Item) -> None:
        """A message that this session cannot carry and that was certainly not sent."""
        ...

    def sift(self, batch: Batch) -> None:
        """A message of this batch was withdrawn when it had cost an envelope and a connection: ask for the others."""
        ...

    def rest(self, session: Session) -> None:
        """The session has nothing to do."""
        ...

    def gone(self, session: Session, reason: Deferred | None) -> None:
        """The session ended; a reason when it was not of our own accord."""
        ...


class Session(Writing):
    """A connection past its handshake. `answered` counts transactions that the server decided."""

    def __init__(self, account: Account, source: Source) -> None:
        super().__init__(account.command_timeout_s)
        self.offer = Offer()
        self.answered = 0
        self.moved_at = self.opened_at
        self._account = account
        self._source = source
        self._body: Item | None = None
        self._next: Item | None = None
        self._verdict: Deferred | Rejected | None = None
        self._is_rcpt_taken = False
        self._steps: list[bytes] = []
        self._needs_reset = False
        self._is_doomed = False
        self._is_quick = True
        self._is_quitting = False
        self._was_idle = False
        self._on = (
            self._note_answer,
            self._on_mail,
            self._on_rcpt,
            self._on_data,
            self._on_dot,
            self._on_null_dot,
            self._on_reset,
            self._on_quit,
        )

    # what the pool asks

    @property
    def is_leaving(self) -> bool:
        """Whether it will take no further message."""
        return self._is_doomed or self.is_over

    def start(self) -> bool:
        """Begin with the next message; False when there was none."""
        wire = self._envelope()
        if wire:
            self.send(wire, self._account.command_timeout_s)
        return bool(wire)

    def rest(self) -> None:
        """Wait for work, but not for ever."""
        self._was_idle = True
        self.deadline = self.loop.time() + IDLE_LIMIT_S

    def quit(self) -> None:
        """End politely: now, or after the body that is under way; a message not begun is given back."""
        ahead = self._forsake()
        if ahead is not None:
            self._source.give_back(ahead)
        if self._body is not None or self._is_quitting or self.is_over:
            return
        if self._expected:  # an envelope whose message was taken off: its DATA may be open, so QUIT would be text
            self.end("an envelope without a message")
        else:
            self._is_quitting = True
            self._expected.append(Step.QUIT)
            self.send(b"QUIT\r\n", _QUIT_TIMEOUT_S)

    def tick(self, now: float, *, has_room: bool) -> None:
        """Called a few times a second: time-outs, and a message stuck behind another's slow answer moves on."""
        if now >= self.deadline:
            self._expire()
        elif has_room and self._body is not None and self._next is not None and now - self.moved_at > _STUCK_S:
            self._source.give_back(self._next)
            self._forsake()

    def withdraw(self, batch: Batch | None, reason: str) -> None:
        """Settle this session's messages of a batch (None: of every batch) for a sender that has stopped waiting."""
        ahead, body = self._next, self._body
        if ahead is not None and batch in (None, ahead.batch):
            self._forsake()
            ahead.settle(Unsent(reason))
            if body is None:
                self.end(reason)
        if body is not None and batch in (None, body.batch):
            body.settle(Uncertain("answer_lost", f"{reason} before the server answered"))
            self.end(reason)

    def end(self, detail: str) -> None:
        """Cut the connection of our own accord; what was not begun is given back."""
        self._is_quitting = True
        self.fail("connection_failed", detail)

    # replies

    def answer(self, step: Step, code: int, text: bytes) -> None:
        """A reply and what it answers."""
        self._was_idle = False
        if code == CLOSING and step is not Step.ASK and step is not Step.QUIT:
            self._on_closing(step, text)
        else:
            self._on[step](code, text)

    def unexpected(self, reply: Reply) -> None:
        """An answer to nothing: while a long body is under way a refusal of it, else a good-bye or nonsense."""
        if self.is_body_open and self._body is not None and reply.code in REFUSED:
            item, self._body = self._body, None
            item.settle(judge(Step.DOT, reply))
            self.end("the server refused the message before its end")
        elif self._body is None and self._next is None and not self._is_sealed and self.answered:
            self.fail("connection_failed", "the server ended the session")
        else:
            super().unexpected(reply)

    def _on_mail(self, code: int, text: bytes) -> None:
        if code in OK:
            self._step()
        else:
            self._refuse(Step.MAIL, code, text)

    def _on_rcpt(self, code: int, text: bytes) -> None:
        if code in OK:
            self._is_rcpt_taken = True
            self._step()
        else:
            self._refuse(Step.RCPT, code, text)

    def _on_data(self, code: int, text: bytes) -> None:
        if code in REFUSED:
            self._needs_reset = True
            self._decide(self._verdict or judge(Step.DATA, Reply(code, text)))
            self._go_on()
        elif code != GO_AHEAD:
            self.fail("protocol_error", f"DATA: answered {code}")
        elif self._verdict is None:
            self._begin()
        elif self._is_rcpt_taken:  # a sender refused, yet a recipient: a dot would send an empty message
            self._decide(self._verdict)
            self.end("the server would take an empty message")
        else:  # no recipient, yet the server waits for a body (RFC 2920 3.1): a lone dot ends it, nobody gets it
            self._decide(self._verdict)
            self._expected.append(Step.NULL_DOT)
            self.send(LONE_DOT + (b"" if self._is_spent() else self._envelope()), self._account.command_timeout_s)

    def _on_dot(self, code: int, text: bytes) -> None:
        item, self._body = self._body, None
        now = self.loop.time()
        self._is_quick = now - self.moved_at < _SLOW_DOT_S
        self.moved_at = now
        if item is None or (code not in OK and code not in REFUSED):
            self._body = item
            self.fail("protocol_error", f"DOT: answered {code}")
            return
        self.answered += 1
        item.settle(accepted(text) if code in OK else judge(Step.DOT, Reply(code, text)))
        if self._next is None:
            self._go_on()
        else:
            self.deadline = now + self._account.command_timeout_s

    def _on_null_dot(self, code: int, text: bytes) -> None:
        del code, text  # whatever it says, it is about a message to nobody
        if self._next is None:
            self._go_on()

    def _on_reset(self, code: int, text: bytes) -> None:
        del text
        if code in OK:
            self._step()
        else:
            self.fail("connection_failed", f"RSET: answered {code}")

    def _on_quit(self, code: int, text: bytes) -> None:
        del code, text
        self.end("closed")

    def _on_closing(self, step: Step, text: bytes) -> None:
        """421: the server is leaving."""
        reply = Reply(CLOSING, text)
        outcome = judge(step, reply)
        if step is Step.DOT and self._body is not None:
            item, self._body = self._body, None
            item.settle(outcome)
            ahead = self._forsake()
            if ahead is not None:
                self._source.give_back(ahead)
        self.fail(outcome.cause, outcome.detail)

    # the transaction

    def _envelope(self) -> bytes:
        """Take the next message that this server can carry and give its first bytes; empty when there is none."""
        while (item := self._source.take()) is not None:
            lines = commands(item.message, self.offer)
            if isinstance(lines, Rejected):
                item.settle(lines)
                continue
            self._next, self._verdict, self._is_rcpt_taken = item, None, False
            mail, rcpt = lines
            reset, self._needs_reset = self._needs_reset, False
            if self.offer.is_pipelining:
                if reset:
                    self._expected.append(Step.RSET)
                self._expected.extend(_ENVELOPE)
                return (b"RSET\r\n" if reset else b"") + mail + rcpt + b"DATA\r\n"
            self._steps = [b"DATA\r\n", rcpt, mail]
            if reset:
                self._expected.append(Step.RSET)
                return b"RSET\r\n"
            self._expected.append(Step.MAIL)
            return self._steps.pop()
        return b""

    def _step(self) -> None:
        """Stop-and-wait: the answer came, so the next command goes out."""
        if self._steps:
            line = self._steps.pop()
            self._expected.append(_ENVELOPE[2 - len(self._steps)])
            self.send(line, self._account.command_timeout_s)

    def _refuse(self, step: Step, code: int, text: bytes) -> None:
        """MAIL or RCPT was refused; the first reason stays. Pipelined, the answer to DATA is still to come."""
        if self._verdict is None:
            self._verdict = judge(step, Reply(code, text))
        if not self.offer.is_pipelining:
            self._steps = []
            self._needs_reset = True
            self._decide(self._verdict)
            self._go_on()

    def _decide(self, outcome: Outcome) -> None:
        """The message whose envelope is out is settled without a body."""
        item, self._next, self._verdict = self._next, None, None
        self.answered += 1
        self.moved_at = self.loop.time()
        if item is not None:
            item.settle(outcome)

    def _begin(self) -> None:
        """The server waits for the body: ask leave, then write it, its final dot and the next envelope at once."""
        item = self._next
        if item is None:  # its sender gave up meanwhile; without a dot nothing is accepted
            self.end("nothing to send")
            return
        reason = item.batch.watch.begin(item.message)
        if reason is not None:
            self._next = None
            item.settle(Unsent(reason))
            self._source.sift(item.batch)
            self.end("withdrawn")
            return
        self._body, self._next = item, None
        self.moved_at = self.loop.time()
        self.send_body(stuffed(item.message.body))

    def finish_body(self, last: bytes | memoryview) -> None:
        """Write the last bytes with the dot, and where that helps, the next envelope behind it."""
        self._expected.append(Step.DOT)
        ahead = b"" if not self._is_quick or not self.offer.is_pipelining or self._is_spent() else self._envelope()
        self.moved_at = self.send(b"".join((last, LONE_DOT, ahead)), self._account.data_timeout_s)

    # endings

    def _is_spent(self) -> bool:
        return (
            self._is_doomed
            or self.answered + (self._body is not None) >= self._account.messages_per_connection
            or self.moved_at - self.opened_at > _AGE_LIMIT_S
        )

    def _go_on(self) -> None:
        """Between messages: the next one, or rest, or the end of this connection."""
        if self.is_over:
            return
        if self._is_spent():
            self.quit()
        elif not self.start():
            self._source.rest(self)

    def _forsake(self) -> Item | None:
        """Take the message off its envelope; the connection ends after the body that is under way, if any."""
        item, self._next = self._next, None
        self._is_doomed = True
        return item

    def _expire(self) -> None:
        if self._is_quitting:
            self.end("closed")
        elif self._body is None and self._next is None:
            self.quit()
        else:
            self.fail("connection_timeout", "no answer in time")

    def fail(self, cause: str, detail: str) -> None:
        """End the connection and settle or give back what it carried. Idempotent."""
        if self.is_over:
            return
        super().fail(cause, detail)
        reason = Deferred(cause, detail)
        body, self._body = self._body, None
        ahead, self._next = self._next, None
        if body is not None:
            body.settle(reason if self.is_body_open else Uncertain("answer_lost", detail))
        if ahead is not None:
            self._give_back(ahead, reason, is_innocent=body is not None or self._is_quitting)
        self._source.gone(self, None if self._is_quitting else reason)

    def _give_back(self, item: Item, reason: Deferred, *, is_innocent: bool) -> None:
        """A message not begun: back to the queue if the trouble was another's, one more try if it was the connection's.

        A connection that served before may have ended for its own reasons (a limit, an idle one long gone); a fresh one
        that does so speaks about the server.
        """
        is_connection = reason.cause == "connection_failed" or (
            self._was_idle if reason.cause == "connection_timeout" else self.answered > 0
        )
        if is_innocent:
            self._source.give_back(item)
        elif is_connection and not item.is_retried:
            item.is_retried = True
            self._source.give_back(item)
        else:
            item.settle(reason)
