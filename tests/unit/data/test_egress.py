"""The egress guard: what may be dialled, and that nothing is dialled which was not checked."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.base.errors import Refused, Unavailable
from outrider.data.egress import Egress

PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2001:4860:4860::8888"]
FORBIDDEN = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.255.254",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1",
    "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250", "240.0.0.1",
    "255.255.255.255", "::", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:7f00:1",
    "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::1",
    "3fff::1", "5f00::1", "fc00::1", "fd00::1", "fe80::1", "fec0::1", "ff02::1",
    "2606:2800::5efe:127.0.0.1", "2606:2800::200:5efe:a00:1",
]  # fmt: skip
ODD_HOSTS = [
    "127.1", "2130706433", "0177.0.0.1", "017700000001", "0x7f.0.0.1", "0x7f000001", "0", "1.2.3", "127.0.0.1.",
    "①②⑦.⓪.⓪.①", "\uff11\uff12\uff17.0.0.1", "127。0。0。1",
    "[::1]", "[::]", "fe80::1%eth0", "fe80::1%25eth0", "8.8.8.8%1",
    "user@example.com", "example.com:25", "example.com/", "exa mple.com", "example.com\r\nx", "example.com\0",
    "-example.com", "example-.com", "a..b", ".", "", " ", "müller.example", "a" * 64 + ".com", "a." * 130 + "com",
    "example.com\\@127.0.0.1", "example.com.0x", "example.1",
]  # fmt: skip


class Names:
    """A resolver that knows what it was told, and counts."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        self.asked.append((name, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.mark.parametrize("address", PUBLIC)
async def test_public_addresses_may_be_dialled_as_they_are(address: str) -> None:
    names = Names(["10.0.0.1"])
    assert await Egress(resolver=names).resolve(address, 587) == [address]
    assert names.asked == []


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_special_addresses_are_refused_given_directly_and_through_a_name(address: str) -> None:
    for host in (address, "mail.example.org"):
        with pytest.raises(Refused) as caught:
            await Egress(resolver=Names([address])).resolve(host, 587)
        assert (caught.value.code, caught.value.field) == ("target_refused", "host")


@pytest.mark.parametrize("address", FORBIDDEN)
async def test_the_refusal_does_not_tell_what_a_name_resolves_to(address: str) -> None:
    with pytest.raises(Refused) as caught:
        await Egress(resolver=Names([address])).resolve("intranet.example.org", 587)
    assert address not in str(caught.value)
    assert caught.value.data == {}


@pytest.mark.parametrize("host", ODD_HOSTS)
async def test_hosts_that_readers_disagree_about_are_refused_before_any_look_up(host: str) -> None:
    names = Names(["8.8.8.8"])
    with pytest.raises(Refused) as caught:
        await Egress([ip_network("0.0.0.0/0")], names).resolve(host, 25)
    assert caught.value.code == "target_refused"
    assert names.asked == []


@pytest.mark.parametrize("forbidden", ["::1", "127.0.0.1", "10.1.2.3", "fe80::1%eth0", "169.254.169.254"])
@pytest.mark.parametrize("order", [1, -1])
async def test_one_forbidden_address_refuses_the_whole_name(forbidden: str, order: int) -> None:
    with pytest.raises(Refused):
        await Egress(resolver=Names(["8.8.8.8", forbidden][::order])).resolve("mixed.example.org", 25)


async def test_addresses_keep_their_order_lose_their_doubles_and_are_canonical() -> None:
    names = Names(["2606:2800:0000::1", "8.8.8.8", "8.8.8.8", "::ffff:8.8.4.4"])
    assert await Egress(resolver=names).resolve("Mail.Example.org.", 465) == ["2606:2800::1", "8.8.8.8", "8.8.4.4"]
    assert names.asked == [("Mail.Example.org", 465)]


async def test_the_operators_list_admits_its_networks_and_nothing_else() -> None:
    egress = Egress([ip_network("127.0.0.0/8"), ip_network("fd00::/8")], Names(["127.0.0.5", "fd00::5"]))
    assert await egress.resolve("127.0.0.1", 25) == ["127.0.0.1"]
    assert await egress.resolve("::ffff:127.0.0.1", 25) == ["127.0.0.1"]
    assert await egress.resolve("sink", 25) == ["127.0.0.5", "fd00::5"]
    for other in ("10.0.0.1", "::1", "fe80::1", "0.0.0.0"):
        with pytest.raises(Refused):
            await egress.resolve(other, 25)


async def test_an_address_behind_a_gateway_is_judged_by_what_it_embeds() -> None:
    egress = Egress()
    assert await egress.resolve("64:ff9b::808:808", 25) == ["64:ff9b::808:808"]
    with pytest.raises(Refused):
        await egress.resolve("64:ff9b::a9fe:a9fe", 25)


async def test_each_resolving_is_judged_anew_so_that_a_name_that_moves_inside_is_refused() -> None:
    egress = Egress(resolver=Names(["8.8.8.8"], ["127.0.0.1"]))
    assert await egress.resolve("rebinding.example.org", 25) == ["8.8.8.8"]
    with pytest.raises(Refused):
        await egress.resolve("rebinding.example.org", 25)


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), OSError(), TimeoutError(), UnicodeError()])
async def test_a_name_that_does_not_resolve_now_is_unavailable(error: Exception) -> None:
    async def broken(_name: str, _port: int) -> Sequence[str]:
        raise error

    with pytest.raises(Unavailable) as caught:
        await Egress(resolver=broken).resolve("mail.example.org", 25)
    assert caught.value.code == "dns_failed"


async def test_a_name_without_addresses_is_unavailable_and_an_odd_answer_refused() -> None:
    with pytest.raises(Unavailable):
        await Egress(resolver=Names([])).resolve("mail.example.org", 25)
    with pytest.raises(Refused):
        await Egress(resolver=Names(["not an address"])).resolve("mail.example.org", 25)


@given(st.ip_addresses())
def test_nothing_that_python_calls_not_global_may_be_dialled(address: object) -> None:
    ip = ip_address(str(address))
    if not ip.is_global or ip.is_multicast:
        assert not Egress().may_dial(ip)
