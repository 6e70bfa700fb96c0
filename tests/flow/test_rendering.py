"""Rendering in real child processes: what ends a child concerns its template only, and nobody waits for long."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from array import array
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from outrider.base.errors import Refused, Unavailable
from outrider.contracts.provider import Outgoing
from outrider.data import render_child, render_pool, render_process
from outrider.data.render_pool import RenderPool
from outrider.plugins.channels.email import CHANNEL
from tests.kit import letters
from tests.kit.watching import on_both_loops

DOUBLED = '{% set x = "aaaaaaaaaa" %}' + "{% set x = x ~ x %}" * 36 + "{{ x }}"
HEAVY = "{% for r in range(3000) %}<td>{{ r }}</td>{% endfor %}"
BOUND_S = 120


@pytest.fixture
async def pool() -> AsyncIterator[RenderPool]:
    """A pool of two; whatever a test does, no child outlives it."""
    pool = RenderPool(2)
    await pool.start(3)
    pids = pool.pids
    yield pool
    pids = [*pids, *pool.pids]
    await pool.close()
    assert pool.pids == []
    assert not alive(pids), "a child is left behind"


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


async def until_full(pool: RenderPool) -> None:
    """Wait until the spare is back."""
    async with asyncio.timeout(BOUND_S):
        while len(pool.pids) < 3:  # noqa: ASYNC110  the pool's own children have no event for tests
            await asyncio.sleep(0.01)


def limits_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:26].strip(): line[26:].split()[0] for line in lines}


async def test_children_render_what_they_are_given(pool: RenderPool) -> None:
    sources = {"subject": "Hi {{ name }}", "html": "<p>{{ name }}</p>"}
    contexts = [json.dumps({"name": f"<{number}> é🙂"}) for number in range(1000)]
    answers = await pool.render(sources, "v1", contexts)
    assert answers == [
        {"subject": f"Hi <{number}> é🙂", "html": f"<p>&lt;{number}&gt; é🙂</p>"} for number in range(1000)
    ]
    assert await pool.render(sources, "v1", []) == []


async def test_a_child_is_small_limited_and_alone(pool: RenderPool) -> None:
    await pool.render({"text": "{{ a }}"}, "v", ['{"a": 1}'])
    for pid in pool.pids:
        look_at(pid)


def look_at(pid: int) -> None:
    """What the system says about a child."""
    limits, proc = limits_of(pid), Path(f"/proc/{pid}")
    assert limits["Max address space"] == str(render_child.ADDRESS_SPACE_BYTES)
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert str((proc / "cwd").readlink()) == "/"
    assert (proc / "environ").read_bytes().strip(b"\0") == b""
    assert os.getsid(pid) == pid
    assert len(list((proc / "fd").iterdir())) == 4, "three streams, the progress page, and nothing of the parent"
    mapped = (proc / "maps").read_text()
    assert "minijinja" in mapped
    assert not [name for name in ("asyncpg", "sqlalchemy", "orjson", "libssl") if name in mapped]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (DOUBLED, "ended its renderer"),
        ("{% set x = 'a' * 60000000 %}{% set y = x ~ x %}{{ y }}", "ended its renderer"),
        ("{{ 'a' * 10000000 }}", "1,048,576"),
        ("{% for i in range(10000) %}{% for j in range(10000) %}{% endfor %}{% endfor %}", "steps"),
    ],
)
async def test_a_bomb_fails_its_own_messages_only(pool: RenderPool, source: str, reason: str) -> None:
    good = [pool.render({"text": HEAVY + str(number)}, f"good {number}", ["{}"] * 50) for number in range(4)]
    bad, *others = await asyncio.gather(pool.render({"text": source}, "bad", ["{}"] * 3), *good)
    assert all(isinstance(answer, str) for answer in bad)
    assert reason in str(bad[0])
    assert all(isinstance(answer, dict) for batch in others for answer in batch)
    await until_full(pool)


async def test_a_version_that_ended_two_children_is_not_tried_again(pool: RenderPool) -> None:
    first = await pool.render({"text": DOUBLED}, "bad", ["{}"] * 5)
    assert [str(answer)[:5] for answer in first] == ["ended", "ended", "not r", "not r", "not r"]
    await until_full(pool)
    before = set(pool.pids)
    again = await pool.render({"text": DOUBLED}, "bad", ["{}"] * 5)
    assert [str(answer)[:5] for answer in again] == ["not r"] * 5
    assert set(pool.pids) == before, "a quarantined version got a child"
    assert await pool.render({"text": "mended"}, "bad 2", ["{}"]) == [{"text": "mended"}]


async def test_a_recipient_whose_data_end_the_child_fails_alone(pool: RenderPool) -> None:
    source = "{% if bomb %}" + DOUBLED + "{% endif %}fine"
    contexts = [json.dumps({"bomb": number == 60}) for number in range(120)]
    answers = await pool.render({"text": source}, "v", contexts)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, str)] == [60]
    assert answers[119] == {"text": "fine"}


async def test_a_child_that_makes_no_progress_is_ended(pool: RenderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_process, "_STALL_S", 0.0)
    monkeypatch.setattr(render_process, "_POLL_S", 0.01)
    source = "{% for x in xs %}{{ xs|sort|join|length }}{% endfor %}"
    context = json.dumps({"xs": list(range(20_000))})
    answers = await asyncio.wait_for(pool.render({"text": source}, "v", [context]), BOUND_S)
    assert answers == ["ended its renderer: it needs too much memory or time"]


async def test_a_child_that_was_stopped_is_replaced_and_no_template_blamed(
    pool: RenderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render_process, "_FROZEN_S", 1.0)
    monkeypatch.setattr(render_process, "_POLL_S", 0.02)
    stopped = pool._ready[0]
    os.kill(stopped.process.pid, signal.SIGSTOP)
    answers = await asyncio.wait_for(pool.render({"text": "x"}, "v", ["{}"]), BOUND_S)
    assert answers == [{"text": "x"}]
    assert not stopped.is_alive
    assert not pool._deaths


async def test_a_machine_that_kills_every_child_is_unavailable_and_nobody_fails(
    pool: RenderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(self: render_process.Child, *_: object) -> render_process.Death:
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        return render_process.Death(0, is_from_outside=True)

    monkeypatch.setattr(render_process.Child, "exchange", killed)
    with pytest.raises(Unavailable):
        await pool.render({"text": "x"}, "v", ["{}"])
    with pytest.raises(Unavailable):
        await pool.check({"text": "x"}, "v")
    assert not pool._deaths


@on_both_loops
async def test_every_event_loop_carries_the_children() -> None:
    pool = RenderPool(2)
    await pool.start()
    try:
        bad = asyncio.create_task(pool.render({"text": DOUBLED}, "bad", ["{}"]))
        task = asyncio.create_task(pool.render({"text": HEAVY}, "v", ["{}"] * 200))
        while not any(child._done() > 5 for child in pool._borrowed):  # noqa: ASYNC110  progress has no event
            await asyncio.sleep(0)
        for child in list(pool._borrowed):
            with suppress(ProcessLookupError):  # the bad one's may just have ended by itself
                os.kill(child.process.pid, signal.SIGKILL)
        assert all(isinstance(answer, dict) for answer in await task)
        assert str((await bad)[0]).startswith("ended")
        cancelled = asyncio.create_task(pool.render({"text": HEAVY}, "v", ["{}"] * 200))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert await pool.render({"text": "x"}, "w", ["{}"]) == [{"text": "x"}]
        pids = pool.pids
    finally:
        await pool.close()
    assert not alive(pids)


HOLDER = """
import asyncio
from outrider.data.render_pool import RenderPool

async def hold():
    pool = RenderPool(2)
    await pool.start(3)
    print(*pool.pids, flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


async def test_children_end_with_a_parent_that_was_killed() -> None:
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, stdout=asyncio.subprocess.PIPE)
    assert holder.stdout is not None
    pids = [int(pid) for pid in (await asyncio.wait_for(holder.stdout.readline(), BOUND_S)).split()]
    assert len(alive(pids)) == 3
    holder.kill()
    assert await holder.wait() == -signal.SIGKILL
    async with asyncio.timeout(BOUND_S):
        while alive(pids):  # noqa: ASYNC110  they are not our children, so nothing tells of their end
            await asyncio.sleep(0.02)


async def test_large_contexts_go_in_several_requests(pool: RenderPool) -> None:
    contexts = [json.dumps({"a": number, "b": "x" * 1_500_000}) for number in range(6)]
    assert await pool.render({"text": "{{ a }}"}, "v", contexts) == [{"text": str(number)} for number in range(6)]
    assert sum(child.calls for child in pool._ready) == 3
    assert [len(batch) for batch in render_pool._batches(["{}"] * 600)] == [250, 250, 100]
    assert [len(batch) for batch in render_pool._batches(["x" * 5_000_000, "x"])] == [1, 1]


async def test_children_that_are_killed_from_outside_cost_nobody_a_message(pool: RenderPool) -> None:
    for _ in range(3):
        task = asyncio.create_task(pool.render({"text": HEAVY}, "v", ["{}"] * 200))
        async with asyncio.timeout(BOUND_S):
            while not any(child._done() > 5 for child in pool._borrowed):  # noqa: ASYNC110  progress has no event
                await asyncio.sleep(0)
        for child in list(pool._borrowed):
            os.kill(child.process.pid, signal.SIGKILL)
        answers = await asyncio.wait_for(task, BOUND_S)
        assert len(answers) == 200
        assert all(isinstance(answer, dict) for answer in answers)
    assert not pool._deaths, "an innocent version was blamed"
    await until_full(pool)


async def test_idle_children_that_died_are_replaced(pool: RenderPool) -> None:
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    assert await pool.render({"text": "x"}, "v", ["{}"]) == [{"text": "x"}]


async def test_a_render_that_is_cancelled_leaves_the_pool_whole(pool: RenderPool) -> None:
    task = asyncio.create_task(pool.render({"text": HEAVY}, "v", ["{}"] * 250))
    async with asyncio.timeout(BOUND_S):
        while not pool._borrowed:  # noqa: ASYNC110  borrowing has no event
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answers = await asyncio.gather(*(pool.render({"text": "{{ a }}"}, "w", [f'{{"a": {n}}}']) for n in range(20)))
    assert answers == [[{"text": str(n)}] for n in range(20)]
    await until_full(pool)


async def test_at_rest_it_is_one_child_and_while_it_works_a_spare_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_pool, "_LOOK_S", 0.1)
    pool = RenderPool(2)
    try:
        await pool.start()
        first = pool.pids
        assert len(first) == 1
        async with asyncio.timeout(BOUND_S):
            tasks = [asyncio.create_task(pool.render({"text": HEAVY}, "v", ["{}"] * 250)) for _ in range(2)]
            await until_full(pool)
            assert set(first) <= set(pool.pids)
            answers = await asyncio.gather(*tasks)
            assert all(isinstance(answer, dict) for each in answers for answer in each)
            while len(pool.pids) > 1 or pool._tasks:  # noqa: ASYNC110 - the pool looks by a timer
                await asyncio.sleep(0.01)
        bad = await pool.render({"text": DOUBLED}, "bad", ["{}"])
        assert str(bad[0]).startswith("ended")
        assert await pool.render({"text": "x"}, "w", ["{}"]) == [{"text": "x"}]
    finally:
        await pool.close()


async def test_a_closed_pool_says_so() -> None:
    pool = RenderPool(1)
    await pool.start()
    await pool.close()
    await pool.close()
    with pytest.raises(Unavailable):
        await pool.render({"text": "x"}, "v", ["{}"])


async def test_a_pool_that_was_not_started_starts_when_it_is_needed() -> None:
    pool = RenderPool(1)
    try:
        assert await pool.render({"text": "x"}, "v", ["{}"]) == [{"text": "x"}]
    finally:
        await pool.close()


async def test_a_machine_without_processes_is_unavailable_and_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    pool = RenderPool(1)
    with pytest.raises(Unavailable):
        await pool.start()
    with pytest.raises(Unavailable):
        await pool.render({"text": "x"}, "v", ["{}"])
    await pool.close()


@pytest.mark.parametrize(
    ("lengths", "octets"),
    [([5], b"abc"), ([1, 1], b"ab"), ([-1, 4], b"a"), ([2], b"\xff\xfe"), ([], b""), ([2**31 - 1], b"a")],
)
def test_an_answer_that_does_not_fit_is_not_read(lengths: list[int], octets: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  a wrong length or wrong octets, nothing of it is used
        render_pool._read_answers(("text",), 1, array("i", lengths), octets)


async def test_many_templates_are_forgotten_in_turn(pool: RenderPool) -> None:
    for turn in range(2):
        for number in range(render_process._KNOWN_TEMPLATES + 20):
            answers = await pool.render({"text": f"{number} {{{{ a }}}}"}, f"v{number}", [f'{{"a": {turn}}}'])
            assert answers == [{"text": f"{number} {turn}"}]
    assert all(len(child.known) <= render_process._KNOWN_TEMPLATES for child in pool._ready)


async def test_a_child_is_replaced_after_many_calls(pool: RenderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render_pool, "_CALLS_PER_CHILD", 2)
    before = set(pool.pids)
    for _ in range(12):
        assert await pool.render({"text": "x"}, "v", ["{}"]) == [{"text": "x"}]
    await until_full(pool)
    assert not before & set(pool.pids)


async def test_a_bomb_is_found_when_it_is_saved(pool: RenderPool) -> None:
    with pytest.raises(Refused) as refused:
        await CHANNEL.compile(letters.content(html=f"<p>{DOUBLED}</p>"), pool)
    assert (refused.value.field, refused.value.code) == ("html", "invalid_template")
    assert "ended its renderer" in refused.value.message
    await until_full(pool)


async def test_a_campaign_goes_through_real_children(pool: RenderPool) -> None:
    of = letters.content(html="<p>{{ name|title }}{% if vip %} *{% endif %}</p>")
    assert await CHANNEL.compile(of, pool) is None
    composer = CHANNEL.composer(of, letters.identity(), pool)
    items = [letters.item({"name": f"ada {n}", "vip": n % 2} if n != 7 else {}, number=n) for n in range(600)]
    answers = await composer.compose(items)
    assert [n for n, answer in enumerate(answers) if not isinstance(answer, Outgoing)] == [7]
    assert letters.part(letters.read(answers[9]), "text/html") == "<p>Ada 9 *</p>\r\n"
    compiled = await CHANNEL.compile(letters.content(), pool)
    fast = CHANNEL.composer(replace(letters.content(), compiled=compiled), letters.identity(), pool)
    (answer,) = await fast.compose([letters.item({"name": "Ada"})])
    assert letters.read(answer)["Subject"] == "Hello Ada"


def test_limits_are_the_documented_ones() -> None:
    assert render_child.ADDRESS_SPACE_BYTES == 96 * 1024 * 1024
    assert render_child.FUEL == 200_000
    assert render_child.LARGEST_MESSAGE_BYTES == 1024 * 1024
    assert render_child.LARGEST_ANSWER_BYTES == 32 * 1024 * 1024
    assert render_process._STALL_S == 2
    assert resource.RLIM_INFINITY != render_child.ADDRESS_SPACE_BYTES
