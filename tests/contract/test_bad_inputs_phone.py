"""The table of bad inputs for telephone numbers: one test per id, or where it is decided, or why not."""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.base.fields import check
from outrider.contracts.channel import Unrenderable
from outrider.contracts.gate import Candidate, Hold
from outrider.data.countries import zones_of
from outrider.plugins.channels.sms import CHANNEL
from outrider.plugins.gates.quiet_hours import GATE as QUIET
from tests.kit import texts
from tests.kit.rendering import InProcessRenderer

ROWS = {
    row["id"]: row
    for row in json.loads(Path(__file__).with_name("bad_inputs.json").read_text(encoding="utf-8"))["phone number"]
}
ACCEPTED = {
    "P06": [("4155552671", "US", "+14155552671")],
    "P07": [("+14155552671", "", "+14155552671")],
    "P21": [("+18005551212", "", "+18005551212")],
    "P37": [("+610412345678", "", "+61412345678")],
    "P38": [("0412345678", "AU", "+61412345678")],
    "P39": [("0011 1 415 555 2671", "AU", "+14155552671"), ("00 1 415 555 2671", "DE", "+14155552671")],
    "P42": [("+39 06 1234567", "", "+39061234567")],
    "P44": [("+5491123456789", "", "+5491123456789")],
}
REFUSED = {
    "P01": ["", "   "],
    "P03": ["+"],
    "P09": ["+1-415-555-2671 ext 5", "+14155552671;ext=5", "+14155552671x5"],
    "P11": ["sip:+1415@evil"],
    "P12": ["whatsapp:+14155552671"],
    "P13": ["+1415555267", "+141555526711"],
    "P14": ["+1" + "4" * 20],
    "P15": ["+0", "+0123456789"],
    "P16": ["+999123456789"],
    "P27": ["+\u0661\u0664\u0661\u0665\u0665\u0665\u0665\u0662\u0666\u0667\u0661"],
    "P31": ["+14155552671\r\nX: 1"],
    "P33": ["=+14155552671", "'+14155552671"],
    "P35": ["+14155552671;phone-context=evil"],
    "P36": ["14155552671.0", "1.4155552671E10"],
    "P41": ["+4420718387500"],
    "P43": ["+5215512345678"],
}
PREMIUM = {"P18": "+19005551234", "P19": "+449012345678"}
ELSEWHERE = {
    "P24": "flow/test_twilio.py: a number that is refused fails at the first attempt",
    "P48": "flow/test_reconcile.py: a stop keeps what waits from going",
    "P52": "flow/test_inbound.py and unit/domain/test_callback_words.py: a sentence is flagged, not obeyed",
    "P54": "flow/test_inbound.py: help is answered once an hour, also to whoever opted out",
    "P65": "quiet hours are a gate, for every channel alike",
}
DOES_NOT_APPLY = {
    "P57": "nobody names a number to send from: a sender of the tenant is named, and others' are not found",
    "P64": "texts carry no media; a field that is not known is refused",
}


@pytest.mark.parametrize("row", sorted(ACCEPTED))
def test_is_read_as_the_number_it_means(row: str) -> None:
    for typed, region, stored in ACCEPTED[row]:
        assert CHANNEL.normalise(typed, region=region) == stored
        assert CHANNEL.normalise(stored) == stored


@pytest.mark.parametrize("row", sorted(REFUSED))
@pytest.mark.parametrize("region", ["", "US"])
def test_is_no_number_whatever_the_country(row: str, region: str) -> None:
    for typed in REFUSED[row]:
        with pytest.raises(Refused) as refused:
            CHANNEL.normalise(typed, field="/to", region=region)
        assert (refused.value.code, refused.value.field, refused.value.http_status) == ("invalid_address", "/to", 422)


@pytest.mark.parametrize("row", sorted(PREMIUM))
def test_a_premium_rate_is_refused_as_such(row: str) -> None:
    with pytest.raises(Refused) as refused:
        CHANNEL.normalise(PREMIUM[row])
    assert refused.value.code == "premium_rate"


async def test_p56_a_sender_never_writes_to_itself() -> None:
    composer = CHANNEL.composer(texts.content(), texts.identity("+14155552671"), InProcessRenderer())
    (made,) = await composer.compose([texts.item({"name": "x"}, address="+14155552671")])
    assert isinstance(made, Unrenderable)
    assert "recipient is the number" in made.detail


async def test_p60_more_than_1600_characters_are_refused_before_and_after_rendering() -> None:
    assert await CHANNEL.compile(texts.content("x" * 1600, is_template=False), InProcessRenderer())
    with pytest.raises(RefusedMany) as refused:
        await CHANNEL.compile(texts.content("x" * 1601, is_template=False), InProcessRenderer())
    assert refused.value.errors[0].field == "text"
    composer = CHANNEL.composer(texts.content("{{ name }}"), texts.identity(), InProcessRenderer())
    made = await composer.compose([texts.item({"name": "x" * 1601}), texts.item({"name": "x" * 1600})])
    assert [isinstance(each, Unrenderable) for each in made] == [True, False]


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "   "])
async def test_p62_what_no_phone_shows_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        await CHANNEL.compile(texts.content(text, is_template=False), InProcessRenderer())
    with pytest.raises(Refused):
        await CHANNEL.compile(texts.content(text), InProcessRenderer())


def test_p63_a_shared_shortener_is_warned_of() -> None:
    notes = CHANNEL.review(texts.content("Look: https://bit.ly/abc. Now"), is_bulk=True)
    assert [(note.severity, note.code, note.url) for note in notes] == [
        ("warning", "shared_shortener", "https://bit.ly/abc")
    ]
    assert CHANNEL.review(texts.content("Look: https://example.org/abc"), is_bulk=True) == []


@pytest.mark.parametrize("number", ["+18123456789", "+18503456789"])  # southern Indiana, the panhandle of Florida
def test_p66_an_area_code_in_two_zones_has_the_later_beginning_and_the_earlier_end(number: str) -> None:
    gate = QUIET.configured(check(QUIET.fields, {"quiet_unknown_zone": "strictest"}))

    def is_held(moment: str) -> bool:
        message = Candidate(UUID(int=1), None, number, "marketing", None, 0)
        told = gate.judge({"zone": None, "tenant_zone": "UTC"}, message, datetime.fromisoformat(moment))
        return isinstance(told, Hold)

    assert {"America/New_York", "America/Chicago"} <= set(zones_of(number))
    nine_in_chicago, nine_at_night_in_new_york = "2027-06-01T14:00:00Z", "2027-06-02T01:00:00Z"
    assert is_held("2027-06-01T13:59:59Z"), "nine in New York is not enough"
    assert not is_held(nine_in_chicago)
    assert not is_held("2027-06-02T00:59:59Z")
    assert is_held(nine_at_night_in_new_york), "eight in Chicago does not help"


def test_every_row_is_tried_or_accounted_for() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    named = {match.upper() for match in re.findall(r"def test_(p\d+)_", source)}
    tried = ACCEPTED.keys() | REFUSED.keys() | PREMIUM.keys() | named
    told = ELSEWHERE.keys() | DOES_NOT_APPLY.keys()
    assert tried | told == ROWS.keys()
    assert not tried & told
