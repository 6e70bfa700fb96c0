"""Drills about what a provider answers: no, not now, nonsense, and the same id for two.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AsyncExitStack

from outrider.data.db import Role
from outrider.domain.callbacks import look
from tests.kit.crooked import STRAIGHT, Asked, Bent, Crooked
from tests.kit.drill import SCALE, Drill, Guarantee
from tests.kit.phones import Phones, people
from tests.kit.processes import until
from tests.kit.scenarios.accounts import checked

SETTINGS = {"circuit_failures": "3", "circuit_open_s": "0.3", "circuit_open_most_s": "1", "circuit_close_after": "5"}
REFUSALS = {400: 21211, 404: 20404, 422: 21610}
_COUNT = 60
_FEW = 24
_BUSY = (500, 502, 503)
_TURNED_AWAY = 503


async def refused_for_good(drill: Drill) -> list[str]:
    """F52: the provider refuses every second text for good, each time in another way."""
    async with AsyncExitStack() as stack:
        phones, line = await _bent(drill, stack)
        kinds = list(REFUSALS.items())
        refused = {to: kinds[at % len(kinds)] for at, to in enumerate(people(_COUNT)[::2])}

        def bend(asked: Asked) -> Bent:
            if asked.to not in refused:
                return STRAIGHT
            status, code = refused[asked.to]
            body = b'{"code": %d, "message": "no", "status": %d}' % (code, status)
            return Bent(reaches=False, status=status, body=body)

        line.bend = bend
        await phones.admit(people(_COUNT))
        await drill.worker()
        await drill.drained()
        rows = await drill.rows("SELECT address, state, code, detail, attempts FROM messages")
        found = []
        for row in rows:
            is_refused = row["address"] in refused
            if (row["state"], row["attempts"]) != ("failed" if is_refused else "sent", 1):
                found.append(f"F52: {row['address']} is {row['state']} after {row['attempts']} attempts")
            if is_refused and not (row["code"] and f"HTTP {refused[row['address']][0]}" in (row["detail"] or "")):
                found.append(f"F52: {row['address']} failed and does not say why")
        if len(line.asked) != _COUNT:
            found.append(f"F52: {len(line.asked)} requests for {_COUNT} messages")
        return found + await checked(drill, phones, failed=len(refused))


async def every_second_fails(drill: Drill, seed: int, guarantee: Guarantee) -> list[str]:
    """F56: half of all requests are answered with 500, 502 and 503 for a while; two workers go on as they can.

    A 503 of the API says that nothing was taken. After the others a text may have gone: without a promise to send at
    least once it is uncertain, and never sent again by itself.
    """
    dice = random.Random(seed)  # noqa: S311 - repeatable by its seed, that is the point
    doubtful, again = set[str](), set[str]()
    async with AsyncExitStack() as stack:
        phones, line = await _bent(drill, stack)

        def bend(asked: Asked) -> Bent:
            if asked.to in doubtful:
                again.add(asked.to)
            if asked.number % 2:
                status = dice.choice(_BUSY)
                if status != _TURNED_AWAY:
                    doubtful.add(asked.to)
                code = 20503 if status == _TURNED_AWAY else 20500
                return Bent(reaches=False, status=status, body=b'{"code": %d, "message": "x", "status": 500}' % code)
            return STRAIGHT

        line.bend = bend
        await _promise(drill, phones, guarantee)
        await phones.admit(people(_FEW * SCALE))
        for _ in range(2):
            await drill.worker()
        await drill.drained()
        taken = len(phones.acceptances())
        print(f"F56: {len(line.asked)} requests for {taken} successes")  # noqa: T201 - a figure
        found = [] if len(line.asked) <= 2 * taken + 1 else [f"F56: {len(line.asked)} requests for {taken} successes"]
        if guarantee == "at_most_once":
            found += [f"F56: {to} was sent again although it may have gone" for to in sorted(again)]
            return found + await checked(drill, phones, uncertain=len(doubtful))
        return found + await checked(drill, phones)


_GOOD = b'{"sid": "SM0123456789abcdef0123456789abcdef", "status": "queued"}'
NONSENSE: dict[str, Callable[[], Bent]] = {
    "reset after the headers": lambda: Bent(status=201, body=_GOOD, cut_at=0),
    "cut in the middle of the JSON": lambda: Bent(status=201, body=_GOOD, cut_at=20),
    "half a JSON, complete": lambda: Bent(status=201, body=_GOOD[:20]),
    "HTML with 200": lambda: Bent(status=200, body=b"<html>Welcome</html>", content_type="text/html"),
    "no id": lambda: Bent(status=201, body=b'{"status": "queued"}'),
    "another type": lambda: Bent(status=201, body=_GOOD, content_type="text/plain"),
    "no answer of the API": lambda: Bent(status=502, body=b"<html>Bad gateway</html>", content_type="text/html"),
}


async def nonsense(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F61: answers that say neither yes nor no, of requests that were taken and of such that were not."""
    count = 4
    async with AsyncExitStack() as stack:
        phones, line = await _bent(drill, stack)
        kinds = list(NONSENSE.values())
        persons = people(count * len(kinds))
        bent = {to: (kinds[at // count], at % 2 == 0) for at, to in enumerate(persons)}

        def bend(asked: Asked) -> Bent:
            kind, is_taken = bent[asked.to]
            made = kind()
            if sum(each.to == asked.to for each in line.asked) > 1:
                return STRAIGHT  # asked again: as it should be
            return Bent(is_taken, made.status, made.body, made.content_type, cut_at=made.cut_at)

        line.bend = bend
        await _promise(drill, phones, guarantee)
        await phones.admit(persons)
        await drill.worker()
        await drill.drained()
        taken = {each.message_id for each in phones.acceptances()}
        rows = await drill.rows("SELECT id, state FROM messages")
        found = [f"F61: {row['id']} is called {row['state']}" for row in rows
                 if row["state"] == "sent" and row["id"] not in taken]  # fmt: skip
        half = len(persons) // 2
        if guarantee == "at_most_once":
            return found + await checked(drill, phones, uncertain=len(persons))
        return found + await checked(drill, phones, duplicates=half)


async def same_id(drill: Drill) -> list[str]:
    """F62: the provider gives two messages one id, and reports of each by its own address: nothing crosses."""
    sid = "SM" + "5" * 32
    async with AsyncExitStack() as stack:
        phones, line = await _bent(drill, stack)
        first, second, other = people(3)
        said = b'{"sid": "%s", "status": "queued"}' % sid.encode()
        line.bend = lambda asked: STRAIGHT if asked.to == other else Bent(status=201, body=said)
        ids = await phones.admit([first, second, other])
        worker = await drill.worker()
        await drill.drained()
        api = await drill.start("api").ready()
        for message_id in ids[:2]:
            answered, _ = await phones.post(api.where, await phones.report(message_id, "delivered"))
            assert answered == 200

        async def is_told() -> bool:
            return not await drill.value("SELECT count(*) FROM webhook_events WHERE state IN ('new', 'parked')")

        await until(is_told, what="what was reported is applied")
        states = {row["id"]: row["state"] for row in await drill.rows("SELECT id, state FROM messages")}
        told = [states[each] for each in ids]
        found = [] if told == ["delivered", "delivered", "sent"] else [f"F62: the three are {told}"]
        stored = await drill.value("SELECT count(*) FROM messages WHERE provider_id = $1", sid)
        found += [] if stored == 2 else [f"F62: {stored} messages keep the id"]
        if "provider_id_repeated" not in worker.log.read_text():
            found.append("F62: nobody was told")
        async with drill.db.uow(Role.ENGINE) as uow:
            told = [each.provider_id for each in await look.repeated_ids(uow.raw)]
        found += [] if told == [sid] else [f"F62: operators are told of {told}"]
        return found + await checked(drill, phones)


async def _bent(drill: Drill, stack: AsyncExitStack) -> tuple[Phones, Crooked]:
    """An account over a line that can be bent."""
    line = await stack.enter_async_context(Crooked.open(""))
    phones = await stack.enter_async_context(Phones.open(drill, "http://127.0.0.1:9", base_url=line.url))
    line.target = phones.sandbox.url
    return phones, line


async def _promise(drill: Drill, phones: Phones, guarantee: Guarantee) -> None:
    await drill.execute(
        "UPDATE senders SET transactional_guarantee = $2, bulk_guarantee = $2 WHERE id = $1",
        phones.sender.id,
        guarantee,
    )
