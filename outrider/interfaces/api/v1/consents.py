"""Proofs of consent: exported as signed documents, and checked."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.people import proof as proofs
from outrider.domain.people.proof_page import POLICY, as_page
from outrider.interfaces.auth import Principal, needs


class ProofIn(msgspec.Struct, forbid_unknown_fields=True):
    """What the proof is about, and why it is made."""

    channel: str = "email"
    purpose: str = "marketing"
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] = NOT_GIVEN


class KeyOut(msgspec.Struct):
    """With which key this installation's proofs are checked (Ed25519, base64)."""

    public_key: str


@post("/contacts/{contact_id:str}/consents/proof", status_code=200, guards=[needs("operator", "contacts:write")])
async def proved(
    contact_id: FromPath[str],
    data: JSONBody[ProofIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> proofs.ConsentProof:
    """Prove what a contact said about a channel and purpose: every entry, chained, audited and signed."""
    return await _made(parse_id(contact_id, "contact_id"), data, principal, runtime)


@post("/contacts/{contact_id:str}/consents/proof.html", status_code=200, guards=[needs("operator", "contacts:write")])
async def proved_as_page(
    contact_id: FromPath[str],
    data: JSONBody[ProofIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Response[str]:
    """Prove it as a page to be read and printed: one file without scripts that holds the signed document as well."""
    made = await _made(parse_id(contact_id, "contact_id"), data, principal, runtime)
    headers = {
        "Content-Disposition": 'attachment; filename="consent.html"',
        "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    }
    return Response(as_page(made), media_type=MediaType.HTML, headers=headers)


@post("/consents/verify", status_code=200, guards=[needs("viewer", "contacts:read")])
async def verified(
    data: JSONBody[proofs.ConsentProof], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> proofs.Checked:
    """Check a proof: its chain, its signature, and whether ledger and audit log say the same today."""
    known = {proofs.signer_of(runtime.keyring).public_key}
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return await proofs.check_with_ledger(uow, data, known)


@get("/consents/key", guards=[needs("viewer", "contacts:read")])
async def key(runtime: NamedDependency[Runtime]) -> KeyOut:
    """Give the public key that proofs of this installation are checked with."""
    return KeyOut(proofs.signer_of(runtime.keyring).public_key)


async def _made(contact_id: UUID, data: ProofIn, principal: Principal, runtime: Runtime) -> proofs.ConsentProof:
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await proofs.export(
            uow, runtime.channels, proofs.signer_of(runtime.keyring), principal.actor, contact_id,
            channel=data.channel, purpose=data.purpose, reason=data.reason,
        )  # fmt: skip


ROUTES = [proved, proved_as_page, verified, key]
