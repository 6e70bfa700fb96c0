"""The DNS records a sender's domains need: what to set, and where.

Owns their names and values; asks nobody whether they are there (dns_check.py does).
Source:  requirements S0-42; RFC 7208 (SPF), RFC 6376 and 8463 (DKIM), RFC 7489 (DMARC)
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.base.web import is_local_host
from outrider.data.db import UnitOfWork
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.identity import dkim_purpose
from outrider.domain.senders.rows import SQL


class Record(msgspec.Struct, frozen=True):
    """One record to set. `value` may be one that serves where there is none yet; `purpose` says what it is for."""

    type: str
    name: str
    value: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Key:
    """The public half of a signing key, as its record holds it."""

    domain: str
    selector: str
    algorithm: str
    public: str

    @property
    def name(self) -> str:
        """Where its record stands."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class Domains:
    """What of a sender matters to the name system.

    from_domain    of the From address
    bounce_domain  of the return path: SPF is asked there
    mail_host      the server its connection hands messages to; empty where the provider has none
    link_hosts     hosts of its links, without those of this machine
    """

    name: str
    from_domain: str
    bounce_domain: str
    mail_host: str
    keys: tuple[Key, ...]
    link_hosts: tuple[str, ...]
    public_host: str
    returns_to: str = ""
    """Where messages come back that have an address of their own; empty: they have none."""


async def domains_of(uow: UnitOfWork, vault: Vault, settings: Settings, sender_id: UUID) -> Domains:
    """Read what matters of a sender; its private keys are opened for their public halves and forgotten.

    Raises:  Refused(not_found; no_domains, 409) for a channel without domains; Misconfigured when another key sealed.
    """
    row = await SQL.sender_domains.one(uow.raw, uow.tenant, sender_id)
    if row is None:
        raise Refused("not_found", "no such sender", field="/id", status=404)
    if "@" not in row["from_address"]:
        raise Refused("no_domains", f"senders of channel {row['channel']} have no domains", field="/id", status=409)
    public = row["public_url"] or settings.public_url
    hosts = [urlsplit(url).hostname or "" for url in (public, row["tracking_url"] or public)]
    host = orjson.loads(row["settings"]).get("host")
    from_domain = row["from_address"].rpartition("@")[2]
    return Domains(
        name=row["name"],
        from_domain=from_domain,
        bounce_domain=row["return_path"].rpartition("@")[2] or from_domain,
        mail_host=host if isinstance(host, str) else "",
        keys=_keys(row, vault, uow.tenant, sender_id),
        link_hosts=tuple(dict.fromkeys(each for each in hosts if each and not is_local_host(each))),
        public_host=urlsplit(settings.public_url).hostname or "",
        returns_to=(urlsplit(settings.public_url).hostname or "") if row["return_path"].startswith("*@") else "",
    )


def wanted(domains: Domains) -> list[Record]:
    """The records to set, most important first.

    SPF and DMARC are suggestions for a domain that has none yet: what is there already must be joined, not doubled.
    """
    found = [
        Record("TXT", key.name, _dkim_value(key), "DKIM: proves that the message is unchanged and the domain's own")
        for key in domains.keys
    ]
    servers = f"a:{domains.mail_host}" if _is_name(domains.mail_host) else "mx"
    found.append(
        Record(
            "TXT",
            domains.bounce_domain,
            f"v=spf1 {servers} ~all",
            "SPF: which servers may send for it; add what your provider names, one such record only",
        )
    )
    if domains.returns_to and _is_name(domains.returns_to):
        found.append(
            Record(
                "MX",
                domains.bounce_domain,
                f"10 {domains.returns_to}",
                "returns: what cannot be delivered comes back to where `outrider returns` listens, on port 25",
            )
        )
    reports = f"rua=mailto:dmarc@{domains.from_domain}"
    found.append(
        Record(
            "TXT",
            f"_dmarc.{domains.from_domain}",
            f"v=DMARC1; p=quarantine; {reports}",
            "DMARC: what receivers do with mail that is not proven; begin with p=none to look first",
        )
    )
    found += [
        Record("CNAME", host, domains.public_host, "links: leads to where this installation is reached")
        for host in domains.link_hosts
        if host != domains.public_host and not is_local_host(domains.public_host)
    ]
    return found


def _dkim_value(key: Key) -> str:
    return f"v=DKIM1; k={key.algorithm}; p={key.public}"


def _is_name(host: str) -> bool:
    return bool(host) and not is_local_host(host) and not host.replace(".", "").isdigit() and ":" not in host


def _keys(row: Any, vault: Vault, tenant_id: UUID, sender_id: UUID) -> tuple[Key, ...]:
    if not row["sealed_dkim"]:
        return ()
    text = vault.keyring.unseal(row["sealed_dkim"], tenant_id=tenant_id, purpose=dkim_purpose(sender_id))
    named = orjson.loads(row["dkim"])
    return tuple(
        Key(each["domain"], each["selector"], each["algorithm"], public_half(pem))
        for each, pem in zip(named, orjson.loads(text), strict=True)
    )


def public_half(private_key_pem: str) -> str:
    """The `p=` of a key's record: base64 of SubjectPublicKeyInfo (RSA) or of the bare 32 bytes (Ed25519)."""
    public = load_pem_private_key(private_key_pem.encode(), password=None).public_key()
    if isinstance(public, Ed25519PublicKey):
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    else:
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(octets).decode()
