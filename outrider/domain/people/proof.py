"""The proof of a consent, as a document that can be handed on: every entry of the ledger, chained, audited and signed.

Owns what stands in it and how it is checked, with the database or without. Making one is an export of personal data:
it is audited, and the document names the audit entry, which in turn names the document's chain.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from outrider.base.documents import DocumentSigner, canonical, chained, is_signed
from outrider.base.errors import Refused
from outrider.base.secret import Keyring
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.audit.rows import SQL as AUDIT
from outrider.domain.contacts import read, values
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.views import AddressView
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.people.rows import SQL
from outrider.domain.tenants.rows import SQL as TENANTS

FORMAT: Final = "outrider consent proof 1"
_PURPOSE: Final = "consent proofs"


class ProofEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the ledger; `hash` covers it and the one before."""

    number: int
    status: str
    at: str
    source: str
    ip: str | None
    text_shown: str | None
    form_version: str | None
    hash: str


class AuditPosition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which entry of the tenant's audit log says that this was exported."""

    seq: int
    hash: str


class ConsentProof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one person said about one channel and purpose. `head` is the hash of the last entry."""

    format: str
    tenant_id: UUID
    tenant: str
    contact_id: UUID
    external_id: str | None
    name: str
    addresses: list[AddressView]
    channel: str
    purpose: str
    status: str
    entries: list[ProofEntry]
    head: str
    exported_at: str
    exported_by: str
    reason: str
    audit: AuditPosition
    public_key: str
    signature: str


class Checked(msgspec.Struct, frozen=True):
    """What a check found. `is_sound`: unchanged since it was signed; `is_ours`: signed with a key that is known.

    digest   the document's, as a page or a copy names it
    """

    is_sound: bool
    is_ours: bool
    public_key: str
    problems: list[str]
    notes: list[str]
    digest: str


def signer_of(keyring: Keyring) -> DocumentSigner:
    """What this installation signs proofs with."""
    return DocumentSigner(keyring.derive(_PURPOSE))


async def export(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    signer: DocumentSigner,
    actor: Actor,
    contact_id: UUID,
    *,
    channel: str,
    purpose: str,
    reason: str = NOT_GIVEN,
) -> ConsentProof:
    """Make the proof of what a contact said about a channel and purpose. Audited.

    Raises:  Refused(unknown_channel, not_found): no such contact, or nothing was ever said.
    """
    channel_of(channels, channel)
    purpose = values.check_purpose(purpose)
    why = clean_reason(reason)
    contact = await read.get(uow, contact_id)
    entries = await _entries(uow, contact_id, channel, purpose)
    if not entries:
        raise Refused("not_found", f"nothing was ever said about {channel} {purpose}", field="/purpose", status=404)
    tenant = await TENANTS.tenant_get.one(uow.raw, uow.tenant)
    position = await append(
        uow, actor, action="consent.export", target=("contact", str(contact_id)), reason=why,
        details={"channel": channel, "purpose": purpose, "entries": len(entries), "head": entries[-1].hash},
    )  # fmt: skip
    proof = ConsentProof(
        format=FORMAT,
        tenant_id=uow.tenant,
        tenant=tenant["name"] if tenant is not None else "",
        contact_id=contact_id,
        external_id=contact.external_id,
        name=contact.name,
        addresses=[each for each in contact.addresses if each.channel == channel],
        channel=channel,
        purpose=purpose,
        status=entries[-1].status,
        entries=entries,
        head=entries[-1].hash,
        exported_at=_moment(position.at),
        exported_by=actor.name,
        reason=why,
        audit=AuditPosition(position.seq, position.hash.hex()),
        public_key=signer.public_key,
        signature="",
    )
    return msgspec.structs.replace(proof, signature=signer.sign(_signed(proof)))


def decode(text: str | bytes) -> ConsentProof:
    """Read a proof.

    Raises:  Refused(invalid_proof) for anything else.
    """
    try:
        return msgspec.json.decode(text, type=ConsentProof)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("invalid_proof", f"is not the proof of a consent: {error}", field="file") from None


def digest_of(proof: ConsentProof) -> str:
    """The SHA-256 of the whole document in its one spelling, in hexadecimal: how a copy or a page names it."""
    return hashlib.sha256(canonical(msgspec.to_builtins(proof))).hexdigest()


def check(proof: ConsentProof, known_keys: frozenset[str] | set[str]) -> Checked:
    """Check a proof by itself, without a database.

    Takes:   known_keys: public keys of installations that are believed.
    """
    problems = []
    if proof.format != FORMAT:
        problems.append(f"the format is {proof.format!r}, not {FORMAT!r}")
    previous = ""
    for number, entry in enumerate(proof.entries, 1):
        previous = _hash(previous, entry)
        if entry.number != number or entry.hash != previous:
            problems.append(f"entry {number} was changed, taken out or put in")
            break
    else:
        if not proof.entries or proof.head != previous or proof.status != proof.entries[-1].status:
            problems.append("the end of the ledger was changed or cut off")
    if not is_signed(_signed(proof), proof.signature, proof.public_key):
        problems.append("the signature does not fit: something was changed after it was signed")
    is_ours = proof.public_key in known_keys
    notes = [] if is_ours else ["the key is not known here: compare it with the one its installation names"]
    return Checked(not problems, is_ours, proof.public_key, problems, notes, digest_of(proof))


async def check_with_ledger(uow: UnitOfWork, proof: ConsentProof, known_keys: frozenset[str] | set[str]) -> Checked:
    """`check`, and whether ledger and audit log say the same today (engine role)."""
    found = check(proof, known_keys)
    problems, notes = list(found.problems), list(found.notes)
    if proof.tenant_id != uow.tenant:
        problems.append("it is another tenant's")
        return msgspec.structs.replace(found, is_sound=False, problems=problems)
    now = await _entries(uow, proof.contact_id, proof.channel, proof.purpose)
    if not now:
        notes.append("the ledger has nothing about this contact any more: it was erased, or merged into another")
    elif [each.hash for each in now[: len(proof.entries)]] != [each.hash for each in proof.entries]:
        since = (uow.tenant, str(proof.contact_id), proof.audit.seq)
        if _stand_among(proof.entries, now) and await SQL.was_merged_into.value(uow.raw, *since):
            more = f"{len(now) - len(proof.entries)} more entries stand there"
            notes.append(f"{more}: another contact was merged into this one; the last: {now[-1].status}")
        else:
            problems.append("the ledger says something else")
    elif len(now) > len(proof.entries):
        notes.append(f"{len(now) - len(proof.entries)} entries were added since; the last: {now[-1].status}")
    rows = await AUDIT.entries_after.many(uow.raw, uow.tenant, proof.audit.seq - 1, 1)
    if not rows or rows[0]["seq"] != proof.audit.seq:
        notes.append("the audit log does not reach back to the export any more")
    elif rows[0]["hash"].hex() != proof.audit.hash or proof.head not in rows[0]["details"]:
        problems.append("the audit log knows of no such export")
    return msgspec.structs.replace(found, is_sound=not problems, problems=problems, notes=notes)


def as_text(proof: ConsentProof) -> str:
    """The proof in words, to be read and printed; the document itself is what can be checked."""
    people = ", ".join(each.address for each in proof.addresses) or "no address any more"
    lines = [
        f"Proof of consent: {proof.channel}, {proof.purpose}",
        "",
        f"Controller   {proof.tenant} ({proof.tenant_id})",
        f"Person       {_one_line(proof.name) or '(no name)'} <{people}>",
        f"Contact      {proof.contact_id}" + (f", {_one_line(proof.external_id)}" if proof.external_id else ""),
        f"Holds now    {proof.status}",
        f"Exported     {proof.exported_at} by {_one_line(proof.exported_by)}: {_one_line(proof.reason)}",
        f"Audit log    entry {proof.audit.seq}, {proof.audit.hash}",
        "",
    ]
    for entry in proof.entries:
        lines.append(f"{entry.number}. {entry.at}  {entry.status}")
        lines.append(f"   known from   {_one_line(entry.source)}")
        lines += [f"   address      {entry.ip}"] if entry.ip else []
        lines += [f"   form         {_one_line(entry.form_version)}"] if entry.form_version else []
        for at, line in enumerate((entry.text_shown or "").splitlines()):
            lines.append(f"   {'' if at else 'text shown':<13}{_one_line(line)}")
        lines += [f"   hash         {entry.hash}", ""]
    lines += [f"Signed (Ed25519) with {proof.public_key}:", proof.signature]
    return "\n".join(lines) + "\n"


async def _entries(uow: UnitOfWork, contact_id: UUID, channel: str, purpose: str) -> list[ProofEntry]:
    entries: list[ProofEntry] = []
    for row in await SQL.consent_ledger.many(uow.raw, uow.tenant, contact_id, channel, purpose):
        entry = ProofEntry(
            len(entries) + 1, row["status"], _moment(row["at"]), row["source"], row["ip"], row["text_shown"],
            row["form_version"], "",
        )  # fmt: skip
        digest = _hash(entries[-1].hash if entries else "", entry)
        entries.append(msgspec.structs.replace(entry, hash=digest))
    return entries


def _hash(previous: str, entry: ProofEntry) -> str:
    facts = msgspec.to_builtins(entry)
    del facts["hash"]
    return chained(previous, facts)


def _stand_among(entries: Sequence[ProofEntry], now: Sequence[ProofEntry]) -> bool:
    """Whether all of some entries stand among others, in their order; each by what it says."""
    rest = iter([_hash("", msgspec.structs.replace(each, number=0)) for each in now])
    return all(_hash("", msgspec.structs.replace(each, number=0)) in rest for each in entries)


def _signed(proof: ConsentProof) -> Any:
    """What the signature covers: everything but itself."""
    facts = msgspec.to_builtins(proof)
    del facts["signature"]
    return facts


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _one_line(text: str | None) -> str:
    return "".join(each if each.isprintable() else "�" for each in text or "")
