"""The names of events: whatever writes one writes a name that rules about events know."""

from __future__ import annotations

import re
from typing import get_args

from outrider.contracts.callbacks import State
from outrider.domain.messages import events
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import END_STATES
from outrider.domain.tracking import judge

_LITERAL = re.compile(r"INSERT INTO message_events \([a-z_, ]+\)\s+SELECT \S+, \S+, '([a-z_]+)'")


def test_every_name_that_is_written_is_known() -> None:
    written = {name for statement in SQL for name in _LITERAL.findall(statement.sql)}
    assert {"held", "deferred", "rescued", "resent", "sent", "cancelled"} == written
    written |= {*END_STATES, *get_args(State), *judge.EVENTS.values(), "reported", "unsubscribed"}
    assert written == set(events.KINDS)
    assert len(set(events.KINDS)) == len(events.KINDS)
