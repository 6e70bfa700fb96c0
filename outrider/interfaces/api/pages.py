"""The frame of the API's few pages for people: no script, one style sheet inside, nothing from elsewhere.

Owns their look, a tenant's own on it, their headers and their content security policy; knows no page's text.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from typing import Final

from litestar import MediaType, Response

from outrider.domain.tenants.looks import NIGHT, Look

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #525b67; --ground: #fff; --quiet: #f1f3f6; --line: #767f8b;
  --link: #0b5cad; --act: #1a56c4; --on-act: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9ecef; --faint: #a3adb8; --ground: #14181d; --quiet: #20262d; --line: #8b95a1; --link: #86bff7; }
}
* { box-sizing: border-box; }
body { margin: 0; font: 1.0625rem/1.55 system-ui, sans-serif; background: var(--ground); color: var(--ink); }
main, header, footer { max-width: 34rem; margin: 0 auto; padding: 0 1.25rem; overflow-wrap: anywhere; }
main { padding-top: 3rem; padding-bottom: 3rem; }
header { padding-top: 2rem; font-weight: 600; display: flex; align-items: center; gap: .75rem; }
header + main { padding-top: 1.75rem; }
header img { display: block; max-width: 10rem; max-height: 3.5rem; width: auto; height: auto; }
@media (prefers-color-scheme: dark) {
  header .plate { padding: .35rem; border-radius: .5rem; background: #fff; }
}
footer { padding-bottom: 2.5rem; font-size: .9375rem; color: var(--faint); white-space: pre-line; }
footer::before { content: ""; display: block; border-top: 1px solid var(--line); opacity: .5; margin-bottom: 1.25rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: 0 0 1rem; }
.text { white-space: pre-line; }
a { color: var(--link); display: inline-block; padding: .2rem 0; }
button { font: inherit; font-weight: 600; padding: .75rem 1.25rem; min-height: 3rem; width: 100%;
  margin: .5rem 0 1.5rem; border: 2px solid transparent; border-radius: .5rem; background: var(--act);
  color: var(--on-act); cursor: pointer; }
button:hover { box-shadow: inset 0 0 0 99rem rgb(0 0 0 / .12); }
button.quiet { background: transparent; color: var(--ink); border-color: var(--line); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 3px; }
.note { font-size: .9375rem; color: var(--faint); }
.told { padding: .75rem 1rem; border-left: 4px solid var(--link); background: var(--quiet); font-weight: 600; }
ul { padding: 0; list-style: none; margin: 0; }
.ticked { margin: 0 0 1.25rem; }
.ticked li { padding: .6rem 1rem; margin: 0 0 .4rem; border-radius: .5rem; background: var(--quiet); font-weight: 600; }
pre { margin: 0 0 1rem; padding: .75rem 1rem; border-radius: .5rem; background: var(--quiet); white-space: pre-wrap;
  font-size: .875rem; }
fieldset { border: 0; margin: 0 0 1rem; padding: 0; min-width: 0; }
legend { padding: 0; margin: 0 0 .5rem; font-weight: 600; }
label { display: block; font-weight: 600; margin: 0 0 1.25rem; }
input[type=email], input[type=text] { display: block; width: 100%; min-height: 3rem; margin: .35rem 0 0;
  padding: .5rem .75rem; font: inherit; font-weight: 400; color: var(--ink); background: var(--ground);
  border: 1px solid var(--line); border-radius: .5rem; }
label.tick { display: flex; gap: .75rem; align-items: flex-start; padding: .75rem 1rem; margin: 0 0 .5rem;
  border-radius: .5rem; background: var(--quiet); cursor: pointer; }
label.tick small { display: block; font-size: .9375rem; font-weight: 400; color: var(--faint); white-space: pre-line; }
label.plain { font-weight: 400; }
input[type=checkbox] { flex: none; width: 1.5rem; height: 1.5rem; margin: 0; accent-color: var(--link); }
.aside { position: absolute; left: -200rem; width: 1px; height: 1px; overflow: hidden; }
"""
PLAIN: Final = Look()
"""The look of pages that belong to no tenant."""

_HEADERS: Final = {"Referrer-Policy": "no-referrer", "X-Robots-Tag": "noindex, nofollow", "Cache-Control": "no-store"}


@lru_cache(maxsize=512)
def _style(colour: str, colour_dark: str) -> tuple[str, str]:
    """The style sheet with a tenant's colours, and its hash for the policy."""
    style = STYLE
    if colour:
        style += f":root {{ --act: {colour}; --link: {colour}; }}\n"
        if not colour_dark:  # chosen to be read on white alone
            style += "@media (prefers-color-scheme: dark) { :root { --link: #86bff7; } }\n"
    if colour_dark:
        dark = f"--act: {colour_dark}; --link: {colour_dark}; --on-act: {NIGHT};"
        style += f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    return style, base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def page(
    status: int, title: str, content: str, headers: Mapping[str, str] | None = None, look: Look = PLAIN
) -> Response[str]:
    """One page.

    Takes:   title: plain text; content: HTML, everything that came from outside already escaped; look: a tenant's, or
             that of the installation.
    """
    style, digest = _style(look.colour, look.colour_dark)
    pictures = " img-src data:;" if look.logo else ""
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}';{pictures} form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="robots" content="noindex"><title>{escape(title)}</title><style>{style}</style></head>'
        f"<body>{_header(look)}<main>{content}</main>{_footer(look)}</body></html>\n"
    )
    all_headers = {"Content-Security-Policy": policy, **_HEADERS, **(headers or {})}
    return Response(text, status_code=status, media_type=MediaType.HTML, headers=all_headers)


def notice(status: int, title: str, text: str) -> Response[str]:
    """A page that says one thing, in plain text."""
    return page(status, title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")


def _header(look: Look) -> str:
    if not look.logo:
        return ""
    source = f"data:{look.logo_type};base64,{base64.b64encode(look.logo).decode()}"
    return f'<header><span class="plate"><img alt="" src="{source}"></span><bdi>{escape(look.name)}</bdi></header>'


def _footer(look: Look) -> str:
    return f"<footer>{escape(look.footer)}</footer>" if look.footer else ""
