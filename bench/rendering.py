"""How many emails a second one process makes: slots, rendering children, DKIM; against the standard library.

Run: `python bench/rendering.py [--seconds S]`. Letters have HTML and text, 4 kB, three values and a link. The peer
is `email.message.EmailMessage` with the same letter, measured in the same run; the ratio is what counts.
Figures are of this process's own processor time unless they say "by the clock". Compare ratios, not figures of
different machines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import format_datetime
from uuid import UUID

import minijinja
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from outrider.base.signing import LinkSigner
from outrider.contracts.channel import Content, Dkim, Identity, Item
from outrider.contracts.provider import Outgoing
from outrider.data.render_pool import RenderPool
from outrider.data.slots import escape
from outrider.plugins.channels.email import CHANNEL

BATCH = 500
DATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LINK = "https://mail.tenant.example/u/AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"
ROWS = "".join(f'<tr><td style="color:#333">Line {n} of this letter, with some words.</td></tr>\n' for n in range(36))
HTML = f"""<!doctype html><html><head><title>News</title></head><body>
<h1>Hello {{{{ name }}}}</h1><table>
{ROWS}</table><p>Your code is {{{{ code }}}}, {{{{ city|default("dear reader") }}}}.</p>
<p><a href="{{{{ unsubscribe_url }}}}">Unsubscribe</a></p></body></html>
"""
TEXT = "Hello {{ name }},\n\nyour code is {{ code }}.\n" + "Some more words of the letter.\n" * 12
TEXT += "\nUnsubscribe: {{ unsubscribe_url }}\n"
HEAVY = (
    """<table>{% for row in rows %}<tr{% if loop.first %} class="a"{% endif %}><td>{{ row.name }}</td>
<td>{{ row.note|upper }}</td><td>{{ row.price|round(2) }}</td>{% if row.price > 10 %}<td>*</td>{% endif %}</tr>
{% endfor %}</table>"""
    + "<p>Some words of the letter.</p>\n" * 90
)
IDENTITY = Identity(UUID(int=1), "news@tenant.example", "Tenant News", "help@tenant.example", "", "1 Street, Town")


def items(name: str, count: int = BATCH) -> list[Item]:
    """Recipients."""
    return [
        Item(
            UUID(int=(0x0199 << 112) + (0x7 << 76) + (0x2 << 62) + number),
            f"user{number}@example.org",
            json.dumps({"name": f"{name} {number}", "code": f"C{number}", "city": "Ankara"}),
            DATED_AT,
            LINK,
        )
        for number in range(count)
    ]


async def cost_us(
    work: Callable[[], Awaitable[object]], per_call: int, seconds: float, clock: Callable[[], float] = time.process_time
) -> float:
    """Microseconds for each of `per_call` things, the median of many calls: own processor time, or by another clock."""
    await work()
    took: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(took) < 5:
        began = clock()
        await work()
        took.append(clock() - began)
    return statistics.median(took) / per_call * 1e6


def show(what: str, us: float, ratio: float | None = None) -> None:
    """One line."""
    against = f"   {ratio:6.1f} x the standard library" if ratio else ""
    print(f"{what:58} {us:8.2f} us {1e6 / us:12,.0f}/s{against}", flush=True)


def with_standard_library(item: Item) -> bytes:
    """The same letter made by EmailMessage."""
    variables = json.loads(item.variables or "{}") | {"unsubscribe_url": LINK}
    message = EmailMessage(policy=policy.SMTP)
    message["From"] = "Tenant News <news@tenant.example>"
    message["To"] = item.address
    message["Reply-To"] = "help@tenant.example"
    message["Subject"] = f"News for {variables['name']}"
    message["Date"] = format_datetime(item.dated_at)
    message["Message-ID"] = f"<{item.id}@tenant.example>"
    message["List-Unsubscribe"] = f"<{LINK}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message["X-Outrider-Message"] = str(item.id)
    message.set_content(filled(TEXT, variables))
    message.add_alternative(filled(HTML, {key: escape(value) for key, value in variables.items()}), subtype="html")
    return message.as_bytes()


def filled(source: str, variables: dict[str, str]) -> str:
    """Substitution by str.replace: the peer gets its text for next to nothing."""
    source = source.replace('{{ city|default("dear reader") }}', variables["city"])
    for key in ("name", "code", "unsubscribe_url"):
        source = source.replace(f"{{{{ {key} }}}}", variables[key])
    return source


async def messages(pool: RenderPool, seconds: float) -> None:
    """Whole messages: slots, children, signatures, and the peer."""
    of = Content("letter", "News for {{ name }}", HTML, TEXT)
    compiled = await CHANNEL.compile(of, pool)
    assert compiled is not None
    of = replace(of, compiled=compiled)
    ascii_items, other_items = items("Ada"), items("Zoë")
    composer = CHANNEL.composer(of, IDENTITY, pool)
    made = await composer.compose(ascii_items)
    assert all(isinstance(message, Outgoing) for message in made)
    first = made[0]
    assert isinstance(first, Outgoing)
    print(f"letter: {len(first.body)} bytes; the standard library's has {len(with_standard_library(ascii_items[0]))}")

    async def peer() -> None:
        for item in ascii_items[:50]:
            with_standard_library(item)

    peer_us = await cost_us(peer, 50, seconds)
    show("EmailMessage", peer_us)
    us = await cost_us(lambda: composer.compose(ascii_items), BATCH, seconds)
    show("slots, ASCII (7bit)", us, peer_us / us)
    us = await cost_us(lambda: composer.compose(other_items), BATCH, seconds)
    show("slots, other letters in values (quoted-printable)", us, peer_us / us)
    await footers(pool, seconds)
    engine = CHANNEL.composer(replace(of, compiled=None), IDENTITY, pool)
    us = await cost_us(lambda: engine.compose(ascii_items), BATCH, seconds)
    show("from what the children render, this process", us, peer_us / us)
    us = await cost_us(lambda: engine.compose(ascii_items), BATCH, seconds, time.perf_counter)
    show("  by the clock, children included", us)
    rsa = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    edwards = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    keys = {"RSA 2048": (rsa,), "Ed25519": (edwards,), "both": (rsa, edwards)}
    for name, pems in keys.items():
        signing = replace(IDENTITY, dkim=tuple(Dkim("tenant.example", "s", pem) for pem in pems))
        signer = CHANNEL.composer(of, signing, pool)
        us = await cost_us(lambda signer=signer: signer.compose(ascii_items[:100]), 100, seconds)  # type: ignore[misc]  # bound now
        show(f"slots with DKIM, {name}", us)


async def footers(pool: RenderPool, seconds: float) -> None:
    """What the two links of a footer cost, their signatures included: in turn, so that the machine's mood is shared."""
    way_out = ('<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p>', "Unsubscribe: {{ unsubscribe_url }}\n")
    bare = Content("bare", "News for {{ name }}", HTML.replace(way_out[0], ""), TEXT.replace(way_out[1], ""))
    bare = replace(bare, compiled=await CHANNEL.compile(bare, pool))
    leave, choose = LinkSigner(bytes(32)), LinkSigner(bytes(range(32)))
    takes: dict[str, list[float]] = {"none": [], "the way out": [], "both": []}
    composers = {
        name: CHANNEL.composer(bare, replace(IDENTITY, has_preferences_footer=name == "both"), pool) for name in takes
    }
    plain = items("Ada")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(takes["both"]) < 5:
        for name, composer in composers.items():
            began = time.process_time()
            for item in plain:
                item.unsubscribe_url = item.preferences_url = ""
                if name != "none":
                    item.unsubscribe_url = f"https://mail.tenant.example/u/{leave.sign(item.id, item.id)}"
                if name == "both":
                    item.preferences_url = f"https://mail.tenant.example/p/{choose.sign(item.id, item.id)}"
            await composer.compose(plain)
            takes[name].append((time.process_time() - began) / BATCH * 1e6)
    none, one, both = (statistics.median(takes[name]) for name in takes)
    show("footer, way out and preference centre", both)
    print(f"  the way out costs {one - none:.2f} us of it, the preference centre {both - one:.2f} us", flush=True)


async def renders(pool: RenderPool, seconds: float) -> None:
    """Rendering alone: in this process and in the children, several batches at once."""
    rows = [{"name": f"Row {n}", "note": "some note", "price": n + 0.5} for n in range(20)]
    for name, source, context in (
        ("simple", HTML, items("Ada", 1)[0].variables or ""),
        ("heavy", HEAVY, json.dumps({"rows": rows})),
    ):
        env = minijinja.Environment(templates={"html": source})
        parsed = json.loads(context) | {"unsubscribe_url": LINK}

        async def here(env: minijinja.Environment = env, parsed: dict[str, object] = parsed) -> None:
            for _ in range(50):
                env.render_template("html", **parsed)

        async def there(source: str = source, context: str = context, name: str = name) -> None:
            one = context[:-1] + f', "unsubscribe_url": "{LINK}"}}'
            await asyncio.gather(*(pool.render({"html": source}, name, [one] * BATCH) for _ in range(4)))

        us = await cost_us(here, 50, seconds)
        show(f"render {name}, in process, no parsing", us)
        us = await cost_us(there, 4 * BATCH, seconds, time.perf_counter)
        show(f"render {name}, two children, by the clock", us)


async def bombs(pool: RenderPool) -> None:
    """How long a template takes that ends its child, and what its neighbours notice."""
    doubled = '{% set x = "aaaaaaaaaa" %}' + "{% set x = x ~ x %}" * 36 + "{{ x }}"
    took = []
    for number in range(5):
        began = time.perf_counter()
        (answer,) = await pool.render({"text": doubled}, f"bomb {number}", ["{}"])
        took.append((time.perf_counter() - began) * 1e3)
        assert isinstance(answer, str)
        await asyncio.sleep(0.3)
    print(f"a template that ends its child: answered after {statistics.median(took):.0f} ms (median of 5)")
    began = time.perf_counter()
    await pool.render({"text": doubled}, "bomb", ["{}"] * 3)
    again = time.perf_counter()
    await pool.render({"text": doubled}, "bomb", ["{}"] * 3)
    refused_ms = (time.perf_counter() - again) * 1e3
    print(f"  quarantined after {(again - began) * 1e3:.0f} ms, then refused in {refused_ms:.2f} ms")


async def addresses(seconds: float) -> None:
    """Normalising addresses, as an import does."""

    async def plain() -> None:
        for number in range(1000):
            CHANNEL.normalise(f"Ada.Lovelace+{number}@mail.example.com")

    async def international() -> None:
        for number in range(100):
            CHANNEL.normalise(f"ada{number}@bücher.example")

    show("address, plain", await cost_us(plain, 1000, seconds))
    show("address, international domain", await cost_us(international, 100, seconds))


async def main_async(seconds: float) -> None:
    """All figures."""
    pool = RenderPool(2)
    await pool.start()
    try:
        await messages(pool, seconds)
        await renders(pool, seconds)
        await addresses(seconds)
        await bombs(pool)
    finally:
        await pool.close()


def main() -> None:
    """Read the options and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    uvloop.run(main_async(parser.parse_args().seconds))


if __name__ == "__main__":
    main()
