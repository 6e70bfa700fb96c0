"""The second act: a campaign for some people only, and what its readers do with it.

Newcomers are imported; a segment says which city, an exclusion that nobody gets it who had the first campaign. Half
of them draw one of two subjects; the product itself chooses the one that was clicked more, and the rest gets that.
Readers open and click, and a mail scanner follows every link: the product's results are compared with what was done.
Owns the order of events and the verdicts; everything is asked of the public API and of the mail server's inbox.
"""

from __future__ import annotations

import asyncio
import csv
import email
import io
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email import policy
from html import unescape
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from outrider.base.errors import Unavailable
from outrider.domain.campaigns.waves import LOOKER
from outrider.interfaces.cli.demonstration.ledger import Ledger
from outrider.interfaces.cli.demonstration.people import CITIES, People
from outrider.interfaces.cli.demonstration.proof import Line, equal
from outrider.interfaces.cli.demonstration.story import SENDER, Played, Stage, imported, until_finished

CITY: Final = CITIES[0]
SHOP: Final = "https://shop.example.com"
_SHARE: Final = 20
_LEAST: Final = 240
_AT_ONCE: Final = 16
_BOUND_S: Final = 90.0
_WAIT_MINUTES: Final = 0.2
_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_SUBJECT: Final = "{{ name }}, the market opens on Saturday"
_OTHER_SUBJECT: Final = "{{ name }}, your voucher for Saturday"
_PLAIN, _VOUCHER = _VARIANTS = ("plain", "voucher")
_HTML: Final = f"""<p>Dear {{{{ name }}}},</p>
<p><a href="{SHOP}/market">The market</a>, <a href="{SHOP}/map">the way there</a>,
<a href="{SHOP}/for/{{{{ code }}}}">your voucher</a>.</p>
<p><a href="{{{{ unsubscribe_url }}}}">No more of these</a></p>"""
_LINK: Final = re.compile(r'<a href="([^"]*/t/c/[^"]*)"')
_PIXEL: Final = re.compile(r'<img src="([^"]*/t/o/[^"]*)"')


@dataclass(frozen=True, slots=True)
class Room:
    """Where the act plays: beside the stage a mail server that keeps its letters, and the API's address."""

    stage: Stage
    smtp_port: int
    inbox_url: str
    base_url: str
    ledger: Ledger
    http: aiohttp.ClientSession


@dataclass(frozen=True, slots=True)
class Letter:
    """What one recipient got: where its links and its pixel lead, paths of the API.

    variant  which of the two subjects; is_test: before the winner was chosen
    """

    code: str
    links: tuple[str, ...]
    pixel: str
    variant: str = _PLAIN
    is_test: bool = False

    @property
    def opens(self) -> bool:
        """Every second reader looks at the letter."""
        return int(self.code) % 2 == 0

    @property
    def clicks(self) -> bool:
        """In the test everybody whose subject promised the voucher, and nobody else; later every fourth."""
        if self.is_test:
            return self.variant == _VOUCHER and not self.is_scanned
        return int(self.code) % 4 == 0

    @property
    def is_scanned(self) -> bool:
        """Every tenth has a mail server that follows every link at once, and says that it is a browser."""
        return int(self.code) % 10 == 9  # noqa: PLR2004 - an odd one, so that nobody opens who is scanned


@dataclass(frozen=True, slots=True)
class Reading:
    """What was done and what the product says about it."""

    newcomers: int
    wanted: frozenset[str]
    segment_count: int
    preflight: Mapping[str, Any]
    test_clicks: Mapping[str, int]
    winner: str
    decided_by: str
    letters: Sequence[Letter]
    wrong_ways: int
    results: Mapping[str, Any]


def newcomers(people: People) -> list[tuple[str, str, str, str]]:
    """Rows of the second file: address, name, city and the voucher's code, which is the row's number."""
    count = max(_LEAST, people.rows // _SHARE)
    return [
        (f"newcomer{at}@example.net", f"Newcomer {at}", CITIES[at // 20 % len(CITIES)], str(at)) for at in range(count)
    ]


async def play(room: Room, people: People, first: Played) -> Reading:
    """The act, to what the results say at its end."""
    stage, rows = room.stage, newcomers(people)
    await imported(stage, "newcomers.csv", _csv(rows), first.list_id)
    rule = {"kind": "attribute", "key": "city", "value": CITY}
    segment = await stage.api.post("/segments", {"name": f"in {CITY}", "rules": rule})
    counted = await stage.api.post(f"/segments/{segment['id']}/count")
    campaign_id, checked = await _launch(room, segment["id"], first.campaign_id)
    stage.tell(
        f"segment: {counted['contact_count']} people in {CITY}; without those who had the first campaign "
        f"{checked['will_go_count']} are left"
    )
    async with asyncio.timeout(_BOUND_S):
        letters, wrong_ways = await _test(room, campaign_id)
        test_clicks, winner, decided_by = await _chosen(stage, campaign_id, letters)
        await until_finished(stage, campaign_id)
        rest = await _letters(room, is_test=False)
        wrong_ways += await _read(room, rest)
        letters = [*letters, *rest]
        results = await _judged(stage, campaign_id, letters)
    stage.tell(
        f"read: {results['opens']['people']} opened, {results['clicks']['people']} clicked, "
        f"{results['clicks']['machines']} followed by machines only"
    )
    wanted = frozenset(code for _, _, city, code in rows if city == CITY)
    return Reading(
        len(rows), wanted, counted["contact_count"], checked, test_clicks, winner, decided_by, letters, wrong_ways,
        results,
    )  # fmt: skip


def prove(people: People, reading: Reading) -> list[Line]:
    """The lines of the report about this act."""
    got = Counter(letter.code for letter in reading.letters)
    opened = sum(letter.opens for letter in reading.letters)
    clicked = sum(letter.clicks for letter in reading.letters)
    scanned = sum(letter.is_scanned for letter in reading.letters)
    results, wanted = reading.results, len(reading.wanted)
    in_city = wanted + people.of_city(CITY)
    return [
        equal("segment counted", reading.segment_count, in_city, "by the file's own rows"),
        equal("excluded: had the first", reading.preflight["excluded_count"], people.of_city(CITY)),
        Line(
            "segment reached once",
            len(got),
            is_right=set(got) == reading.wanted and len(reading.letters) == wanted,
            must=f"the {wanted} newcomers in {CITY} and nobody else",
        ),
        Line(
            "A/B test: the winner",
            reading.winner,
            is_right=reading.winner == _VOUCHER
            and reading.decided_by == LOOKER.name
            and dict(reading.test_clicks) == _test_clicks(reading.letters),
            must="chosen by itself, by clicks: " + ", ".join(f"{name} {n}" for name, n in reading.test_clicks.items()),
        ),
        equal(
            "got the winner afterwards",
            sum(each.variant == reading.winner for each in reading.letters if not each.is_test),
            sum(not each.is_test for each in reading.letters),
            "everybody who was not in the test",
        ),
        equal("links that led astray", reading.wrong_ways, 0, "each to where its author said"),
        equal("readers who opened", results["opens"]["people"], opened),
        equal("readers who clicked", results["clicks"]["people"], clicked),
        equal("clicks of machines", results["clicks"]["machines"], scanned, "told apart from people"),
    ]


def _test_clicks(letters: Sequence[Letter]) -> dict[str, int]:
    """How many people clicked in the test, by variant."""
    return {name: sum(each.clicks for each in letters if each.is_test and each.variant == name) for name in _VARIANTS}


def letter_of(raw: bytes, *, is_test: bool) -> Letter:
    """What a letter of this act holds.

    Raises:  Unavailable when it is not one of ours: then nothing can be proved.
    """
    parsed = email.message_from_bytes(raw, policy=policy.default)
    part = parsed.get_body(("html",))
    html = "" if part is None else str(part.get_content())
    links = tuple(_path(found) for found in _LINK.findall(html))
    pixel = _PIXEL.search(html)
    number = re.search(r"Newcomer (\d+)", str(parsed["Subject"]))
    if number is None or pixel is None or len(links) != len(set(links)) or not links:
        raise Unavailable("demo_letter", "a letter has no tracked links or no pixel")
    variant = _VOUCHER if "voucher" in str(parsed["Subject"]) else _PLAIN
    return Letter(number[1], links, _path(pixel[1]), variant, is_test)


def _path(url: str) -> str:
    return urlsplit(unescape(url)).path


def _csv(rows: Sequence[tuple[str, ...]]) -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("email", "name", "city", "code"), *rows])
    return file.getvalue().encode()


async def _launch(room: Room, segment_id: str, first_id: str) -> tuple[str, Mapping[str, Any]]:
    api = room.stage.api
    settings = {"host": "127.0.0.1", "port": room.smtp_port, "tls": "off"}
    connection = await api.post("/connections", {"name": "letters", "provider": "smtp", "settings": settings})
    made = await api.post("/senders", {**SENDER, "name": "Market", "connection_id": connection["id"]})
    template = await api.post("/templates", {"name": "market", "subject": _SUBJECT, "html": _HTML})
    campaign = await api.post(
        "/campaigns",
        {
            "name": "market",
            "sender_id": made["id"],
            "template_id": template["id"],
            "segment_id": segment_id,
            "exclusions": {"campaign_ids": [first_id]},
        },
    )
    test = {
        "audience_percent": 50,
        "wait_minutes": _WAIT_MINUTES,
        "minimum_count": 1,
        "variants": [
            {"name": _PLAIN, "share_percent": 50},
            {"name": _VOUCHER, "share_percent": 50, "subject": _OTHER_SUBJECT},
        ],
    }
    await api.put(f"/campaigns/{campaign['id']}/delivery", {"ab_test": test})
    checked = await api.post(f"/campaigns/{campaign['id']}/preflight")
    await api.post(f"/campaigns/{campaign['id']}/launch")
    return str(campaign["id"]), checked


async def _test(room: Room, campaign_id: str) -> tuple[list[Letter], int]:
    """Wait until the test is out, and let its readers read; gives its letters, and links that led astray.

    The campaign is paused meanwhile: on the slowest machine, too, the winner is chosen after everybody has read.
    """
    while True:
        if any(wave["state"] == "resting" for wave in await _waves(room.stage, campaign_id)):
            break
        await asyncio.sleep(0.1)
    await room.stage.api.post(f"/campaigns/{campaign_id}/pause", {"reason": "its readers read"})
    letters = await _letters(room, is_test=True)
    return letters, await _read(room, letters)


async def _chosen(stage: Stage, campaign_id: str, letters: Sequence[Letter]) -> tuple[dict[str, int], str, str]:
    """Wait until the clicks of the test are known, and then for the product's own choice.

    Gives:   how many clicked by variant, which won, and who decided.
    """
    wanted = sum(_test_clicks(letters).values())
    give_up_s = time.monotonic() + _BOUND_S / 4
    while True:
        found = await stage.api.get(f"/campaigns/{campaign_id}/results/variants")
        clicks = {each["name"]: int(each["clicked_count"]) for each in found["items"]}
        if sum(clicks.values()) >= wanted or time.monotonic() > give_up_s:
            break
        await asyncio.sleep(0.1)
    await stage.api.post(f"/campaigns/{campaign_id}/resume", {"reason": "everybody has read"})
    while True:
        decided = next((wave for wave in await _waves(stage, campaign_id) if wave["winner"]), None)
        if decided is not None:
            break
        await asyncio.sleep(0.1)
    stage.tell(f"A/B test: {decided['winner']} wins: {decided['why']}")
    return clicks, str(decided["winner"]), str(decided["decided_by"])


async def _waves(stage: Stage, campaign_id: str) -> list[dict[str, Any]]:
    found = await stage.api.get(f"/campaigns/{campaign_id}/delivery")
    return list(found["waves"])


async def _letters(room: Room, *, is_test: bool) -> list[Letter]:
    """Letters that the mail server took since the last call, from its inbox."""
    numbers = [record.seq for record in room.ledger.read() if record.is_taken]
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int) -> Letter:
        async with limit, room.http.get(f"{room.inbox_url}/messages/{number}/raw") as response:
            return letter_of(await response.read(), is_test=is_test)

    return await asyncio.gather(*(one(number) for number in numbers))


async def _read(room: Room, letters: Sequence[Letter]) -> int:
    """Do what readers and a scanner do; gives how many answers led elsewhere than their author said."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def visit(path: str, destination: str) -> bool:
        async with (
            limit,
            room.http.get(room.base_url + path, headers={"User-Agent": _BROWSER}, allow_redirects=False) as response,
        ):
            return response.headers.get("Location", "") == destination

    async def one(letter: Letter) -> int:
        ways = [f"{SHOP}/market", f"{SHOP}/map", f"{SHOP}/for/{letter.code}"]
        visits: list[tuple[str, str]] = []
        if letter.opens:
            visits.append((letter.pixel, ""))
        if letter.is_scanned:
            visits += zip(letter.links, ways, strict=True)
        elif letter.clicks:
            visits.append((letter.links[-1], ways[-1]))
        return sum([not await visit(*each) for each in visits])

    return sum(await asyncio.gather(*(one(letter) for letter in letters)))


async def _judged(stage: Stage, campaign_id: str, letters: Sequence[Letter]) -> Mapping[str, Any]:
    """The results, when everything that was done has been judged; at the latest after some seconds, as they are."""
    give_up_s = time.monotonic() + _BOUND_S / 4
    wanted = sum(letter.opens + letter.clicks + letter.is_scanned for letter in letters)
    while True:
        found = await stage.api.get(f"/campaigns/{campaign_id}/results")
        told = [found["opens"]["people"], found["clicks"]["people"], found["clicks"]["machines"]]
        if sum(told) >= wanted or time.monotonic() > give_up_s:
            return found
        await asyncio.sleep(0.1)
