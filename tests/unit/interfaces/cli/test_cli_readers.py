"""The demonstration's second act: what its letters hold, and every way in which its figures could be wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.base.errors import Unavailable
from outrider.interfaces.cli.demonstration.people import CITIES, plan
from outrider.interfaces.cli.demonstration.readers import CITY, Letter, Reading, letter_of, newcomers, prove

PEOPLE = plan(2000)
ROWS = newcomers(PEOPLE)
CODES = [code for _, _, city, code in ROWS if city == CITY]
HTML = (
    '<a href="http://h:1/t/c/AA">one</a> <a href="http://h:1/t/c/BB">two</a> <a href="http://h:1/u/x">leave</a>'
    '<img src="http://h:1/t/o/CC.gif" width="1" height="1" alt="">'
)


def _raw(html: str = HTML, subject: str = "Newcomer 12, the market opens") -> bytes:
    return f"Subject: {subject}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n".encode()


def _reading() -> Reading:
    letters = [
        Letter(code, ("/a", "/b", "/c"), "/p", ("plain", "voucher")[at % 2] if at < 20 else "voucher", at < 20)
        for at, code in enumerate(CODES)
    ]
    results = {
        "opens": {"people": sum(each.opens for each in letters)},
        "clicks": {
            "people": sum(each.clicks for each in letters),
            "machines": sum(each.is_scanned for each in letters),
        },
    }
    checked = {"excluded_count": PEOPLE.of_city(CITY)}
    counted = len(CODES) + PEOPLE.of_city(CITY)
    tested = {
        name: sum(each.clicks for each in letters if each.is_test and each.variant == name)
        for name in ("plain", "voucher")
    }
    return Reading(
        len(ROWS), frozenset(CODES), counted, checked, tested, "voucher", "campaign waves", letters, 0, results
    )


def _wrong(reading: Reading) -> set[str]:
    return {line.name for line in prove(PEOPLE, reading) if not line.is_right}


def test_a_letter_gives_its_links_its_pixel_and_whose_it_is() -> None:
    assert letter_of(_raw(), is_test=False) == Letter("12", ("/t/c/AA", "/t/c/BB"), "/t/o/CC.gif")
    assert letter_of(_raw(subject="Newcomer 3, your voucher"), is_test=True).variant == "voucher"


@pytest.mark.parametrize(
    ("html", "subject"),
    [
        ("<p>no links</p>", "Newcomer 1"),
        (HTML.replace("<img", "<b"), "Newcomer 1"),
        (HTML.replace("BB", "AA"), "Newcomer 1"),
        (HTML, "Spring"),
    ],
)
def test_a_letter_that_proves_nothing_is_refused(html: str, subject: str) -> None:
    with pytest.raises(Unavailable):
        letter_of(_raw(html, subject), is_test=True)


def test_nobody_does_two_things_that_cannot_be_told_apart() -> None:
    letters = [Letter(str(number), ("/a",), "/p") for number in range(1000)]
    assert not [each for each in letters if each.is_scanned and (each.opens or each.clicks)]
    assert [each for each in letters if each.is_scanned]
    tested = [replace(each, variant=name, is_test=True) for each in letters for name in ("plain", "voucher")]
    assert {each.variant for each in tested if each.clicks} == {"voucher"}
    assert not [each for each in tested if each.is_scanned and each.clicks]


def test_the_cities_of_the_first_file_share_its_ordinary_people() -> None:
    assert sum(PEOPLE.of_city(city) for city in CITIES) == PEOPLE.ordinary


def test_what_went_as_it_should_adds_up() -> None:
    assert _wrong(_reading()) == set()
    assert any(letter.is_scanned for letter in _reading().letters), "the smallest demonstration has a scanner"


def test_every_figure_can_be_wrong() -> None:
    good = _reading()
    assert _wrong(replace(good, segment_count=good.segment_count + 1)) == {"segment counted"}
    assert _wrong(replace(good, preflight={"excluded_count": 0})) == {"excluded: had the first"}
    assert _wrong(replace(good, wrong_ways=1)) == {"links that led astray"}
    nobody = {"opens": {"people": 0}, "clicks": {"people": 0, "machines": 0}}
    assert _wrong(replace(good, results=nobody)) == {"readers who opened", "readers who clicked", "clicks of machines"}
    assert _wrong(replace(good, winner="plain")) == {"A/B test: the winner", "got the winner afterwards"}
    assert _wrong(replace(good, decided_by="api:demo")) == {"A/B test: the winner"}
    assert _wrong(replace(good, test_clicks={"plain": 1, "voucher": 3})) == {"A/B test: the winner"}
    astray = [replace(each, variant="plain") if not each.is_test else each for each in good.letters]
    assert _wrong(replace(good, letters=astray)) == {"got the winner afterwards"}
    twice = [*good.letters, replace(good.letters[0], code=CODES[1])]
    assert "segment reached once" in _wrong(replace(good, letters=twice))
    assert "segment reached once" in _wrong(replace(good, letters=good.letters[1:]))
    stranger = replace(good.letters[0], code=next(code for _, _, city, code in ROWS if city != CITY))
    assert "segment reached once" in _wrong(replace(good, letters=[stranger, *good.letters[1:]]))
