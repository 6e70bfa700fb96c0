from __future__ import annotations

import pytest

from outrider.base.errors import Refused
from outrider.base.settings import load
from outrider.interfaces.api.browsers import refuse_cross_site, session_cookie, session_token
from outrider.interfaces.api.exchange import Exchange

PLAIN = load(public_url="http://localhost:3000")
SECURE = load(public_url="https://mail.example.org")
TOKEN = "t" * 43


def exchange(host: str = "localhost:3000", scheme: str = "http") -> Exchange:
    return Exchange("id", "127.0.0.1", scheme, host, "POST", 0.0)


def test_the_cookie_on_plain_http_is_named_as_in_the_runbook() -> None:
    header = session_cookie(PLAIN, TOKEN, lasts_s=60).to_header(header="")
    assert header.startswith(f"session_id={TOKEN};")
    assert "HttpOnly" in header
    assert "SameSite=lax" in header
    assert "Path=/" in header
    assert "Secure" not in header


def test_the_cookie_on_https_is_bound_to_its_host() -> None:
    header = session_cookie(SECURE, TOKEN, lasts_s=60).to_header(header="")
    assert header.startswith(f"__Host-session_id={TOKEN};")
    assert "Secure" in header
    assert "Domain" not in header


@pytest.mark.parametrize(
    ("cookies", "token"),
    [
        (f"session_id={TOKEN}", TOKEN),
        (f"a=b; session_id={TOKEN}; c=d", TOKEN),
        (f"xsession_id={TOKEN}", ""),
        (f"session_id={TOKEN}; session_id=other", ""),
        ("", ""),
        ("session_id=", ""),
        ("x" * 20_000 + f"; session_id={TOKEN}", ""),
    ],
)
def test_the_token_is_read_from_exactly_one_cookie(cookies: str, token: str) -> None:
    assert session_token(cookies, PLAIN) == token


def test_on_https_the_plain_cookie_means_nothing() -> None:
    assert session_token(f"session_id={TOKEN}", SECURE) == ""
    assert session_token(f"__Host-session_id={TOKEN}", SECURE) == TOKEN


@pytest.mark.parametrize(
    ("fetch_site", "origin", "passes"),
    [
        (None, None, True),
        ("same-origin", None, True),
        ("none", None, True),
        ("same-origin", "https://evil.example", True),
        ("cross-site", None, False),
        ("same-site", None, False),
        ("cross-site", "http://localhost:3000", False),
        ("anything", None, False),
        (None, "http://localhost:3000", True),
        (None, "http://LOCALHOST:3000", True),
        (None, "https://localhost:3000", False),
        (None, "http://localhost:3001", False),
        (None, "http://localhost:3000.evil.example", False),
        (None, "null", False),
        (None, "", False),
    ],
)
def test_another_site_may_not_make_a_browser_change_anything(
    fetch_site: str | None,
    origin: str | None,
    passes: bool,  # noqa: FBT001 - a case
) -> None:
    if passes:
        refuse_cross_site(exchange(), fetch_site, origin, PLAIN)
    else:
        with pytest.raises(Refused) as caught:
            refuse_cross_site(exchange(), fetch_site, origin, PLAIN)
        assert caught.value.http_status == 403


def test_the_host_a_browser_used_is_its_own_origin() -> None:
    refuse_cross_site(exchange("127.0.0.1:3000"), None, "http://127.0.0.1:3000", PLAIN)
    with pytest.raises(Refused):
        refuse_cross_site(exchange("127.0.0.1:3000"), None, "http://192.0.2.1:3000", PLAIN)
