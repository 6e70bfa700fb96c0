"""Traffic beside something heavy: single messages handed in at a steady pace, in quiet windows and beside it by turns.

Owns the pace and the figures; what the heavy thing is, its caller says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from uuid import uuid4

from bench.kit import client, letter, ours
from bench.kit.figures import percentile, say, table
from bench.kit.servers import run
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.tenants import keys

CONNECTIONS = 8
_NO_SERVER = 9
"""Nothing is sent, so nothing needs to listen there."""


@dataclass(slots=True)
class Beside:
    """How long single calls took, in milliseconds, quiet and beside the heavy thing."""

    quiet_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)

    def ratio(self, share: float = 0.99) -> float:
        """How many times as long calls took at a percentile."""
        return percentile(self.beside_ms, share) / percentile(self.quiet_ms, share)


def measure(
    installed: ours.Installation,
    heavy: Callable[[int], AbstractContextManager[Callable[[], bool]]],
    *,
    per_s: float,
    window_s: float,
    rounds: int,
) -> Beside:
    """Alternate quiet and heavy windows over one API process.

    Takes:   heavy: begins round n's heavy thing when its block begins and ends it with the block; what it gives says
             whether it is still under way, which it must be when the window ends.
    Raises:  RuntimeError when it was not.
    """
    token, fields = run(_prepare(installed))
    found, count = Beside(), int(per_s * window_s)
    with installed.role("api", api_rate_per_s="100000") as api:

        def window() -> list[float]:
            done = run(client.load([api.where], _singles(count, token, fields), connections=CONNECTIONS, per_s=per_s))
            return [each * 1000 for each in done.latencies_s]

        window()  # warms up
        for number in range(rounds):
            quiet = window()
            with heavy(number) as is_under_way:
                beside = window()
                if not is_under_way():
                    raise RuntimeError("it ended before its window: give it more to do")
            found.quiet_ms += quiet
            found.beside_ms += beside
            say(
                f"round {number + 1}: p99 {percentile(quiet, 0.99):.1f} ms quiet, {percentile(beside, 0.99):.1f} beside"
            )
    return found


def show(what: str, found: Beside) -> None:
    """The figures side by side."""
    rows = [["single messages handed in", "p50 ms", "p99 ms", "worst ms"]]
    for name, waits in (("quiet", found.quiet_ms), (f"beside {what}", found.beside_ms)):
        rows.append([name, *(f"{percentile(waits, share):.1f}" for share in (0.5, 0.99, 1.0))])
    table([*rows, ["ratio", *(f"{found.ratio(share):.2f} x" for share in (0.5, 0.99, 1.0))]])


async def _prepare(installed: ours.Installation) -> tuple[str, dict[str, str]]:
    """A key for the API, and the fields that every body shares."""
    async with ours.runtime() as made:
        sender = await ours.make_sender(made, installed.database, _NO_SERVER)
        name = await ours.name_template(installed.database, sender)
        async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            _, token = await keys.create(uow, ours.BENCH, name="beside", role="operator", scopes=["messages:write"])
    return token, {"sender": str(sender.id), "template": name}


def _singles(count: int, token: str, fields: dict[str, str]) -> Iterator[bytes]:
    made = []
    for number in range(count):
        body = json.dumps(fields | {"to": letter.address(number), "variables": letter.variables(number)}).encode()
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid4())}
        made.append(client.request("/api/v1/messages", body, headers))
    return iter(made)
