"""What DNS says about a sender's domains is judged as receivers judge it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outrider.domain.senders.dns_check import Check, checked, is_good
from outrider.domain.senders.records import Domains, Key, public_half, wanted
from tests.kit.names import Table
from tests.kit.office import key_pair

PEM = key_pair("ed25519")
KEY = Key("example.org", "s1", "ed25519", public_half(PEM))
DOMAINS = Domains(
    name="News",
    from_domain="news.example.org",
    bounce_domain="bounce.example.org",
    mail_host="mail.example.org",
    keys=(KEY,),
    link_hosts=("links.example.org",),
    public_host="outrider.example.org",
)


def sound() -> Table:
    return Table(
        texts_of={
            KEY.name: [f"v=DKIM1; k=ed25519; p={KEY.public}"],
            "bounce.example.org": ["unrelated", "v=spf1 a:mail.example.org include:_spf.example.net ~all"],
            "_spf.example.net": ["v=spf1 ip4:192.0.2.0/24 -all"],
            "_dmarc.example.org": ["v=DMARC1; p=reject; rua=mailto:dmarc@example.org"],
        },
        mail_of={"bounce.example.org": ["mx.example.org"]},
        addresses_of={"links.example.org": ["192.0.2.7"]},
    )


def of(checks: list[Check], subject: str) -> Check:
    (found,) = [each for each in checks if each.subject == subject]
    return found


async def test_a_domain_that_says_everything_is_good() -> None:
    found = await checked(DOMAINS, sound())
    assert {each.subject: each.verdict for each in found} == dict.fromkeys(
        ("dkim", "spf", "dmarc", "bounces", "links"), "ok"
    )
    assert is_good(found)
    assert of(found, "dmarc").name == "_dmarc.example.org", "the record of the domain above counts"


@pytest.mark.parametrize(
    ("record", "verdict", "word"),
    [
        (None, "fail", "no DKIM record"),
        (["v=DKIM1; k=ed25519; p="], "fail", "revoked"),
        (["v=DKIM1; k=ed25519; p=AAAA"], "fail", "another key"),
        ([f"v=DKIM1; p={KEY.public}"], "fail", "another key"),
        ([f"v=DKIM1; k=ed25519; t=y; p={KEY.public}"], "warn", "test"),
        ([f"v=DKIM1; k=ed25519; p={KEY.public}"] * 2, "fail", "several"),
        ([f"k=ed25519; p={KEY.public[:9]} {KEY.public[9:]}"], "ok", "holds"),
    ],
)
async def test_a_signing_key_must_be_the_one_in_dns(record: list[str] | None, verdict: str, word: str) -> None:
    table = sound()
    table.texts_of[KEY.name] = record or []
    found = of(await checked(DOMAINS, table), "dkim")
    assert (found.verdict, word in found.detail) == (verdict, True)
    assert bool(found.remedy) == (verdict != "ok")


@pytest.mark.parametrize(
    ("records", "verdict", "word"),
    [
        ([], "fail", "no SPF"),
        (["v=spf1 -all", "v=spf1 mx -all"], "fail", "2 SPF"),
        (["v=spf1 +all"], "fail", "every server"),
        (["v=spf1 all"], "fail", "every server"),
        (["v=spf1 mx"], "warn", "other servers"),
        (["v=spf1 mx ?all"], "warn", "other servers"),
        (["v=spf1 redirect=_spf.example.net"], "ok", "1 of at most 10"),
        (["v=spf1 mx a " + " ".join(f"a:h{n}.example.org" for n in range(9)) + " -all"], "fail", "more than 10"),
        (["v=spf1 include:loop.example.org -all"], "ok", "2 of at most 10"),
        (["v=spf10 mx -all"], "fail", "no SPF"),
    ],
)
async def test_spf_is_counted_and_read_as_receivers_do(records: list[str], verdict: str, word: str) -> None:
    table = sound()
    table.texts_of["bounce.example.org"] = records
    table.texts_of["loop.example.org"] = ["v=spf1 include:loop.example.org -all"]
    found = of(await checked(DOMAINS, table), "spf")
    assert (found.verdict, word in found.detail) == (verdict, True), found


@pytest.mark.parametrize(
    ("records", "verdict", "word"),
    [
        ([], "fail", "no DMARC"),
        (["v=DMARC1; p=none"], "warn", "only reported"),
        (["v=DMARC1; p=maybe"], "fail", "policy"),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], "fail", "several"),
        (["v=DMARC1; p=reject; adkim=s; aspf=s"], "fail", "nothing can pass"),
        (["v=DMARC1; p=quarantine; adkim=s"], "fail", "nothing can pass"),
    ],
)
async def test_dmarc_needs_a_policy_and_a_proof_that_fits(records: list[str], verdict: str, word: str) -> None:
    table = sound()
    table.texts_of["_dmarc.example.org"] = records
    found = of(await checked(DOMAINS, table), "dmarc")
    assert (found.verdict, word in found.detail) == (verdict, True), found


async def test_what_nobody_can_say_is_unknown_and_fails_nothing() -> None:
    table = sound()
    table.broken = {"bounce.example.org", KEY.name}
    found = await checked(DOMAINS, table)
    assert {each.subject for each in found if each.verdict == "unknown"} == {"dkim", "spf", "bounces"}
    assert is_good(found)


async def test_a_sender_without_keys_lost_bounces_and_dead_links_are_said() -> None:
    table = sound()
    table.mail_of = {"bounce.example.org": [""]}
    table.addresses_of = {}
    found = await checked(replace(DOMAINS, keys=()), table)
    assert (of(found, "dkim").verdict, of(found, "bounces").verdict, of(found, "links").verdict) == (
        "warn",
        "warn",
        "fail",
    )


async def test_the_records_to_set_satisfy_the_check() -> None:
    domains = replace(DOMAINS, from_domain="example.org", bounce_domain="example.org")
    table = Table(mail_of={"example.org": ["mx.example.org"]}, addresses_of={"links.example.org": ["192.0.2.7"]})
    for record in wanted(domains):
        if record.type == "TXT":
            table.texts_of[record.name] = [record.value]
    assert [each for each in await checked(domains, table) if each.verdict != "ok"] == []
    assert [(each.name, each.value) for each in wanted(domains) if each.type == "CNAME"] == [
        ("links.example.org", "outrider.example.org")
    ]
