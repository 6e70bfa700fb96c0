"""Named points at which a drill can kill, stop, delay or fail this very process.

Owns reading `OR_FAILPOINT` and acting on it; off, and costing one look at a flag, unless that variable is set. It is
no setting (`OUTRIDER_…`): nothing but a drill has a use for it. Used as

    if failpoint.ARMED:
        failpoint.hit("claim.committed")

`OR_FAILPOINT="name:nth:action[;name:nth:action…]"`: nth is 1.. or `*` for every hit or 0 for counting only; action is
`kill` (SIGKILL to itself), `stop` (SIGSTOP to itself), `sleep:seconds` (blocks the calling thread) or `raise`.
`OR_FAILPOINT_LOG` names a file that gets one line `name count action pid` per hit of a name listed, written before the
action, so that a drill can prove that the point was reached.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass

from outrider.base.errors import Broken, Misconfigured

_ACTIONS = ("kill", "stop", "sleep", "raise")


@dataclass(slots=True)
class _Point:
    """One armed point: at which hit it acts (None: at every), what it does, how often it was hit."""

    nth: int | None
    action: str
    sleep_s: float
    hits: int = 0


def parse(text: str) -> dict[str, _Point]:
    """Read the value of `OR_FAILPOINT`.

    Raises:  Misconfigured(failpoint) naming the part that is not `name:nth:action`.
    """
    points: dict[str, _Point] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, _, rest = part.partition(":")
        nth, _, act = rest.partition(":")
        action, _, argument = act.partition(":")
        try:
            points[name] = _Point(None if nth == "*" else int(nth), action, float(argument or 0))
        except ValueError:
            action = ""
        if not name or action not in _ACTIONS:
            raise Misconfigured("failpoint", f"OR_FAILPOINT: {part!r} is not name:nth:kill|stop|sleep:seconds|raise")
    return points


_points = parse(os.environ.get("OR_FAILPOINT", ""))
_log_path = os.environ.get("OR_FAILPOINT_LOG")
_guard = threading.Lock()

ARMED = bool(_points)
"""Whether any point is armed in this process; look at it before calling `hit`."""


def hit(name: str) -> None:
    """Pass a named point; what is armed there happens at its nth pass.

    Raises:  Broken(failpoint) for the action `raise`; nothing else, as `kill` does not come back.
    """
    point = _points.get(name)
    if point is None:
        return
    with _guard:
        point.hits += 1
        is_due = point.nth is None or point.hits == point.nth
        _note(name, point.hits, point.action if is_due else "pass")
    if is_due:
        _act(name, point)


def _note(name: str, count: int, action: str) -> None:
    """Append a line to the log; a single write, which a following SIGKILL cannot take back."""
    if _log_path is None:
        return
    log = os.open(_log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(log, f"{name} {count} {action} {os.getpid()}\n".encode())
    finally:
        os.close(log)


def _act(name: str, point: _Point) -> None:
    match point.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(point.sleep_s)
        case _:
            raise Broken("failpoint", f"failpoint {name} was armed to raise")
