"""The table of bad inputs for provider callbacks: one test per id, or where it is decided, or why not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlencode

import pytest

from outrider.contracts.outcome import CAUSES
from tests.kit.texting import PHONE, Texting, texting

ROWS = {
    row["id"]: row
    for row in json.loads(Path(__file__).with_name("bad_inputs.json").read_text(encoding="utf-8"))["provider callback"]
}
ELSEWHERE = {
    "K32": "contract/test_signatures.py: names are sorted; the sandbox sends them in its own order",
    "K33": "contract/test_signatures.py: TW2",
    "K53": "flow/test_inbound.py: the same text told twice is one; the row's key is the database's",
    "K61": "flow/test_callbacks.py: a genuine callback replayed days later changes nothing",
    "K54": "bench/callbacks.py: 1,000 a second for a minute, the answer's p99, the lag, none lost, all applied soon",
    "K62": "unit/plugins/providers/test_smtp_reports.py and flow/test_returns.py: of all kinds; nobody is listed "
    "but whom the address of a message of ours names",
    "K64": "unit/plugins/providers/test_smtp_reports.py: a holiday note is a reply and no bounce",
    "K65": "flow/test_returns.py: the address it comes to says which message is meant; any other is answered 550",
}
DOES_NOT_APPLY = {
    "K56": "a full disk is Unavailable to every transaction alike (data/db.py), answered 503",
}


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def kept(office: Texting) -> list[tuple[str, str]]:
    rows = await office.rows("SELECT kind, state FROM webhook_events WHERE tenant_id = $1 ORDER BY received_at")
    return [tuple(row) for row in rows]


async def test_k01_k02_without_a_signature_nothing_is_read(office: Texting) -> None:
    message_id = await office.sent()
    assert (await office.report(message_id, "delivered", signature=""))[0] == 403
    headers = {"X-Twilio-Signature": " "}
    assert (await office.report(message_id, "delivered", headers=headers))[0] == 403
    assert await kept(office) == []


async def test_k05_one_byte_changed_is_refused(office: Texting) -> None:
    message_id = await office.sent()
    form = office.status("SM" + message_id.hex, "delivered")
    body = urlencode(form).encode().replace(b"delivered", b"deliverec", 1)
    assert (await office.call(form, m=message_id, data=body))[0] == 403
    assert (await office.state(message_id))[0] == "sent"


async def test_k34_k35_names_and_values_are_taken_as_they_are_signed(office: Texting) -> None:
    form = {**office.status("SM" + "a" * 32, "delivered"), "Body": "  spaces around  "}
    assert (await office.call(form))[0] == 200
    for pair in ({"A": "B=1"}, {"AB": "=1"}):
        assert (await office.call(pair))[0] == 200
    assert (await kept(office))[1:] == [("unknown", "unknown"), ("unknown", "unknown")]


async def test_k37_json_without_a_signed_hash_is_refused(office: Texting) -> None:
    body = json.dumps({"MessageStatus": "delivered"}).encode()
    assert (await office.call({}, data=body, headers={"Content-Type": "application/json"}))[0] == 403


async def test_k38_only_post_is_taken(office: Texting) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert (await office.call({}, method=method))[0] == 405


async def test_k40_k41_the_table_of_precedence_decides_not_the_order(office: Texting) -> None:
    first, second = await office.sent(), await office.sent("+14155552672")
    for status in ("delivered", "sent", "queued"):
        await office.report(first, status)
        await office.applied()
    for status in ("undelivered", "delivered"):
        await office.report(second, status, form={"ErrorCode": "30003"})
        await office.applied()
    await office.report(first, "undelivered", form={"ErrorCode": "30008"})
    await office.applied()
    assert await office.state(first) == ("bounced", "carrier_unknown_error")
    assert await office.state(second) == ("bounced", "handset_unreachable")


async def test_k42_words_that_mean_nothing_are_kept_and_move_nothing(office: Texting) -> None:
    message_id = await office.sent()
    for word in ("read", "teleported"):
        assert (await office.report(message_id, word))[0] == 200
    await office.applied()
    assert await kept(office) == [("report", "applied")] * 2
    assert (await office.state(message_id))[0] == "sent"


@pytest.mark.parametrize("sid", ["SM1", "SM'; drop", "S" * 10_000, "SM" + "G" * 32])
async def test_k43_what_is_no_id_is_refused(office: Texting, sid: str) -> None:
    assert (await office.call(office.status(sid, "delivered")))[0] == 400
    assert await kept(office) == []


async def test_k43_an_id_of_nobody_is_an_orphan(office: Texting) -> None:
    assert (await office.call(office.status("SM" + "f" * 32, "delivered")))[0] == 200
    await office.applied()
    assert await kept(office) == [("report", "orphan")]


async def test_k44_another_account_is_refused(office: Texting) -> None:
    form = {**office.status("SM" + "a" * 32, "delivered"), "AccountSid": "AC" + "9" * 32}
    assert (await office.call(form))[0] == 403


async def test_k45_an_opted_out_recipient_is_suppressed(office: Texting) -> None:
    message_id = await office.sent()
    await office.report(message_id, "failed", form={"ErrorCode": "21610"})
    await office.applied()
    assert await office.state(message_id) == ("failed", "opted_out")
    rows = await office.rows("SELECT address, reason FROM suppressions WHERE tenant_id = $1")
    assert [tuple(row) for row in rows] == [(PHONE, "stop")]


@pytest.mark.parametrize(
    ("code", "cause", "is_suppressed", "again"),
    [
        ("30003", "handset_unreachable", False, "by_hand"),
        ("30005", "handset_unknown", True, "never"),
        ("30006", "number_landline", False, "never"),
        ("30007", "content_filtered", False, "never"),
        ("30034", "sender_not_registered", False, "never"),
        ("x", "carrier_unknown_error", False, "never"),
        ("9" * 50, "carrier_unknown_error", False, "never"),
    ],
)
async def test_k46_a_code_has_its_cause_and_may_be_sent_again_or_not(
    office: Texting, code: str, cause: str, again: str, *, is_suppressed: bool
) -> None:
    message_id = await office.sent()
    await office.report(message_id, "undelivered", form={"ErrorCode": code})
    await office.applied()
    assert await office.state(message_id) == ("bounced", cause)
    assert bool(await office.rows("SELECT 1 FROM suppressions WHERE tenant_id = $1")) is is_suppressed
    assert CAUSES[cause].retry == again, "docs/decisions/0031"


@pytest.mark.parametrize("text", ["A" * 1600, "👍🏽", "<script>alert(1)</script>"])
async def test_k48_k49_what_people_write_is_kept_as_it_is(office: Texting, text: str) -> None:
    assert await office.wrote(text) == []
    (row,) = await office.rows("SELECT text FROM inbound_messages WHERE tenant_id = $1")
    assert row["text"] == text


@pytest.mark.parametrize("odd", [b"%00", b"%ED%A0%80", b"\xff"])
async def test_k48_what_is_no_text_is_replaced(office: Texting, odd: bytes) -> None:
    # signed by its values as bytes: as whoever signs does, not as a program reads them
    sid = "SM" + "d" * 32
    body = b"Body=a" + odd + b"b&From=%2B14155552671&MessageSid=" + sid.encode() + b"&To=%2B14155550100"
    pairs = sorted(tuple(map(unquote_to_bytes, part.split(b"=", 1))) for part in body.split(b"&"))
    signed = office.callback_url.encode() + b"".join(name + value for name, value in pairs)
    given = base64.b64encode(hmac.new(b"first-token", signed, hashlib.sha1).digest()).decode()
    assert (await office.call({}, data=body, signature=given))[0] == 200
    (row,) = await office.rows("SELECT text FROM inbound_messages WHERE tenant_id = $1")
    assert row["text"].startswith("a")
    assert row["text"].endswith("b")


@pytest.mark.parametrize("sender", ["+1", "Anonymous", "whatsapp:+14155552671", ""])
async def test_k51_whoever_cannot_be_answered_is_not(office: Texting, sender: str) -> None:
    assert await office.wrote("HELP", sender=sender) == []


async def test_k52_media_are_counted_and_never_fetched(office: Texting) -> None:
    more = {"NumMedia": "1000000", "MediaUrl0": "http://169.254.169.254", "MediaContentType0": "image/png"}
    assert await office.wrote("look", **more) == []
    (row,) = await office.rows("SELECT media_count FROM inbound_messages WHERE tenant_id = $1")
    assert row["media_count"] == 100


async def test_k58_k59_another_kind_of_body_is_not_guessed(office: Texting) -> None:
    form = office.status("SM" + "a" * 32, "delivered")
    assert (await office.call(form, headers={"Content-Type": "text/plain"}))[0] in {400, 403, 415}
    assert (await office.call(form, headers={"Content-Encoding": "gzip"}))[0] == 415
    assert await kept(office) == []


async def test_a_body_without_end_is_refused(office: Texting) -> None:
    assert (await office.call({}, data=b"A=" + b"x" * (300 << 10)))[0] == 413
    assert await kept(office) == []


def test_every_row_is_tried_or_accounted_for() -> None:
    files = [Path(__file__), Path(__file__).with_name("test_bad_inputs_resend.py")]
    source = "".join(file.read_text(encoding="utf-8") for file in files)
    names = [found for line in re.findall(r"def test_((?:k\d+_)+)", source) for found in line.strip("_").split("_")]
    tried = {name.upper() for name in names}
    told = ELSEWHERE.keys() | DOES_NOT_APPLY.keys()
    assert tried | told == ROWS.keys()
    assert not tried & told
