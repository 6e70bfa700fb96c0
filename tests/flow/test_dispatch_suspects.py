"""Messages in whose hands a worker died are rendered one at a time, so that the next death names one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from outrider.contracts.channel import Composer, Content, Identity, Item, Link, Renderer, Unrenderable
from outrider.contracts.provider import Outgoing
from tests.kit.dispatch import GlassChannel, Post, plain_bytes, posts
from tests.kit.processes import until


@dataclass
class SlowComposer:
    """Takes its time, as one in another process does, and remembers how many were at it together."""

    at_once: int = 0
    most_at_once: int = 0
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    links: Sequence[Link] = ()
    has_pixel: bool = False
    has_web_version: bool = False
    has_preferences: bool = False
    has_preferences_footer: bool = False

    async def page(self, item: Item) -> str | Unrenderable:
        raise NotImplementedError

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        self.begun += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.may_end.wait()
        self.at_once -= 1
        return [plain_bytes(item) for item in items]


@dataclass
class SlowChannel(GlassChannel):
    made: SlowComposer

    def __init__(self, made: SlowComposer) -> None:
        super().__init__()
        self.made = made

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        del content, identity, renderer
        return self.made


async def test_two_suspects_are_never_rendered_at_once_and_others_are(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    composer = SlowComposer()
    async with posts(new_database("migrated"), tmp_path) as post:
        desk = await post.desk()
        post.runtime = replace(post.runtime, channels={"email": SlowChannel(composer)})
        suspects = await desk.admit(2)
        await post.execute("UPDATE queue SET crashes = 1")
        async with post.working(lanes_in_flight=4):
            await until(lambda: _has_leased(post, 2), what="both are in hand")
            await until(lambda: composer.begun, what="one is being rendered")
            assert composer.begun == 1, "the second one waits, though it is in hand"
            late = await desk.admit(1)
            await until(lambda: composer.begun == 2, what="one that harmed nobody does not wait for them")
            composer.may_end.set()
            await desk.until([*suspects, *late], "sent")
    assert composer.most_at_once == 2


async def _has_leased(post: Post, count: int) -> bool:
    return bool(await post.value("SELECT count(*) = $1 FROM queue WHERE state = 1", count))
