from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from outrider.base.errors import Refused
from outrider.interfaces.api.middleware import buckets as buckets_module
from outrider.interfaces.api.middleware.buckets import Buckets, source_of
from outrider.interfaces.api.middleware.door import refuse_odd, security_headers, shown_path
from outrider.interfaces.api.middleware.proxies import client_of, is_within

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["127.0.0.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["127.0.0.1", "198.51.100.7, 10.0.0.2"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7:5123"], "198.51.100.7"),
        ("fd00::1", ["[2001:db8::7]:443"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["198.51.100.7, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["'; DROP TABLE users"], "10.0.0.1"),
        ("not an address", [], "unknown"),
    ],
)
def test_only_trusted_proxies_say_where_a_request_came_from(peer: str, forwarded: list[str], client: str) -> None:
    assert client_of(peer, forwarded, TRUSTED) == client


@pytest.mark.parametrize(
    ("client_ip", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("unknown", "unknown"),
    ],
)
def test_the_source_of_a_rate_is_an_address_or_the_network_of_one(client_ip: str, source: str) -> None:
    assert source_of(client_ip) == source


def test_without_trusted_proxies_the_header_means_nothing() -> None:
    assert client_of("127.0.0.1", ["198.51.100.7"], []) == "127.0.0.1"


@pytest.mark.parametrize(
    ("address", "inside"),
    [("10.2.3.4", True), ("::ffff:10.2.3.4", True), ("11.0.0.1", False), ("fd00::9", True), ("x", False)],
)
def test_an_address_lies_in_a_network_or_not(address: str, inside: bool) -> None:  # noqa: FBT001 - a case
    assert is_within(address, TRUSTED) is inside


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(buckets_module, "monotonic", made.monotonic)
    return made


def test_a_burst_passes_then_the_rate_holds(clock: Clock) -> None:
    rate = Buckets(2.0, 4.0)
    assert [rate.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]
    clock.now_s += 0.5
    assert rate.take("a") == 0.0
    assert rate.take("a") > 0.0


def test_callers_do_not_share_a_bucket(clock: Clock) -> None:
    rate = Buckets(1.0, 1.0)
    assert (rate.take("a"), rate.take("b")) == (0.0, 0.0)
    assert rate.take("a") > 0.0


def test_a_bucket_never_holds_more_than_its_burst(clock: Clock) -> None:
    rate = Buckets(100.0, 3.0)
    rate.take("a")
    clock.now_s += 1000
    assert [rate.take("a") for _ in range(4)].count(0.0) == 3


def test_the_memory_of_callers_is_bounded(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets_module, "_MOST_CALLERS", 10)
    rate = Buckets(1.0, 1.0)
    for number in range(100):
        rate.take(str(number))
    assert len(rate._by_caller) == 10


def test_the_headers_say_what_is_left(clock: Clock) -> None:
    rate = Buckets(2.0, 4.0)
    rate.take("a")
    assert rate.headers("a") == ((b"ratelimit-policy", b'"default";q=4;w=2'), (b"ratelimit", b'"default";r=3;t=1'))


@pytest.mark.parametrize(
    "path",
    ["//api", "/v1//messages", "/a/../b", "/..", "/a/.", "/./a", "/a\\b", "/a\0", "/a\nb", "/\ufffd", "/" + "a" * 3000],
)
def test_paths_that_could_be_read_in_two_ways_are_not_found(path: str) -> None:
    with pytest.raises(Refused) as caught:
        refuse_odd(path, path.encode(), [])
    assert caught.value.http_status == 404


def test_an_encoded_slash_is_not_found() -> None:
    with pytest.raises(Refused):
        refuse_odd("/api/v1/x/y", b"/api/v1/x%2Fy", [])


@pytest.mark.parametrize("path", ["/", "/api/v1/messages/", "/u/AbC-_=.~", "/..hidden", "/a..b"])
def test_plain_paths_pass(path: str) -> None:
    refuse_odd(path, path.encode(), [(b"host", b"x"), (b"cookie", b"a"), (b"cookie", b"b")])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"authorization", b"a"), (b"authorization", b"b")], 400),
        ([(b"idempotency-key", b"a"), (b"idempotency-key", b"a")], 400),
        ([(b"content-encoding", b"gzip")], 415),
        ([(b"content-encoding", b"GZIP, br")], 415),
    ],
)
def test_headers_that_are_refused(headers: list[tuple[bytes, bytes]], status: int) -> None:
    with pytest.raises(Refused) as caught:
        refuse_odd("/", b"/", headers)
    assert caught.value.http_status == status


def test_a_logged_path_has_no_control_characters_and_no_keys() -> None:
    shown = shown_path("/x\r\n\x1b[31m/or_live_" + "k" * 43 + "/" + "y" * 500)
    assert shown.isascii()
    assert shown.isprintable()
    assert "kkkk" not in shown
    assert len(shown) <= 150


def test_https_adds_strict_transport_security_for_a_year_at_least() -> None:
    plain: Any = dict(security_headers(is_https=False))
    secure: Any = dict(security_headers(is_https=True))
    assert b"strict-transport-security" not in plain
    assert int(secure[b"strict-transport-security"].split(b";")[0].removeprefix(b"max-age=")) >= 31_536_000
