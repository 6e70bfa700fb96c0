"""Callbacks that are not taken cost next to nothing: no body where the head says enough, no statement, no line each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from structlog.testing import capture_logs

from outrider.data.db import Database
from outrider.domain.callbacks.take import refused
from tests.kit.texting import Texting, texting

_PLAUSIBLE = "A" * 27 + "="
_BOUND_S = 120.0


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


@asynccontextmanager
async def line(office: Texting) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the API."""
    where = urlsplit(office.api.url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def head_of(url: str, length: int, **headers: str) -> bytes:
    """The head of a callback whose body has so many bytes."""
    given = {
        "Host": "x", "Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(length),
        **{name.replace("_", "-"): text for name, text in headers.items()},
    }  # fmt: skip
    lines = [f"POST {urlsplit(url).path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def answered(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of the next answer; its body is read past."""
    async with asyncio.timeout(_BOUND_S):
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = {name.lower(): text.strip() for name, _, text in (each.partition(":") for each in rest)}
        await reader.readexactly(int(headers.get("content-length", "0")))
    return int(first.split()[1]), headers


def elsewhere(url: str) -> str:
    """An address that somebody guessed."""
    return url.rpartition("/")[0] + "/" + "A" * 64


async def test_what_the_head_tells_is_wrong_is_answered_before_the_body_comes(office: Texting) -> None:
    cases: list[tuple[str, int, dict[str, str], int]] = [
        (office.callback_url, 200, {}, 403),
        (office.callback_url, 200, {"X_Twilio_Signature": "x" * 28}, 403),
        (office.callback_url, 200, {"X_Twilio_Signature": "AAAA"}, 403),
        (office.callback_url, (256 << 10) + 1, {"X_Twilio_Signature": _PLAUSIBLE}, 413),
        (elsewhere(office.callback_url), 200, {"X_Twilio_Signature": _PLAUSIBLE}, 404),
    ]
    for url, length, headers, expected in cases:
        async with line(office) as (reader, writer):
            writer.write(head_of(url, length, **headers))
            status, told = await answered(reader)
            assert (status, told.get("connection")) == (expected, "close"), (headers, "what may still come is not read")
            async with asyncio.timeout(_BOUND_S):
                assert await reader.read() == b""


async def test_one_that_could_be_genuine_is_read_whole_also_when_its_body_comes_late(office: Texting) -> None:
    form = urlencode(office.status("SM" + "a" * 32, "delivered")).encode()
    async with line(office) as (reader, writer):
        writer.write(head_of(office.callback_url, len(form), X_Twilio_Signature=_PLAUSIBLE))
        await writer.drain()
        for part in (form[:40], form[40:]):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)  # nothing is said before all of it has come
            writer.write(part)
        assert (await answered(reader))[0] == 403


async def test_what_was_refused_with_all_it_said_keeps_its_connection(office: Texting) -> None:
    form = urlencode(office.status("SM" + "a" * 32, "delivered")).encode()
    async with line(office) as (reader, writer):
        for url, headers, expected in (
            (office.callback_url, {}, 403),
            (elsewhere(office.callback_url), {}, 404),
            (office.callback_url, {"X_Twilio_Signature": _PLAUSIBLE}, 403),
        ):
            writer.write(head_of(url, len(form), **headers) + form)
            status, told = await answered(reader)
            assert (status, told.get("connection")) == (expected, None)


async def test_what_is_refused_costs_no_statement_and_no_line_each(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = office.status("SM" + "a" * 32, "delivered")
    await office.call(form, signature=_PLAUSIBLE)  # from here on the connection is known
    asked: list[str] = []
    uow = Database.uow

    def watched(self: Database, *arguments: Any, **more: Any) -> Any:
        task = asyncio.current_task()
        asked.append(getattr(task.get_coro(), "__qualname__", "?") if task else "?")
        return uow(self, *arguments, **more)

    monkeypatch.setattr(Database, "uow", watched)
    guessed = elsewhere(office.callback_url)
    with capture_logs() as lines:
        for _ in range(20):
            assert (await office.call(form, signature=_PLAUSIBLE))[0] == 403
            assert (await office.call(form, signature=""))[0] == 403
            assert (await office.call(form, url=guessed))[0] == 404
            assert (await office.call(form, method="GET"))[0] == 405
    assert [each for each in asked if "run_asgi" in each] == []
    said = [each["event"] for each in lines if each["event"] == "request" or each["event"].startswith("webhook")]
    assert "request" not in said
    assert len(said) <= 20, "once in a while, and not for each of eighty"
    text = (await office.owner.get("/metrics")).text
    assert 'outrider_callbacks_total{app="outrider",provider="unknown",result="refused"} 20.0' in text


async def test_counts_that_the_database_does_not_take_now_are_counted_on(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = asyncio.Event()

    async def not_now(*arguments: Any) -> None:
        if not away.is_set():
            away.set()
            raise ConnectionRefusedError
        await refused(*arguments)

    monkeypatch.setattr("outrider.engine.inbound.desk.take.refused", not_now)
    form = office.status("SM" + "a" * 32, "delivered")
    for _ in range(3):
        await office.call(form, signature="")
    async with asyncio.timeout(_BOUND_S):
        await away.wait()
        await office.call(form, signature="")
        while True:
            shown = (await office.owner.get("/api/v1/callbacks/refusals")).json["items"]
            if sum(each["count"] for each in shown) == 4:
                break
            await asyncio.sleep(0.05)


def _later(seconds: float) -> float:
    """The time of day in so many seconds."""
    return time.time() + seconds


async def until_refused(office: Texting) -> None:
    """Wait until a forged one is not taken any more."""
    async with asyncio.timeout(_BOUND_S):
        while True:
            status, _ = await office.call(office.status("SM" + "a" * 32, "sent"), signature="forged")
            if status == 403:
                return
            await asyncio.sleep(0.05)


async def excepted(office: Texting) -> str:
    """Take what comes from here without a right signature; gives the exception's id."""
    body = {"connection_id": office.connection["id"], "network": "127.0.0.1", "minutes": 30, "reason": "rotation"}
    made = await office.owner.post("/api/v1/callbacks/exceptions", body)
    assert made.status == 201, made.text
    return str(made.json["id"])


async def test_an_exception_is_over_when_its_time_is_also_where_it_is_remembered(
    office: Texting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.interfaces.api.callbacks._FRESH_S", 1e9)  # what was read once is never read again
    await excepted(office)
    forged = office.status("SM" + "a" * 32, "sent")
    assert (await office.call(forged, signature="forged"))[0] == 200
    for later_s, expected in ((20 * 60, 200), (31 * 60, 403)):
        clock = SimpleNamespace(monotonic=time.monotonic, time=partial(_later, later_s))
        monkeypatch.setattr("outrider.interfaces.api.callbacks.time", clock)
        assert (await office.call(forged, signature="forged"))[0] == expected, later_s


async def test_an_exception_that_is_taken_back_holds_no_longer(office: Texting) -> None:
    exception_id = await excepted(office)
    assert (await office.call(office.status("SM" + "a" * 32, "sent"), signature="forged"))[0] == 200
    assert (await office.owner.delete(f"/api/v1/callbacks/exceptions/{exception_id}")).status == 204
    await until_refused(office)
