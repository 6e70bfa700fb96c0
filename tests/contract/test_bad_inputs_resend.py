"""The rows about Resend of the table of bad inputs for provider callbacks; test_bad_inputs_callbacks.py counts them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.interfaces.sandbox.resend.webhooks import headers_of
from tests.kit.resending import DOMAIN, SECRET, Resending, resending


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Resending]:
    async with resending(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def kept(office: Resending) -> list[tuple[str, str, int, bool]]:
    rows = await office.rows(
        "SELECT kind, state, repeats, is_conflicting FROM webhook_events WHERE tenant_id = $1 ORDER BY received_at, id"
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("named", ["m" * 10_000, "msg.1", "msg 1"])
async def test_k07_an_id_that_is_none_is_refused(office: Resending, named: str) -> None:
    message_id = await office.sent()
    assert await office.tell("email.delivered", message_id, named=named) in {403, 431}
    for missing in ("svix-id", "svix-timestamp", "svix-signature"):
        assert await office.tell("email.delivered", message_id, headers={missing: ""}) == 403
    assert await kept(office) == []


async def test_k09_k10_k14_another_version_too_many_or_two_opinions_are_refused(office: Resending) -> None:
    message_id = await office.sent()
    for headers in (
        {"svix-signature": "v2,AAAA"},
        {"svix-signature": " ".join(["v1,AAAA"] * 1000)},
        {"webhook-id": "msg_other"},
        {"webhook-signature": "v1,AAAA"},
    ):
        assert await office.tell("email.delivered", message_id, headers=headers) == 403
    assert await kept(office) == []


async def test_k11_k12_an_event_is_taken_for_five_minutes_and_no_longer(office: Resending) -> None:
    message_id = await office.sent()
    now = int(time.time())
    for at in (now - 330, now + 330):
        assert await office.tell("email.delivered", message_id, at=at) == 403
    for at in (now - 270, now + 270):
        assert await office.tell("email.delivered", message_id, at=at) == 200


@pytest.mark.parametrize("moment", ["1e9", "1_795_168_800", "1795168800.9", "+1795168800", "NaN", "-5", "9" * 30])
async def test_k13_a_moment_is_digits(office: Resending, moment: str) -> None:
    message_id = await office.sent()
    assert await office.tell("email.delivered", message_id, headers={"svix-timestamp": moment}) == 403


async def test_k15_k16_what_is_told_again_counts_once_and_what_differs_shows(office: Resending) -> None:
    message_id = await office.sent()
    told = (office.tell("email.delivered", message_id, named="msg_same") for _ in range(100))
    assert set(await asyncio.gather(*told)) == {200}
    assert await office.tell("email.bounced", message_id, named="msg_same", data={"bounce": {}}) == 200
    await office.applied()
    assert (await office.state(message_id))[0] == "delivered"
    ((kind, state, repeats, is_conflicting),) = await kept(office)
    assert (kind, state, is_conflicting) == ("report", "applied", True)
    assert repeats >= 1


@pytest.mark.parametrize(
    "word", ["email.exploded", "contact.created", "domain.updated", "email.received", "", "x" * 99]
)
async def test_k19_news_of_another_kind_is_kept_and_moves_nothing(office: Resending, word: str) -> None:
    message_id = await office.sent()
    assert await office.tell(word, message_id) == 200
    await office.applied()
    assert [row[:2] for row in await kept(office)] == [("unknown", "unknown")]
    assert (await office.state(message_id))[0] == "sent"


async def test_k22_a_bounce_holds_whenever_a_delivery_is_told(office: Resending) -> None:
    message_id = await office.sent()
    bounce = {"type": "Permanent", "subType": "General", "message": "no such user"}
    for word in ("email.bounced", "email.delivered", "email.sent"):
        assert await office.tell(word, message_id, data={"bounce": bounce}) == 200
        await office.applied()
    assert await office.state(message_id) == ("bounced", "bounced_permanently")
    assert [row[1] for row in await kept(office)] == ["applied"] * 3


async def test_k24_a_complaint_keeps_from_going_what_still_waits(office: Resending) -> None:
    message_id = await office.sent()
    waiting = await office.accepted()
    assert await office.tell("email.complained", message_id) == 200
    await office.applied()
    async with office.working():
        await office.until_state("blocked", 1)
    assert (await office.state(waiting))[0] == "blocked"
    assert office.sandbox.taken == []


async def test_k25_what_may_pass_lists_nobody_at_once(office: Resending) -> None:
    bounce = {"type": "Transient", "subType": "General", "message": "later"}
    message_id = await office.sent()
    assert await office.tell("email.bounced", message_id, data={"bounce": bounce}) == 200
    await office.applied()
    assert await office.state(message_id) == ("bounced", "bounced_for_now")
    assert await office.rows("SELECT 1 FROM suppressions WHERE tenant_id = $1") == []


@pytest.mark.parametrize("moment", ["1970-01-01T00:00:00Z", "2500-01-01T00:00:00Z", "yesterday", None, 5])
async def test_k26_when_it_happened_is_not_believed(office: Resending, moment: object) -> None:
    message_id = await office.sent()
    assert await office.tell("email.delivered", message_id, created_at=moment) == 200
    await office.applied()
    (row,) = await office.rows(
        "SELECT now() - at < interval '1 hour' FROM message_events WHERE tenant_id = $1 AND kind = 'delivered'"
    )
    assert row[0] is True


@pytest.mark.parametrize("to", [[], [f"p{n}@{DOMAIN}" for n in range(1000)], "x", None, [5]])
async def test_k27_whom_it_names_decides_nothing(office: Resending, to: object) -> None:
    mine, other = await office.sent(), await office.sent(f"other@{DOMAIN}")
    bounce = {"type": "Permanent", "subType": "General"}
    assert await office.tell("email.bounced", mine, data={"bounce": bounce, "to": to}) == 200
    await office.applied()
    assert [(await office.state(each))[0] for each in (mine, other)] == ["bounced", "sent"]
    rows = await office.rows("SELECT address FROM suppressions WHERE tenant_id = $1")
    assert [row["address"] for row in rows] == [f"ann@{DOMAIN}"]


async def test_k27_a_message_of_another_tenant_is_not_touched(office: Resending) -> None:
    statement = "INSERT INTO tenants (name) SELECT 'other' WHERE $1::uuid IS NOT NULL RETURNING id"
    assert (await office.rows(statement))[0]["id"] != DEFAULT_TENANT
    assert await office.tell("email.bounced", UUID(int=7), data={"bounce": {}}) == 200
    await office.applied()
    assert [row[:2] for row in await kept(office)] == [("report", "orphan")]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"type": "email.sent", "data": {"email_id": "\\u0000"}}']
)
async def test_what_is_no_event_is_refused(office: Resending, body: bytes) -> None:
    assert await office.post(body, headers_of(SECRET, body)) == 400
    assert (await office.post(body, {**headers_of(SECRET, body), "content-type": "text/plain"})) == 415
