"""Whether a sender's domains say in DNS what receivers ask for: DKIM, SPF, DMARC, bounces, links.

Owns the judgement and the remedy of each; asks through `data.names` and changes nothing. A question that nobody could
answer is `unknown`, never a failure of the domain.
Source:  requirements S0-42; RFC 7208, RFC 6376, RFC 7489
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import Final, Literal

import msgspec

from outrider.base.errors import Unavailable
from outrider.data.names import Names
from outrider.domain.senders.records import Domains, Key

Verdict = Literal["ok", "warn", "fail", "unknown"]
WITHIN_S: Final = 20.0
_MOST_SPF_QUESTIONS: Final = 10
_TAG = re.compile(r"\s*([A-Za-z0-9_]+)\s*=\s*([^;]*)")
_ASKING = re.compile(r"[+?~-]?(include|a|mx|ptr|exists)(?=[:/ ]|$)[:]?([^/ ]*)", re.IGNORECASE)
_LONGEST_SHOWN: Final = 300


class Check(msgspec.Struct, frozen=True):
    """What one look found. `found` are the records as they are; `remedy` is empty when there is nothing to do."""

    subject: str
    name: str
    verdict: Verdict
    detail: str
    found: list[str] = []
    remedy: str = ""


async def checked(domains: Domains, names: Names) -> list[Check]:
    """Look at everything a receiver looks at; ends within 20 s.

    Gives:   one check per key, then SPF, DMARC, bounces and each host of links.
    """
    looks = [
        *(_guarded("dkim", key.name, _dkim(key, names)) for key in domains.keys),
        _guarded("spf", domains.bounce_domain, _spf(domains.bounce_domain, names)),
        _guarded("dmarc", f"_dmarc.{domains.from_domain}", _dmarc(domains, names)),
        _guarded("bounces", domains.bounce_domain, _bounces(domains.bounce_domain, names)),
        *(_guarded("links", host, _link_host(host, names)) for host in domains.link_hosts),
    ]
    found = list(await asyncio.gather(*looks))
    if not domains.keys:
        remedy = "give the sender a DKIM key, unless its provider signs for the domain"
        found.insert(0, Check("dkim", domains.from_domain, "warn", "the sender signs with no key", [], remedy))
    return found


def is_good(checks: list[Check]) -> bool:
    """Whether nothing fails; what nobody could say does not count as a failure."""
    return all(each.verdict != "fail" for each in checks)


async def _guarded(subject: str, name: str, look: Awaitable[Check]) -> Check:
    try:
        async with asyncio.timeout(WITHIN_S):
            return await look
    except Unavailable as error:
        return Check(subject, name, "unknown", error.message, [], "look again later, or check the name servers")
    except TimeoutError:
        return Check(subject, name, "unknown", "no answer in time", [], "look again later")


async def _dkim(key: Key, names: Names) -> Check:
    def told(verdict: Verdict, detail: str, remedy: str = "") -> Check:
        return Check("dkim", key.name, verdict, detail, _shown(texts), remedy)

    texts = await names.texts(key.name)
    records = [tags for tags in map(_tags, texts) if "p" in tags]
    remedy = f"set TXT {key.name} to: v=DKIM1; k={key.algorithm}; p={key.public}"
    if not records:
        return told("fail", "there is no DKIM record: signatures cannot be checked", remedy)
    if len(records) > 1:
        return told("fail", "there are several DKIM records: receivers may take any of them", "keep one")
    tags = records[0]
    public = re.sub(r"\s", "", tags["p"])
    if not public:
        return told("fail", "the key is revoked (p= is empty)", remedy)
    if public != key.public or tags.get("k", "rsa") != key.algorithm:
        return told("fail", "the record holds another key than the one the sender signs with", remedy)
    if "y" in tags.get("t", "").split(":"):
        return told("warn", "the key is marked as a test (t=y): receivers may pass over it", "take t=y away")
    return told("ok", f"holds the {key.algorithm} key the sender signs with")


async def _spf(domain: str, names: Names) -> Check:
    def told(verdict: Verdict, detail: str, remedy: str = "") -> Check:
        return Check("spf", domain, verdict, detail, _shown(records), remedy)

    records = _spf_of(await names.texts(domain))
    if not records:
        remedy = f"set TXT {domain} to v=spf1 with the servers your provider names, ending in ~all"
        return told("fail", "there is no SPF record", remedy)
    if len(records) > 1:
        return told("fail", f"there are {len(records)} SPF records: receivers count that as an error", "join them")
    terms = records[0].lower().split()[1:]
    asked = await _spf_questions(records[0], names, {domain})
    if asked > _MOST_SPF_QUESTIONS:
        detail = f"needs more than {_MOST_SPF_QUESTIONS} look-ups: receivers count that as an error"
        return told("fail", detail, "take includes away")
    ending = next((term for term in terms if term.lstrip("+?~-") == "all"), "")
    if ending in {"all", "+all"}:
        return told("fail", "allows every server (+all)", "end in ~all or -all")
    has_redirect = any(term.startswith("redirect=") for term in terms)
    if not has_redirect and ending not in {"~all", "-all"}:
        return told("warn", "does not say what to do with other servers", "end in ~all or -all")
    return told("ok", f"one record, {asked} of at most {_MOST_SPF_QUESTIONS} look-ups")


async def _spf_questions(record: str, names: Names, seen: set[str]) -> int:
    """How many look-ups a receiver needs for a record, those of what it includes counted; stops beyond the limit."""
    count = 0
    for term in record.split()[1:]:
        redirect = term[9:] if term.lower().startswith("redirect=") else ""
        asking = _ASKING.fullmatch(term.partition("/")[0])
        if not asking and not redirect:
            continue
        count += 1
        target = (redirect or (asking[2] if asking and asking[1].lower() == "include" else "")).lower().rstrip(".")
        if target and "%" not in target and target not in seen and len(seen) <= _MOST_SPF_QUESTIONS:
            seen.add(target)
            for inner in _spf_of(await names.texts(target))[:1]:
                count += await _spf_questions(inner, names, seen)
        if count > _MOST_SPF_QUESTIONS:
            break
    return count


async def _dmarc(domains: Domains, names: Names) -> Check:
    place, records = await _policy(domains.from_domain, names)
    shown = _shown(records)

    def told(verdict: Verdict, detail: str, remedy: str = "") -> Check:
        return Check("dmarc", place, verdict, detail, shown, remedy)

    remedy = f"set TXT _dmarc.{domains.from_domain} to: v=DMARC1; p=none; rua=mailto:dmarc@{domains.from_domain}"
    if not records:
        return told("fail", "there is no DMARC record: large receivers refuse bulk mail without one", remedy)
    if len(records) > 1:
        return told("fail", "there are several DMARC records: receivers act as if there were none", "keep one")
    tags = _tags(records[0])
    policy = tags.get("p", "").strip().lower()
    if policy not in {"none", "quarantine", "reject"}:
        return told("fail", "its policy p= is none of none, quarantine, reject", remedy)
    signing = [_is_aligned(domains.from_domain, key.domain, tags.get("adkim", "r")) for key in domains.keys]
    if not any(signing) and not _is_aligned(domains.from_domain, domains.bounce_domain, tags.get("aspf", "r")):
        detail = "neither a signing domain nor the return path's domain fits the From domain: nothing can pass"
        return told("fail", detail, f"sign with a key of {domains.from_domain}, or use a return path there")
    if policy == "none":
        return told("warn", "p=none: failures are only reported", "raise p to quarantine once reports are clean")
    return told("ok", f"p={policy}, and an aligned proof is possible")


async def _policy(domain: str, names: Names) -> tuple[str, list[str]]:
    """The DMARC record in force: the domain's own, else of the nearest domain above it."""
    labels = domain.split(".")
    for at in range(max(1, len(labels) - 1)):
        place = "_dmarc." + ".".join(labels[at:])
        records = [text for text in await names.texts(place) if text.lower().replace(" ", "").startswith("v=dmarc1")]
        if records:
            return place, records
    return f"_dmarc.{domain}", []


async def _bounces(domain: str, names: Names) -> Check:
    hosts = await names.mail_hosts(domain)
    if hosts and all(hosts):
        return Check("bounces", domain, "ok", "takes mail: bounces come back", hosts)
    if hosts or not await names.addresses(domain):
        detail = "takes no mail (null MX): bounces are lost" if hosts else "has no mail server: bounces are lost"
        return Check("bounces", domain, "warn", detail, [], f"set an MX for {domain}, or use another return path")
    return Check("bounces", domain, "ok", "takes mail at its own address")


async def _link_host(host: str, names: Names) -> Check:
    alias = await names.alias(host)
    found = await names.addresses(host)
    shown = [*([f"CNAME {alias}"] if alias else []), *found]
    if not found:
        return Check("links", host, "fail", "has no address: links lead nowhere", shown, f"set CNAME or A of {host}")
    return Check("links", host, "ok", "has an address", shown)


def _spf_of(texts: list[str]) -> list[str]:
    return [text for text in texts if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]


def _tags(text: str) -> dict[str, str]:
    return {found[1].lower(): found[2].strip() for found in _TAG.finditer(text)}


def _shown(texts: list[str]) -> list[str]:
    return [text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…" for text in texts[:5]]


def _is_aligned(from_domain: str, other: str, mode: str) -> bool:
    """Strict: the same; relaxed: one is the other or below it, which is the least that alignment needs."""
    if mode.strip().lower() == "s" or from_domain == other:
        return from_domain == other
    return from_domain.endswith(f".{other}") or other.endswith(f".{from_domain}")
