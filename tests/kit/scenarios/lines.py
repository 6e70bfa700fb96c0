"""Drills about the line to the mail server: nobody there, nobody who answers, an answer that is lost.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import json
from typing import Any

from tests.kit.drill import Drill, Guarantee, Sender, boot_ns
from tests.kit.processes import until
from tests.kit.standstills import stood_still_s

_UNREACHABLE: dict[str, dict[str, Any]] = {
    "refused": {"port": 1},
    "no such name": {"host": "nobody.invalid"},
    "no encryption": {"tls": "required"},
}
UNREACHABLE = tuple(_UNREACHABLE)
_COUNT = 30
_CONNECTIONS = 2
_PATIENCE_S = 4
_FOR_EVER_S = 600
"""Longer than any drill waits: whoever goes on has given up by itself."""


async def unreachable(drill: Drill, how: str) -> list[str]:
    """F57: the server refuses, has no name or no TLS for a while: known not sent, so it is tried again freely."""
    sender = await drill.sender("at_most_once", connections=2)
    sound = await _settings(drill, sender)
    await _set(drill, sender, sound | _UNREACHABLE[how])
    await drill.admit(sender, _COUNT)
    await drill.worker()

    async def is_deferred() -> bool:
        return bool(await drill.value("SELECT count(*) FROM message_events WHERE kind = 'deferred'") >= _COUNT)

    await until(is_deferred, what="every message was tried")
    found = [f"{len(drill.acceptances())} messages arrived nowhere"] if drill.acceptances() else []
    await _set(drill, sender, sound)
    await drill.drained()
    return found + await drill.violations()


async def never_answers(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F58, F59: the server has taken a message and says nothing more; lines that are cut are in `journals`.

    A machine that stands still for as long as the worker waits for an answer costs what is on the lines as well.
    """
    times = 3
    sender = await drill.sender(guarantee, connections=_CONNECTIONS)
    await _set(drill, sender, await _settings(drill, sender) | {"data_timeout_s": _PATIENCE_S})
    drill.faults({"action": "hang", "stage": "dot", "skip": 5, "times": times, "seconds": _FOR_EVER_S})
    await drill.admit(sender, _COUNT)
    began_ns = boot_ns()
    await drill.worker()
    await drill.drained()
    lost = times + _CONNECTIONS * int(stood_still_s(began_ns) / (_PATIENCE_S / 2))
    if guarantee == "at_least_once":
        return await drill.violations(duplicates=lost)
    return await drill.violations(uncertain=lost)


async def _settings(drill: Drill, sender: Sender) -> dict[str, Any]:
    text = await drill.value(
        "SELECT c.settings::text FROM connections c JOIN senders s ON s.connection_id = c.id WHERE s.id = $1", sender.id
    )
    found: dict[str, Any] = json.loads(text)
    return found


async def _set(drill: Drill, sender: Sender, settings: dict[str, Any]) -> None:
    """Give the sender's connection other settings, as an operator does: a new version that workers notice."""
    await drill.execute(
        "UPDATE connections c SET settings = $2::text::jsonb, version = c.version + 1, updated_at = now() "
        "FROM senders s WHERE s.connection_id = c.id AND s.id = $1",
        sender.id,
        json.dumps(settings),
    )
