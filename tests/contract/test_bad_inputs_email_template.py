"""Every row of the bad inputs for email addresses and templates: a test per id, or the reason why it has none here."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Content, Item
from outrider.data.render_pool import RenderPool
from outrider.plugins.channels.email import CHANNEL
from outrider.plugins.channels.email.address import normalise, parse_mailbox
from outrider.plugins.channels.sms import CHANNEL as SMS
from tests.kit import letters, texts
from tests.kit.letters import content, identity, item, part, read, refused, sent

SECTIONS = ("email address", "template")
TABLE = json.loads(Path(__file__).with_name("bad_inputs.json").read_text(encoding="utf-8"))
ROWS = {row["id"]: row for section in SECTIONS for row in TABLE[section]}

NOT_HERE = {
    "E62": "mail goes to the sender's own server and no MX is asked; private addresses are refused by data/egress.py",
    "E63": "unique keys of campaign_recipients and of lists; transactional items are separate by ruling (domain tests)",
    "E64": "the suppression gate looks up by tenant (tests of the gate)",
    "T55": "a campaign holds the id of an immutable content (tests of templates and campaigns)",
    "T56": "flow/test_letters_api.py: a preview for a contact of another tenant is 404",
    "T63": "there are no webhook templates yet",
    "T65": "there is no Markdown in templates",
}

REFUSED_ADDRESSES: dict[str, list[str]] = {
    "E03": ["a@127.0.0.1"],
    "E04": ["a@[127.0.0.1]", "a@[IPv6:::1]"],
    "E05": ["", " ", "   \t"],
    "E06": ["a"],
    "E08": ["a@"],
    "E11": ["a b@b.com"],
    "E14": ["a@-b.com", "a@b-.com"],
    "E15": ["a@b_c.com"],
    "E16": ["a@b.123"],
    "E18": ["x" * 65 + "@b.com"],
    "E19": ["é" * 33 + "@b.com"],
    "E21": ["a@" + "b" * 64 + ".com"],
    "E23": ["a" * 63 + "@" + ".".join(["b" * 62, "b" * 62, "b" * 62, "co"])],
    "E30": ["a$(id)@b.com"],
    "E33": ["a/../b@b.com"],
    "E35": ["a@b.com\n"],
    "E36": ["a@b.com\r\nBcc: c@d.com"],
    "E37": ["a@b.com\r\nRCPT TO:<c@d.com>"],
    "E39": ["a@b.com,c@d.com", "a@b.com;c@d.com"],
    "E40": ["<a@b.com>", "Name <a@b.com>"],
    "E41": ["a@b.com>"],
    "E42": ["alice@example.org)bob@evil.example"],
    "E49": ["用户@例子.广告", "δοκιμή@παράδειγμα.δοκιμή"],
    "E50": ["\u0440\u0430ypal@b.com"],
    "E52": ["a@b\u200b.com", "\ufeffa@b.com", "a\u202e@b.com", "a@b.com\u2028"],
    "E53": ["\uff41@\uff42.com"],
    "E56": ["=?utf-8?q?a=0D=0A?=@b.com"],
    "E58": ["a@b.com'--", 'a@b.com" onmouseover="x'],
}
STORED_ADDRESSES: dict[str, list[tuple[str, str]]] = {
    "E20": [("a@" + "b" * 63 + ".com", "a@" + "b" * 63 + ".com")],
    "E25": [("a+tag@b.com", "a+tag@b.com"), ("a@b.com", "a@b.com")],
    "E26": [("=cmd@b.com", "=cmd@b.com"), ("+1@b.com", "+1@b.com"), ("-a@b.com", "-a@b.com")],
    "E27": [("-oQ/tmp@b.com", "-oq/tmp@b.com")],
    "E47": [("a@xn--bcher-kva.de", "a@xn--bcher-kva.de"), ("a@bücher.de", "a@xn--bcher-kva.de")],
    "E55": [("a@b.co\u0301m", "a@b.xn--cm-5ja"), ("a@b.c\u00f3m", "a@b.xn--cm-5ja")],
    "E61": [("a@mx-less-domain.example", "a@mx-less-domain.example")],
    "E67": [("1@1.co", "1@1.co"), ("a@b.c", "a@b.c")],
}


@pytest.fixture(scope="module")
async def pool() -> AsyncIterator[RenderPool]:
    pool = RenderPool(1)
    await pool.start()
    yield pool
    await pool.close()


def test_every_row_has_a_test_or_a_reason() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    tested = {found.upper() for found in re.findall(r"def test_([et]\d\d)_", source)}
    tested |= set(REFUSED_ADDRESSES) | set(STORED_ADDRESSES) | set(BAD_TEMPLATES) | set(UNSAFE_HTML)
    assert tested | set(NOT_HERE) == set(ROWS)
    assert not tested & set(NOT_HERE)


@pytest.mark.parametrize("row", REFUSED_ADDRESSES)
def test_bad_addresses_are_refused_naming_the_field(row: str) -> None:
    for address in REFUSED_ADDRESSES[row]:
        with pytest.raises(Refused) as refusal:
            CHANNEL.normalise(address, field="/to/address")
        assert refusal.value.field == "/to/address", address
        assert refusal.value.http_status == 422
        assert refusal.value.code == (
            "smtputf8_unsupported" if row in ("E19", "E49", "E50", "E53") else "invalid_address"
        )


@pytest.mark.parametrize("row", STORED_ADDRESSES)
def test_odd_but_good_addresses_have_one_stored_form(row: str) -> None:
    for address, stored in STORED_ADDRESSES[row]:
        assert CHANNEL.normalise(address) == stored


def test_e22_an_address_of_254_octets_is_taken_and_one_of_255_is_not() -> None:
    longest = "a" * 62 + "@" + ".".join(["b" * 62, "b" * 62, "b" * 62, "co"])
    assert len(longest) == 254
    assert CHANNEL.normalise(longest) == longest
    with pytest.raises(Refused):
        CHANNEL.normalise("a" + longest)


def test_e40_a_documented_from_field_takes_a_name() -> None:
    assert parse_mailbox("Name <a@b.com>") == ("Name", "a@b.com")
    assert parse_mailbox("<a@b.com>") == ("", "a@b.com")


def test_e19_octets_count_and_not_characters() -> None:
    with pytest.raises(Refused, match="64 octets"):
        normalise("é" * 33 + "@b.com", allow_smtputf8=True)
    assert normalise("é" * 32 + "@b.com", allow_smtputf8=True)


def test_e49_a_provider_that_carries_them_gets_international_addresses_unmangled() -> None:
    assert normalise("用户@例子.广告", allow_smtputf8=True) == "用户@xn--fsqu00a.xn--4rr70v"


def test_e50_look_alikes_are_flagged_where_they_are_possible() -> None:
    assert CHANNEL.notes(normalise("\u0440\u0430ypal@b.com", allow_smtputf8=True)).is_mixed_script


def test_e57_roles_are_taken_and_flagged() -> None:
    for address in ("abuse@b.com", "postmaster@b.com", "noreply@b.com"):
        assert CHANNEL.normalise(address) == address
        assert CHANNEL.notes(address).is_role


def test_e60_a_probable_mistake_is_hinted_and_never_changed() -> None:
    for address in ("a@gmail.con", "a@gmial.com"):
        assert CHANNEL.normalise(address) == address
        assert CHANNEL.notes(address).typo_hint == "a@gmail.com"


async def refusals(pool: RenderPool, **parts: Any) -> list[Refused]:
    """What saving is refused for."""
    with pytest.raises(Refused) as refusal:
        await CHANNEL.compile(content(**{"subject": "S", "html": None, "text": None, **parts}), pool)
    found: list[Refused] = refusal.value.errors if isinstance(refusal.value, RefusedMany) else [refusal.value]
    assert all(error.http_status == 422 and error.field for error in found)
    return found


async def made(pool: RenderPool, of: Content, *items: Item) -> list[Any]:
    """The answers of both ways, which must agree."""
    await CHANNEL.compile(of, pool)
    answers = await (await letters.composer(of, identity(), pool)).compose(items)
    engine = await (await letters.composer(of, identity(), pool, is_compiled=False)).compose(items)
    assert [type(answer) for answer in answers] == [type(answer) for answer in engine]
    return answers


async def test_t01_an_undefined_variable_never_reaches_anybody_as_braces(pool: RenderPool) -> None:
    (answer,) = await made(pool, content(subject="S", html=None, text="{{ undefined }}"), item({}))
    assert "variable 'undefined' is missing" in refused(answer)


async def test_t04_one_contact_without_a_name_fails_alone(pool: RenderPool) -> None:
    items = [item({"name": "x"} if number != 3 else {}, number=number) for number in range(6)]
    answers = await made(pool, content(), *items)
    assert "name" in refused(answers.pop(3))
    assert all(sent(answer) for answer in answers)


BAD_TEMPLATES: dict[str, list[str]] = {
    "T03": ["{% if %}{% endfor %}"],
    "T05": ['{{ "a"*10**9 }}'],
    "T06": ['{{ "a" * 10000000 }}'],
    "T08": ["{% set ns=namespace(x='aaaaaaaaaa') %}{% for i in range(40) %}{% set ns.x=ns.x~ns.x %}{% endfor %}"],
    "T09": ["{{ '%1000000000d'|format(1) }}"],
    "T11": ["{{ 'x'.ljust(10**9) }}", "{{ 'x'|center(10**9) }}"],
    "T13": ["{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"],
    "T14": ["{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"],
    "T17": ["{% if 1 %}" * 10_000],
    "T19": ["{{ ''|attr('format') }}"],
    "T20": ["{{ cycler.__init__.__globals__.os.popen('id').read() }}"],
    "T24": ["{{ u.delete() }}"],
    "T26": ["{% include '/etc/passwd' %}", "{% import 'os' as o %}", "{% extends 'x' %}"],
}


@pytest.mark.parametrize(
    ("row", "source"), [(row, source) for row, sources in BAD_TEMPLATES.items() for source in sources]
)
async def test_dangerous_templates_are_refused_when_they_are_saved(pool: RenderPool, row: str, source: str) -> None:
    for name in ("text", "html"):
        (first, *_) = await refusals(pool, **{name: source})
        assert (first.field, first.code) == (name, "invalid_template")
        assert first.message.startswith("line 1: ")
    (answer,) = await pool.render({"text": source}, source, ["{}"])
    assert isinstance(answer, str), "the child would have rendered it"


@pytest.mark.parametrize("source", ["{{ config }}", "{{ request }}", "{{ settings.SECRET_KEY }}"])
async def test_t22_nothing_but_the_contact_is_in_reach(pool: RenderPool, source: str) -> None:
    (answer,) = await made(pool, content(subject="S", html=None, text=source), item({"name": "x"}))
    assert "is missing" in refused(answer)


async def test_t25_the_context_is_plain_data(pool: RenderPool) -> None:
    for source in ("{{ u.api_key }}", "{{ u.__dict__ }}", "{{ u.keys }}", "{{ u.items }}", "{{ u.clear }}"):
        (answer,) = await pool.render({"text": source}, source, ['{"u": {"name": "x"}}'])
        assert isinstance(answer, str), answer


async def test_t28_values_are_not_templates(pool: RenderPool) -> None:
    (answer,) = await made(pool, content(), item({"name": "{{ 7*7 }}"}))
    assert read(answer)["Subject"] == "Hello {{ 7*7 }}"
    assert "{{ 7*7 }}" in part(read(answer), "text/html")


async def test_t29_and_t30_html_is_escaped_where_it_is_html(pool: RenderPool) -> None:
    (answer,) = await made(pool, content(), item({"name": "<b>x</b>"}))
    found = read(answer)
    assert "&lt;b&gt;x&lt;&#x2f;b&gt;" in part(found, "text/html")
    assert part(found, "text/plain") == "Hello <b>x</b>\r\n"
    assert found["Subject"] == "Hello <b>x</b>"


async def test_t30_text_and_subject_are_literal(pool: RenderPool) -> None:
    (answer,) = await made(pool, content(subject="{{ name }}"), item({"name": "a & b"}))
    assert read(answer)["Subject"] == "a & b"


async def test_t31_a_value_stays_inside_its_attribute(pool: RenderPool) -> None:
    of = content(subject="S", html='<p><img alt="{{ name }}"></p>')
    (answer,) = await made(pool, of, item({"name": '" onload="alert(1)'}))
    assert '<img alt="&quot; onload=&quot;alert(1)">' in part(read(answer), "text/html")
    assert (await refusals(pool, html="<img alt={{ name }}>"))[0].code == "unsafe_html"


@pytest.mark.parametrize("html", ["<style>{{ css }}</style>", "<script>{{ x }}</script>"])
async def test_t33_no_expression_in_script_or_style(pool: RenderPool, html: str) -> None:
    assert "unsafe_html" in [error.code for error in await refusals(pool, html=html)]


UNSAFE_HTML: dict[str, list[str]] = {
    "T34": ["<script>alert(1)</script>"],
    "T35": [
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
    ],
}


@pytest.mark.parametrize(("row", "html"), [(row, html) for row, sources in UNSAFE_HTML.items() for html in sources])
async def test_what_can_run_is_refused_instead_of_silently_removed(pool: RenderPool, row: str, html: str) -> None:
    (first, *_) = await refusals(pool, html=f"<p>\n{html}</p>")
    assert (first.field, first.code) == ("html", "unsafe_html")
    assert first.message.startswith("line 2: ")


async def test_t38_nothing_in_a_template_is_fetched(pool: RenderPool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    of = content(subject="S", html='<img src="http://169.254.169.254/latest/{{ name }}">')
    (answer,) = await made(pool, of, item({"name": "x"}))
    assert "http://169.254.169.254/latest/x" in part(read(answer), "text/html")


async def test_t40_a_line_break_in_a_value_cannot_add_a_header(pool: RenderPool) -> None:
    (answer,) = await made(pool, content(subject="Hi {{ name }}"), item({"name": "x\r\nBcc: v@e"}))
    found = read(answer)
    assert found["Subject"] == "Hi x Bcc: v@e"
    assert "Bcc" not in found


async def test_t41_an_encoded_word_in_a_value_is_refused_for_that_recipient(pool: RenderPool) -> None:
    attack = "=?utf-8?q?=0D=0ABcc:_v=40e.co?="
    (answer, other) = await made(
        pool, content(subject="Hi {{ name }}", html=None), item({"name": attack}), item({"name": "Ada"}, number=2)
    )
    assert "encoded word" in refused(answer)
    assert sent(other)
    assert (await refusals(pool, subject=attack, text="x"))[0].field == "subject"


async def test_t43_an_empty_subject_is_refused(pool: RenderPool) -> None:
    for subject in ("", "   "):
        assert (await refusals(pool, subject=subject, text="x"))[0].field == "subject"
    (answer,) = await made(pool, content(subject="{{ name }}", html=None), item({"name": " "}))
    assert refused(answer) == "the subject is empty"


@pytest.mark.parametrize("bad", ["\0", "\ufffe", "\ud800"])
async def test_t46_what_cannot_be_sent_is_refused(pool: RenderPool, bad: str) -> None:
    for name in ("text", "html", "subject"):
        assert (await refusals(pool, **{"text": "x", name: f"a{bad}"}))[0].field == name
    of = content(subject="S", html=None)
    (answer,) = await made(pool, of, item(json.dumps({"name": f"a{bad}"})))
    assert refused(answer)


async def test_t48_a_display_name_is_quoted_and_the_address_stays(pool: RenderPool) -> None:
    sender, _ = CHANNEL.check_identity(
        identity(from_address='"Bank <security@bank.com>" <x@tenant.example>', from_name="")
    )
    composer = CHANNEL.composer(content(), sender, pool)
    (answer,) = await composer.compose([item({"name": "x"})])
    (address,) = read(answer)["From"].addresses
    assert (address.display_name, address.addr_spec) == ("Bank <security@bank.com>", "x@tenant.example")


async def test_t50_system_headers_cannot_be_overridden(pool: RenderPool) -> None:
    for name in ("List-Unsubscribe", "list-unsubscribe-post", "From", "Bcc", "DKIM-Signature"):
        with pytest.raises(RefusedMany) as refusal:
            CHANNEL.check_identity(identity(headers={name: "<https://evil.example>"}))
        assert refusal.value.code == "system_header"
        with pytest.raises(Refused):
            CHANNEL.composer(content(), identity(headers={name: "x"}), pool)


async def test_t52_a_link_that_a_conditional_removed_comes_back_as_a_footer(pool: RenderPool) -> None:
    of = content(
        subject="S",
        html="<p>{% if false %}{{ unsubscribe_url }}{% endif %}</p>",
        text="{% if false %}{{ unsubscribe_url }}{% endif %}",
    )
    (answer,) = await made(pool, of, item({}, unsubscribe_url=letters.LINK))
    found = read(answer)
    assert f"Unsubscribe: {letters.LINK}" in part(found, "text/plain")
    assert ">Unsubscribe</a>" in part(found, "text/html")


async def test_t57_merge_fields_are_looked_up_literally_or_refused(pool: RenderPool) -> None:
    data = {"a.b": "dotted", "c d": "spaced", "🙂": "smile", "u": {"a.b": 1, "__proto__": 2}}
    (answer,) = await pool.render({"text": "{{ u['a.b'] }}"}, "T57", [json.dumps(data)])
    assert answer == {"text": "1"}
    for source in ("{{ a.b }}", "{{ 🙂 }}", "{{ c d }}", "{{ __proto__ }}", "{{ u.__proto__ }}"):
        (answer,) = await pool.render({"text": source}, source, [json.dumps(data)])
        assert isinstance(answer, str), source


@pytest.mark.parametrize("number", ["1e400", "-0.0", "NaN", "Infinity"])
async def test_t58_numbers_that_are_none_are_refused(pool: RenderPool, number: str) -> None:
    (answer,) = await made(pool, content(html=None), item(f'{{"name": {number}}}'))
    assert "cannot be represented" in refused(answer) or "is not JSON" in refused(answer)


async def test_t60_a_filter_with_the_wrong_kind_of_value_fails_that_recipient(pool: RenderPool) -> None:
    of = content(subject="S", html=None, text="{{ price|round(2) }} item{{ count|pluralize }}")
    good, bad = await made(pool, of, item({"price": 1.234, "count": 2}), item({"price": "abc", "count": 2}, number=2))
    assert part(read(good), "text/plain") == "1.23 items\r\n"
    assert "line 1" in refused(bad)


def test_t61_what_makes_a_text_dearer_is_named_and_counted() -> None:
    wide, plain = "\u201cHello\u201d\u2026 " + "x" * 70, '"Hello"... ' + "x" * 70
    (note,) = SMS.review(texts.content(wide), is_bulk=False)
    assert (note.code, "U+201C U+201D U+2026" in note.detail) == ("ucs2", True)
    size = SMS.measure(wide.encode())
    assert (size.encoding, size.segments, size.odd) == ("UCS-2", 2, "\u201c\u201d\u2026")
    assert (SMS.review(texts.content(plain), is_bulk=False), SMS.measure(plain.encode()).segments) == ([], 1)
