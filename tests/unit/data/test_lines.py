"""Who is urgent goes first, and nobody starves or loses a place."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from outrider.data.lines import Lines, Places


def served(lines: Lines[str], count: int) -> str:
    return "".join(lines.turn().popleft() for _ in range(count))


def test_urgent_ones_go_first_but_for_every_fourth_turn() -> None:
    lines: Lines[str] = Lines()
    lines.line(is_urgent=False).extend("aaaaaa")
    lines.line(is_urgent=True).extend("UUUUUU")
    assert served(lines, 12) == "UUUaUUUaaaaa"
    assert not lines.turn()


def test_one_urgent_alone_does_not_wait_for_the_turns_that_others_had_before() -> None:
    lines: Lines[str] = Lines()
    lines.line(is_urgent=False).extend("a" * 50)
    served(lines, 7)
    lines.line(is_urgent=True).append("U")
    assert served(lines, 2) == "Ua"


async def entered(places: Places, order: list[str], name: str, leave: asyncio.Event) -> None:
    async with places.place(is_urgent=name.isupper()):
        order.append(name)
        await leave.wait()


async def settled() -> None:
    """Everybody who can go on has done so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_no_more_are_in_than_there_are_places_and_who_is_urgent_comes_next() -> None:
    places, order = Places(2), list[str]()
    leave = {name: asyncio.Event() for name in "abcDE"}
    async with asyncio.TaskGroup() as group:
        for name in "abcDE":
            group.create_task(entered(places, order, name, leave[name]))
            await settled()
        assert order == ["a", "b"]
        leave["a"].set()
        await settled()
        assert order == ["a", "b", "D"]
        leave["b"].set()
        await settled()
        assert order == ["a", "b", "D", "E"]
        for event in leave.values():
            event.set()
    assert order == ["a", "b", "D", "E", "c"]


async def test_who_is_cancelled_while_waiting_or_at_the_hand_over_takes_no_place_along() -> None:
    places, order, leave = Places(1), list[str](), asyncio.Event()
    inside = asyncio.create_task(entered(places, order, "a", leave))
    await settled()
    waiting = [asyncio.create_task(entered(places, order, name, asyncio.Event())) for name in "bcd"]
    await settled()
    waiting[0].cancel()
    await settled()
    leave.set()
    await asyncio.sleep(0)  # the place was handed to c, which has not run since
    waiting[1].cancel()
    await settled()
    assert order == ["a", "d"]
    await inside
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(5), places.place():
        order.append("e")
    assert order == ["a", "d", "e"]


async def test_a_place_is_passed_over_who_was_cancelled_and_has_not_run_since() -> None:
    places, order, leave = Places(1), list[str](), asyncio.Event()
    inside = asyncio.create_task(entered(places, order, "a", leave))
    await settled()
    gone = asyncio.create_task(entered(places, order, "b", asyncio.Event()))
    await settled()
    leave.set()
    gone.cancel()
    await inside
    with suppress(asyncio.CancelledError):
        await gone
    async with asyncio.timeout(5), places.place():
        order.append("c")
    assert order == ["a", "c"]
