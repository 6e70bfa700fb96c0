"""Dialling links: what servers answer is told apart, and only what is allowed is ever asked, whoever points there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_network

import pytest
from aiohttp import web

from outrider.data.egress import Egress
from outrider.data.link_dial import MOST_LINKS, Dialled, dial
from tests.kit.certificates import server_context
from tests.kit.sites import ELSEWHERE, HERE, Site, answering, leading, site


@pytest.fixture
async def here() -> AsyncIterator[Site]:
    async with site() as made:
        yield made


@pytest.fixture
async def private() -> AsyncIterator[Site]:
    """A server where nobody may ask."""
    async with site(ELSEWHERE) as made:
        yield made


async def names(name: str, port: int) -> list[str]:
    """A resolver that knows three names."""
    del port
    known = {"here.example": [HERE], "private.example": [ELSEWHERE], "both.example": [HERE, ELSEWHERE]}
    if name not in known:
        raise OSError(-2, "unknown")
    return known[name]


ALLOWED = Egress([ip_network(f"{HERE}/32")], names)


async def one(url: str, egress: Egress = ALLOWED, **limits: float) -> Dialled:
    (found,) = await dial([url], egress, **limits)
    assert found.url == url
    return found


@pytest.mark.parametrize(
    ("status", "verdict", "code"),
    [
        (200, "ok", "answers"),
        (204, "ok", "answers"),
        (404, "dead", "gone"),
        (410, "dead", "gone"),
        (403, "unsure", "refused"),
        (429, "unsure", "refused"),
        (503, "unsure", "fails"),
    ],
)
async def test_what_a_server_answers_is_told(here: Site, status: int, verdict: str, code: str) -> None:
    here.answers["/x"] = answering(status)
    found = await one(here.url("/x?a=1#part"))
    assert (found.verdict, found.code, found.status, found.hop_count) == (verdict, code, status, 0)
    methods = ["HEAD"] if status < 400 else ["HEAD", "GET"]
    assert here.asked == [(method, "/x?a=1") for method in methods]
    assert not {"cookie", "authorization"} & here.headers[0].keys()


async def test_a_server_without_a_head_is_asked_for_the_page(here: Site) -> None:
    here.answers["/page"] = lambda request: web.Response(status=405 if request.method == "HEAD" else 200)
    assert (await one(here.url("/page"))).code == "answers"

    def broken(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD" and request.transport is not None:
            request.transport.abort()
        return web.Response()

    here.answers["/broken"] = broken
    assert (await one(here.url("/broken"))).code == "answers"
    assert here.asked[:3] == [("HEAD", "/page"), ("GET", "/page"), ("HEAD", "/broken")]
    assert here.asked[-1] == ("GET", "/broken")


async def test_redirects_are_followed_to_their_end_and_no_further_than_five(here: Site) -> None:
    for number in range(1, 8):
        here.answers[f"/{number}"] = leading(f"{number - 1}?n={number}", 301 + number % 2)
    found = await one(here.url("/5"))
    assert (found.code, found.hop_count, found.final_url) == ("answers", 5, here.url("/0?n=1"))
    found = await one(here.url("/6"))
    assert (found.verdict, found.code, found.hop_count) == ("dead", "endless_redirect", 5)
    here.answers["/round"] = leading("/about")
    here.answers["/about"] = leading("/round#there")
    assert (await one(here.url("/round"))).code == "endless_redirect"
    here.answers["/nowhere"] = answering(302)
    assert (await one(here.url("/nowhere"))).code == "answers"


@pytest.mark.parametrize("to", ["mailto:a@b.example", "file:///etc/passwd", "gopher://x/", "javascript:alert(1)"])
async def test_a_redirect_to_another_kind_of_address_is_odd(here: Site, to: str) -> None:
    here.answers["/x"] = leading(to)
    found = await one(here.url("/x"))
    assert (found.verdict, found.code) == ("dead", "odd_redirect")


async def test_every_spelling_of_a_private_address_is_refused_and_nobody_is_asked(here: Site, private: Site) -> None:
    port = private.port
    hosts = [
        ELSEWHERE, "private.example", "both.example", "localhost", "127.2", "0x7f.2", "0x7f000002", "2130706434",
        "0177.0.0.2", "127.0.0.2.", "[::ffff:127.0.0.2]", "[::1]", "[::]", "0.0.0.0", "169.254.169.254",
        "[64:ff9b::7f00:2]", "①②⑦.0.0.2",
    ]  # fmt: skip
    urls = [f"http://{host}:{port}/" for host in hosts]
    for number, url in enumerate(urls):
        here.answers[f"/{number}"] = leading(url)
        here.answers[f"/slash{number}"] = leading(url.removeprefix("http:"))
    direct = await dial(urls, ALLOWED)
    behind = await dial([here.url(f"/{number}") for number in range(len(urls))], ALLOWED)
    slashed = await dial([here.url(f"/slash{number}") for number in range(len(urls))], ALLOWED)
    assert private.asked == []
    for found in (*direct, *behind, *slashed):
        assert found.code in {"not_allowed", "no_such_host", "no_web_address", "odd_redirect"}, found
        assert found.code == "not_allowed" or "localhost" in found.final_url or "①" in found.final_url, found
    assert {found.status for found in direct} == {None}


async def test_a_name_that_changes_after_it_was_looked_at_is_refused_when_it_is_dialled(private: Site) -> None:
    """DNS rebinding: allowed at the first question, private at the second."""
    answers = iter([[HERE]])

    async def rebinding(name: str, port: int) -> list[str]:
        del name, port
        return next(answers, [ELSEWHERE])

    found = await one(private.url("/", "rebinding.example"), Egress([ip_network(f"{HERE}/32")], rebinding))
    assert (found.code, private.asked) == ("not_allowed", [])


async def test_without_an_operators_word_this_machine_is_never_asked(here: Site) -> None:
    assert (await one(here.url("/"), Egress())).code == "not_allowed"
    assert here.asked == []


@pytest.mark.parametrize("url", ["http://ann:secret@here.example/", "http://ann@here.example/"])
async def test_an_address_with_a_user_is_not_tried(here: Site, url: str) -> None:
    here.answers["/x"] = leading(f"http://ann:secret@{HERE}:{here.port}/y")
    assert (await one(url)).code == "not_allowed"
    assert (await one(here.url("/x"))).code == "not_allowed"
    assert [path for _, path in here.asked] == ["/x"]


@pytest.mark.parametrize("url", ["http://", "http://[::1", "https://:80/", "http://a.example:99999/", "http:///x"])
async def test_what_is_no_web_address_is_said_to_be_none(url: str) -> None:
    assert (await one(url)).code in {"no_web_address", "not_allowed"}


async def test_names_and_servers_that_are_not_there_are_told_apart(here: Site) -> None:
    assert (await one("http://nobody.example/")).code == "no_such_host"
    async with site(context=server_context(HERE, is_signed=False)) as unknown:
        found = await one(unknown.url("/").replace("http:", "https:"))
    assert (found.verdict, found.code, unknown.asked) == ("dead", "bad_certificate", [])
    async with site() as other:
        url = other.url("/")
    found = await one(url)
    assert (found.verdict, found.code, found.status) == ("unsure", "no_answer", None)


async def test_a_server_that_never_answers_is_given_up_and_the_others_are_not_kept_waiting(here: Site) -> None:
    urls = [here.url("/never"), *(here.url(f"/{number}", "here.example") for number in range(4))]
    slow, *others = await dial(urls, ALLOWED, link_s=1.0)
    assert (slow.code, [each.code for each in others]) == ("no_answer", ["answers"] * 4)
    late = await dial([here.url("/never")] * 20, ALLOWED, link_s=0.3, whole_s=0.5)
    assert {each.code for each in late} == {"no_answer", "not_dialled"}


async def test_never_more_than_two_requests_are_at_a_host_and_no_more_than_a_hundred_links_are_tried(
    here: Site,
) -> None:
    found = await dial([here.url(f"/{number}") for number in range(MOST_LINKS + 3)], ALLOWED)
    assert [each.code for each in found] == ["answers"] * MOST_LINKS + ["not_dialled"] * 3
    assert len(here.asked) == MOST_LINKS
    assert here.most_at_once <= 2


async def test_an_answer_without_end_is_not_read(here: Site) -> None:
    def endless(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(headers={"Content-Length": str(1 << 40)})

    here.answers["/endless"] = endless
    assert (await one(here.url("/endless"))).code == "answers"
    here.answers["/long"] = lambda _: web.Response(headers={"Location": "/" + "x" * 9_000}, status=302)
    assert (await one(here.url("/long"))).code == "no_answer"
