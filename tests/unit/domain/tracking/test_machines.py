"""Who says what: mail programs and browsers are people, whoever looks ahead or says so is a machine."""

from __future__ import annotations

import pytest

from outrider.domain.tracking import machines

PEOPLE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/4.0 (compatible; ms-office; MSOffice rmj)",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17928; Pro)",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.12.0",
    "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
    "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
    "Mozilla/5.0 (Linux; Android 10; CUBOT NOTE 20) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130 Mobile",
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138 Mobile Safari/537.36",
)
MACHINES = (
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
    "BarracudaCentral/1.0",
    "curl/8.9.1",
    "python-requests/2.32",
    "Go-http-client/2.0",
    "WhatsApp/2.24.6 A",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "TelegramBot (like TwitterBot)",
    "facebookexternalhit/1.1",
    "Microsoft Office Existence Discovery",
)


@pytest.mark.parametrize("agent", PEOPLE)
def test_programs_of_people_are_people(agent: str) -> None:
    assert machines.verdict({b"user-agent": agent.encode()}) == ""


@pytest.mark.parametrize("agent", MACHINES)
def test_who_says_that_it_is_a_machine_is_one(agent: str) -> None:
    assert machines.verdict({b"user-agent": agent.encode()}) == machines.AGENT


@pytest.mark.parametrize("agent", [None, b"", b"  "])
def test_who_says_nothing_is_a_machine(agent: bytes | None) -> None:
    assert machines.verdict({} if agent is None else {b"user-agent": agent}) == machines.NO_AGENT


def test_the_proxy_that_fetches_everything_is_no_reader() -> None:
    assert machines.verdict({b"user-agent": b"Mozilla/5.0"}) == machines.PRIVACY_PROXY


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"purpose", b"prefetch"), (b"sec-purpose", b"prefetch;anonymous-client-ip"), (b"x-moz", b"prefetch"),
     (b"x-purpose", b"preview")],
)  # fmt: skip
def test_looking_ahead_is_no_reading(name: bytes, value: bytes) -> None:
    assert machines.verdict({b"user-agent": PEOPLE[0].encode(), name: value}) == machines.PREFETCH


def test_every_verdict_is_one_of_the_known_words() -> None:
    assert len(set(machines.EVERY)) == len(machines.EVERY) == 7
    assert "" not in machines.EVERY
