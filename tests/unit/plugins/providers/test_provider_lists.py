"""Lists of messages that providers give: read as far as they are lists of ours, whatever else stands in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest

from outrider.base.errors import Unavailable
from outrider.contracts.callbacks import Lost
from outrider.data.http_out import HttpOut, Reply
from outrider.plugins.providers.resend.finding import find as find_emails
from outrider.plugins.providers.twilio.bills import bills
from outrider.plugins.providers.twilio.finding import find

PATH = "/2010-04-01/Accounts/AC1/Messages.json"
SID = "SM0123456789abcdef0123456789abcdef"
NOW = datetime.now(UTC)
LOST = Lost(UUID(int=1), "+14155552000", "+14155550100", b"Hello", NOW, frozenset())
ODD: Sequence[object] = ([], {}, ["Hello"], {"a": 1}, None, 5, True, "another")
ELSEWHERE = (
    f"https://evil.example{PATH}?Page=1", f"//evil.example{PATH}?Page=1", f"@evil.example{PATH}?Page=1",
    f"{PATH}/../../AC2/Messages.json?Page=1", "/2010-04-01/Accounts/AC2/Messages.json?Page=1", PATH, ["?"], 7,
)  # fmt: skip


class Answers:
    """A provider that gives one answer after another, and keeps what it was asked."""

    def __init__(self, *said: object) -> None:
        self._said = list(said)
        self.asked: list[str] = []

    async def ask(self, _method: str, path: str, **_more: Any) -> Reply:
        """The next answer."""
        self.asked.append(path)
        return Reply(200, {"content-type": "application/json"}, json.dumps(self._said.pop(0)).encode())


async def no_turn() -> None:
    """Nobody else asks."""


@pytest.mark.parametrize("body", ODD)
async def test_a_text_is_found_among_bodies_that_are_no_text(body: object) -> None:
    listed = [{"sid": SID[:-1] + "0", "body": body}, "nothing", {"sid": SID, "body": "Hello"}]
    http = Answers({"messages": listed})
    assert await find(cast("HttpOut", http), PATH, [LOST]) == {LOST.id: SID}


@pytest.mark.parametrize("uri", ELSEWHERE)
async def test_a_next_page_that_is_not_of_this_accounts_list_is_never_asked_for(uri: object) -> None:
    http = Answers({"messages": [], "next_page_uri": uri})
    with pytest.raises(Unavailable):
        await find(cast("HttpOut", http), PATH, [LOST])
    assert len(http.asked) == 1


@pytest.mark.parametrize("uri", ELSEWHERE)
async def test_prices_are_not_asked_for_elsewhere_either(uri: object) -> None:
    http = Answers({"messages": [], "next_page_uri": uri}, *({} for _ in range(20)))
    sent = {f"SM{at:032x}": NOW for at in range(6)}
    assert await bills(cast("HttpOut", http), PATH.removesuffix("/Messages.json"), sent) == {}
    own = PATH.removesuffix(".json")
    assert http.asked[0].startswith((f"{PATH}?DateSent", f"{PATH}?PageSize"))
    assert [
        each for each in http.asked if not each.startswith((f"{PATH}?DateSent", f"{PATH}?PageSize", f"{own}/"))
    ] == []


@pytest.mark.parametrize("sid", ODD)
async def test_prices_are_read_beside_ids_that_are_no_text(sid: object) -> None:
    sent = {f"SM{at:032x}": NOW for at in range(6)}
    priced = [{"sid": each, "price": "-0.1", "price_unit": "usd"} for each in sent]
    http = Answers({"messages": [{"sid": sid, "price": "-9"}, *priced]})
    assert set(await bills(cast("HttpOut", http), PATH.removesuffix("/Messages.json"), sent)) == set(sent)


@pytest.mark.parametrize("data", [None, 5, True, "text", {"a": 1}])
async def test_an_answer_that_lists_no_emails_does_not_say_that_there_are_none(data: object) -> None:
    email = Lost(UUID(int=1), "ann@example.org", "us@example.org", b"Subject: x\r\n\r\nHello", NOW, frozenset())
    with pytest.raises(Unavailable):
        await find_emails(cast("HttpOut", Answers({"data": data})), no_turn, [email])
