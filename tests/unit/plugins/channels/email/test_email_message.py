"""The bytes of a message: what was written arrives, once, for one person, the same every time."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.contracts.channel import Attachment, Composer, Item
from outrider.contracts.provider import Outgoing
from outrider.data.slots import escape
from tests.kit import letters
from tests.kit.letters import LINK, composer, content, identity, item, part, read, refused, sent
from tests.kit.rendering import InProcessRenderer

VALUE = st.text(
    alphabet=st.one_of(
        st.sampled_from(list("ab <>&\"'/=.é界🙂\r\n\t-")), st.characters(exclude_categories=["Cs", "Cc"])
    ),
    max_size=120,
).filter(lambda text: "\ufffe" not in text and "\uffff" not in text)
HTML = "<html><body>\n<h1>{{ name }}</h1>\n<p title=\"{{ a.b|default('x') }}\">Grüße</p></body></html>"


async def one(of: Any = None, who: Item | None = None, sender: Any = None, *, is_compiled: bool = True) -> Outgoing:
    made = await composer(of or content(), sender or identity(), InProcessRenderer(), is_compiled=is_compiled)
    (answer,) = await made.compose([who or item({"name": "Ada"})])
    return sent(answer)


async def failing(of: Any, who: Item, *, is_compiled: bool = True) -> str:
    made = await composer(of, identity(), InProcessRenderer(), is_compiled=is_compiled)
    (answer,) = await made.compose([who])
    assert answer.id == who.id
    return refused(answer)


BOTH = pytest.mark.parametrize("is_compiled", [True, False], ids=["slots", "engine"])


@BOTH
async def test_a_transactional_message_has_exactly_these_headers(*, is_compiled: bool) -> None:
    sender = identity(reply_to="help@tenant.example", return_path="bounce@tenant.example", headers={"X-Team": "a"})
    made = await one(who=item({"name": "Ada"}), sender=sender, is_compiled=is_compiled)
    found = read(made)
    assert dict(found.items()) == {
        "From": "Tenant News <news@tenant.example>",
        "To": "ada@example.org",
        "Reply-To": "help@tenant.example",
        "Subject": "Hello Ada",
        "Date": "Fri, 02 Jan 2026 03:04:05 +0000",
        "Message-ID": f"<{made.id}@tenant.example>",
        "MIME-Version": "1.0",
        "X-Outrider-Message": str(made.id),
        "X-Team": "a",
        "Content-Type": f'multipart/alternative; boundary="=_a_{made.id}"',
    }
    assert [each.get_content_type() for each in found.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert part(found, "text/plain") == "Hello Ada\r\n"
    assert (made.address, made.envelope_from, made.idempotency_key) == (
        "ada@example.org",
        "bounce@tenant.example",
        str(made.id),
    )
    assert not made.is_8bit
    assert not made.needs_smtputf8


async def test_a_message_comes_back_to_its_own_address_where_it_has_one() -> None:
    sender = identity(return_path="*@bounces.tenant.example")
    who = item({"name": "Ada"})
    who.return_address = "abc@bounces.tenant.example"
    assert (await one(who=who, sender=sender)).envelope_from == "abc@bounces.tenant.example"
    assert (await one(sender=sender)).envelope_from == "news@tenant.example", "shown without having been accepted"


@BOTH
async def test_a_bulk_message_can_be_unsubscribed_by_header_and_in_each_part(*, is_compiled: bool) -> None:
    made = await one(
        who=item({"name": "Ada"}, unsubscribe_url=LINK),
        sender=identity(postal_address="1 St\n<Town>"),
        is_compiled=is_compiled,
    )
    found = read(made)
    assert found["List-Unsubscribe"] == f"<{LINK}>"
    assert found["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert part(found, "text/plain") == f"Hello Ada\r\n\r\n--\r\nUnsubscribe: {LINK}\r\n1 St\r\n<Town>\r\n"
    html = part(found, "text/html")
    assert LINK.replace("/", "&#x2f;").replace("&c", "&amp;c") in html
    assert "1 St<br>&lt;Town&gt;" in html
    assert html.index("Unsubscribe") < html.index("</body>")


@BOTH
async def test_a_footer_is_added_only_where_the_link_is_missing(*, is_compiled: bool) -> None:
    own = "<p><a href='{{ unsubscribe_url }}'>leave</a></p>"
    of = content(subject="S", html=own, text="Leave: {{ unsubscribe_url }}")
    made = read(await one(of, item(unsubscribe_url=LINK), is_compiled=is_compiled))
    assert part(made, "text/plain") == f"Leave: {LINK}\r\n"
    assert "Unsubscribe" not in part(made, "text/html")
    hidden = content(subject="S", html="<body><!-- {{ unsubscribe_url }} --></body>", text=None)
    shown = part(read(await one(hidden, item(unsubscribe_url=LINK), is_compiled=is_compiled)), "text/html")
    assert ">Unsubscribe</a></div></body>" in shown


async def test_a_link_that_a_condition_removed_is_added_as_a_footer() -> None:
    of = content(
        subject="S", html="<p>{% if keep %}<a href='{{ unsubscribe_url }}'>leave</a>{% endif %}</p>", text=None
    )
    made = await composer(of, identity(), InProcessRenderer())
    without, with_link = await made.compose(
        [item({"keep": keep}, number=keep, unsubscribe_url=LINK) for keep in (False, True)]
    )
    assert "Unsubscribe</a>" in part(read(without), "text/html")
    assert "Unsubscribe</a>" not in part(read(with_link), "text/html")


@BOTH
async def test_the_system_value_of_the_link_wins_in_bulk_only(*, is_compiled: bool) -> None:
    of = content(subject="S", html=None, text="[{{ unsubscribe_url }}]")
    theirs = {"unsubscribe_url": "https://evil.example"}
    assert (
        part(read(await one(of, item(theirs, unsubscribe_url=LINK), is_compiled=is_compiled)), "text/plain")
        == f"[{LINK}]\r\n"
    )
    assert (
        part(read(await one(of, item(theirs), is_compiled=is_compiled)), "text/plain") == "[https://evil.example]\r\n"
    )
    assert part(read(await one(of, item(), is_compiled=is_compiled)), "text/plain") == "[]\r\n"


@pytest.fixture(scope="session")
async def two_ways() -> tuple[Composer, Composer]:
    """One content made from slots and by the engine."""
    of = content(subject="N {{ name }}", html=HTML, text="Dear {{ name }},\n{{ a.b|default('y') }}")
    slots = await composer(of, identity(), InProcessRenderer())
    return slots, await composer(of, identity(), InProcessRenderer(), is_compiled=False)


@settings(max_examples=250, deadline=None)
@given(values=st.lists(VALUE, min_size=1, max_size=4), is_bulk=st.booleans())
async def test_parsing_the_bytes_gives_what_was_put_in(
    two_ways: tuple[Composer, Composer], values: list[str], *, is_bulk: bool
) -> None:
    items = [
        item({"name": value, "a": {"b": value[::-1]}}, number=at, unsubscribe_url=LINK if is_bulk else "")
        for at, value in enumerate(values)
    ]
    fast, slow = [await way.compose(items) for way in two_ways]
    for value, one_way, other_way in zip(values, fast, slow, strict=True):
        if not isinstance(one_way, Outgoing):
            assert one_way == other_way
            continue
        found, other = read(one_way), read(other_way)
        assert found.items() == other.items()
        for kind in ("text/html", "text/plain"):
            assert part(found, kind) == part(other, kind)
        expected = "\r\n".join(re.split("\r\n|\r|\n", f"Dear {value},\n{value[::-1]}"))
        assert part(found, "text/plain").startswith(expected)
        assert escape(value[:1]) in part(found, "text/html") or value[:1] in "\r\n"
        assert found["To"] == "ada@example.org"
        assert "Bcc" not in found


@BOTH
async def test_rendering_twice_gives_the_same_bytes(*, is_compiled: bool) -> None:
    of = content(subject="Grüße {{ name }}", html=HTML, text="Zum Beispiel {{ name }}")
    items = [item({"name": f"Zoë {number}", "a": {}}, number=number, unsubscribe_url=LINK) for number in range(20)]
    first = await (await composer(of, identity(), InProcessRenderer(), is_compiled=is_compiled)).compose(items)
    again = await composer(of, identity(), InProcessRenderer(), is_compiled=is_compiled)
    shuffled = random.Random(1).sample(items, len(items))  # noqa: S311  an order, not a secret
    second = {made.id: made for made in await again.compose(shuffled)}
    assert [sent(made).body for made in first] == [sent(second[made.id]).body for made in first]


@pytest.mark.parametrize(
    ("value", "encoding"),
    [
        ("Ada", "7bit"),
        ("Zoë", "quoted-printable"),
        ("x" * 1200, "quoted-printable"),
        ("two\nlines", "7bit"),
        ("a" * 500 + "\n" + "b" * 600, "7bit"),
    ],
)
async def test_ascii_costs_nothing_and_the_rest_is_encoded(value: str, encoding: str) -> None:
    of = content(subject="S", html=None, text="Line one {{ name }} and more\n" * 3)
    found = read(await one(of, item({"name": value})))
    assert found["Content-Transfer-Encoding"] == encoding
    expected = (f"Line one {value} and more\n" * 3).replace("\n", "\r\n")
    assert part(found, "text/plain") == expected


async def test_text_in_other_alphabets_is_sent_as_base64() -> None:
    found = read(await one(content(html=None, text="Здравствуйте, {{ name }}"), item({"name": "Аня"})))
    assert found["Content-Transfer-Encoding"] == "base64"
    assert part(found, "text/plain") == "Здравствуйте, Аня\r\n"


@BOTH
@pytest.mark.parametrize(
    ("subject", "value", "shown"),
    [
        ("Hi {{ name }}", "x\r\nBcc: v@e", "Hi x Bcc: v@e"),
        ("Hi {{ name }}", "<b>x</b>", "Hi <b>x</b>"),
        ("{{ name }}{{ name }}", "=?", "=?=?"),
        ("Grüße {{ name }}", "界" * 100, "Grüße " + "界" * 100),
    ],
)
async def test_a_subject_is_one_literal_line(subject: str, value: str, shown: str, *, is_compiled: bool) -> None:
    made = await one(content(subject=subject), item({"name": value}), is_compiled=is_compiled)
    found = read(made)
    assert found["Subject"] == shown
    assert "Bcc" not in found


@BOTH
@pytest.mark.parametrize(
    ("of", "variables", "reason"),
    [
        (content(), "{}", "variable 'name' is missing"),
        (content(), '{"name": null}', "variable 'name' is missing"),
        (content(), '{"name": NaN}', "NaN is not JSON"),
        (content(), "[]", "not a JSON object"),
        (content(), '{"name": "=?utf-8?q?=0D=0ABcc:_v=40e.co?="}', "encoded word"),
        (content(), '{"name": "a\\u0000b"}', "NUL"),
        (content(subject="S"), '{"name": "a\\uffffb"}', "U+FFFE"),
        (content(subject="{{ name }}"), '{"name": " \\r\\n "}', "the subject is empty"),
        (
            content(subject="S", html="<a href='{{ name }}'>x</a>"),
            '{"name": "javascript:alert(1)"}',
            "scheme 'javascript'",
        ),
        (content(subject="S", html="<a href='{{ name }}'>x</a>"), '{"name": " data:x\\n"}', "scheme 'data'"),
    ],
    ids=[
        "missing",
        "null",
        "nan",
        "array",
        "encoded word",
        "nul",
        "noncharacter",
        "empty subject",
        "url",
        "url on two lines",
    ],
)
async def test_a_recipient_whose_message_cannot_be_made_is_named(
    of: Any, variables: str, reason: str, *, is_compiled: bool
) -> None:
    assert reason in await failing(of, item(variables), is_compiled=is_compiled)


async def test_one_bad_recipient_does_not_concern_the_others() -> None:
    made = await composer(content(), identity(), InProcessRenderer())
    answers = await made.compose([item({"name": "a"}, number=1), item({}, number=2), item({"name": 1.5}, number=3)])
    assert [isinstance(answer, Outgoing) for answer in answers] == [True, False, True]
    assert [answer.id.int & 3 for answer in answers] == [1, 2, 3]
    assert read(answers[2])["Subject"] == "Hello 1.5"


@pytest.mark.parametrize("address", ["a@b.de\r\nBcc: x@y.de", "a b@c.de", "<a@b.de>", "a@b.de,c@d.de", "a", ""])
async def test_an_address_that_is_not_in_its_stored_form_never_reaches_a_header(address: str) -> None:
    assert "stored form" in await failing(content(), item({"name": "x"}, address=address))


@pytest.mark.parametrize(
    "link", ["javascript:x", "https://a.b/>\r\nBcc: x@y.de", "https://a b", 'https://a"b', "https://ä.de/"]
)
async def test_a_link_that_could_break_a_header_never_reaches_one(link: str) -> None:
    assert "unsubscribe link" in await failing(content(), item({"name": "x"}, unsubscribe_url=link))


async def test_an_international_address_says_what_it_needs() -> None:
    made = await one(who=item({"name": "x"}, address="用户@xn--fsqu00a.xn--4rr70v"))
    assert made.needs_smtputf8
    assert made.is_8bit
    assert "To: 用户@xn--fsqu00a.xn--4rr70v\r\n".encode() in made.body


@pytest.mark.parametrize(
    "name", ['Bank <security@bank.com>" <x@evil.example>', "Ünïcode & Söhne", "a, b; c", "=?x", 'q"u\\o', "", "x" * 150]
)
async def test_a_display_name_stays_a_name(name: str) -> None:
    found = read(await one(sender=identity(from_name=name)))
    (address,) = found["From"].addresses
    assert address.addr_spec == "news@tenant.example"
    assert address.display_name.replace(" ", "") == name.replace(" ", "")  # some parsers keep the space between words


async def test_attachments_travel_with_every_message() -> None:
    files = (
        Attachment("Bericht März.pdf", "application/pdf", bytes(range(256)) * 40),
        Attachment("a.txt", "text/plain", b"x\n"),
    )
    made = await composer(content(attachments=files), identity(), InProcessRenderer())
    for answer in await made.compose(
        [item({"name": "Ada"}, number=1, unsubscribe_url=LINK), item({"name": "Zoë"}, number=2)]
    ):
        found = read(answer)
        kinds = [each.get_content_type() for each in found.walk()]
        assert kinds == [
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "application/pdf",
            "text/plain",
        ]
        attached = list(found.iter_attachments())
        assert [each.get_filename() for each in attached] == ["Bericht März.pdf", "a.txt"]
        assert [each.get_payload(decode=True) for each in attached] == [file.content for file in files]


@pytest.mark.parametrize(("html", "text", "kind"), [(None, "x", "text/plain"), ("<p>x</p>", None, "text/html")])
async def test_a_single_part_is_not_wrapped(html: str | None, text: str | None, kind: str) -> None:
    found = read(await one(content(subject="S", html=html, text=text)))
    assert found.get_content_type() == kind
    assert not found.is_multipart()


@pytest.mark.parametrize(
    ("html", "begins"),
    [
        ('<html><head><title>t</title></head><body class="a>b"><p>x</p></body></html>', '<body class="a>b"><span'),
        ("<!doctype html><html lang='en'><p>x</p>", "<html lang='en'><span"),
        ("<p>x</p>", "<span"),
    ],
)
@BOTH
async def test_a_preheader_stands_hidden_at_the_beginning(html: str, begins: str, *, is_compiled: bool) -> None:
    of = content(html=html, preheader="5 < 6 & {{ name }}")
    shown = part(read(await one(of, item({"name": "<Ada>"}), is_compiled=is_compiled)), "text/html")
    assert begins in shown
    assert ">5 &lt; 6 &amp; &lt;Ada&gt;</span>" in shown


async def test_no_value_can_end_a_part() -> None:
    probe = sent(await one())
    attack = f"x\r\n--=_a_{probe.id}\r\nContent-Type: text/html\r\n\r\n<b>owned</b>"
    known = item({"name": attack})
    assert known.id == probe.id, "the attacker guessed the id, which nobody can"
    other = item({"name": attack}, number=2)
    found = read(await one(content(subject="S"), other))
    assert [each.get_content_type() for each in found.walk()] == ["multipart/alternative", "text/plain", "text/html"]


async def test_values_that_only_the_engine_can_print_go_to_the_engine() -> None:
    renderer = InProcessRenderer()
    made = await composer(content(), identity(), renderer)
    used = renderer.rendered
    values = [1.5, [1, "a"], {"a": 1}, 10**30, "text", 7, True]
    answers = await made.compose([item({"name": value}, number=at) for at, value in enumerate(values)])
    shown = [read(answer)["Subject"].removeprefix("Hello ") for answer in answers]
    assert shown == ["1.5", "[1, 'a']", "{'a': 1}", str(10**30), "text", "7", "True"]
    assert renderer.rendered - used == 4


def test_the_kit_reads_what_it_should() -> None:
    with pytest.raises(AssertionError):
        letters.assert_is_clean(b"a\nb\r\n")
