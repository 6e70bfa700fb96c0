"""Composers in memory: the ones used last, within a number and within their bytes, each for its own terms alone."""

from __future__ import annotations

import gc
import json
import tracemalloc
from dataclasses import replace
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from outrider.contracts.channel import Attachment, Composer, Tracking
from outrider.contracts.gate import Lane
from outrider.data.runtime import Runtime
from outrider.engine.dispatch import senders
from outrider.engine.dispatch.senders import Made, Senders, Terms, Use
from outrider.plugins.channels.email import CHANNEL
from tests.kit import letters
from tests.kit.rendering import InProcessRenderer

TRACKING = Tracking()
ONE, TWO, THREE, FOUR = (UUID(int=number) for number in range(1, 5))


def lane(tenant: int = 1, sender: int = 1) -> Lane:
    return Lane(UUID(int=tenant), 1, "email", UUID(int=sender), None, "transactional")


def use(version: int = 1, *, has_footer: bool = False) -> Use:
    """As much of a sender as what is made for it depends on."""
    versions, identity = SimpleNamespace(sender=version), SimpleNamespace(has_preferences_footer=has_footer)
    return cast("Use", SimpleNamespace(sender=SimpleNamespace(versions=versions, identity=identity)))


TERMS: Terms = (lane().tenant_id, lane().sender_id, 1, False, TRACKING)


class Memory:
    """What a worker keeps."""

    def __init__(self) -> None:
        self.of = Senders(cast("Runtime", SimpleNamespace()))

    def keep(self, weight: int, *ids: UUID) -> None:
        self.of.remember(Made(fresh={(TERMS, each): (cast("Composer", object()), weight) for each in ids}))

    def has(self, content_id: UUID) -> bool:
        return self.of.at_hand(lane(), use(), [content_id], TRACKING) is not None


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_composers_take_no_more_bytes_than_they_may_and_the_longest_unused_goes_first(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(senders, "_MOST_CONTENT_BYTES", 100)
    memory.keep(40, ONE, TWO)
    assert memory.has(ONE)
    memory.keep(40, THREE)
    assert [memory.has(each) for each in (ONE, TWO, THREE)] == [True, False, True]
    memory.keep(100, FOUR)
    assert [memory.has(each) for each in (ONE, TWO, THREE, FOUR)] == [False, False, False, True]


def test_one_that_was_made_twice_at_once_weighs_once(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_MOST_CONTENT_BYTES", 100)
    for _ in range(10):
        memory.keep(40, ONE)
    memory.keep(40, TWO)
    assert memory.has(ONE)
    assert memory.has(TWO)


def test_however_light_they_are_only_so_many_are_kept(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senders, "_MOST_COMPOSERS", 2)
    memory.keep(1, ONE, TWO, THREE)
    assert [memory.has(each) for each in (ONE, TWO, THREE)] == [False, True, True]


@pytest.mark.parametrize(
    ("whose", "by", "tracking"),
    [
        (lane(tenant=2), use(), TRACKING),
        (lane(sender=2), use(), TRACKING),
        (lane(), use(version=2), TRACKING),
        (lane(), use(has_footer=True), TRACKING),
        (lane(), use(), Tracking(opens=not TRACKING.opens)),
    ],
    ids=["tenant", "sender", "version", "footer", "tracking"],
)
def test_nobody_is_given_what_was_made_under_other_terms(
    memory: Memory, whose: Lane, by: Use, tracking: Tracking
) -> None:
    memory.keep(1, ONE)
    assert memory.has(ONE)
    assert memory.of.at_hand(whose, by, [ONE], tracking) is None


@pytest.mark.parametrize(
    ("word", "file_bytes"),
    [("hello world", 0), ("привет мир", 0), ("你好世界", 0), ("hello \U0001f600", 0), ("hello", 300_000)],
    ids=["ascii", "cyrillic", "chinese", "emoji", "file"],
)
async def test_a_composer_is_not_taken_for_much_lighter_than_it_is(word: str, file_bytes: int) -> None:
    of = letters.content(html="<p>{{ name }}</p>" + f"<p>{word} and so on</p>" * 2000, text=None)
    renderer = InProcessRenderer()
    compiled = json.dumps(await CHANNEL.compile(of, renderer))
    assert of.html is not None
    html = of.html.encode()
    CHANNEL.composer(of, letters.identity(), renderer)  # what the first one of a process brings is nobody's
    gc.collect()
    tracemalloc.start()
    try:
        files = (Attachment("a.bin", "application/octet-stream", bytes(file_bytes)),) if file_bytes else ()
        read = replace(of, html=html.decode(), compiled=json.loads(compiled), attachments=files)
        composer = CHANNEL.composer(read, letters.identity(), renderer)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert composer is not None
    assert 0.5 < taken / senders._weight(read) < 1.5
