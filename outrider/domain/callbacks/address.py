"""The address under which a provider reports: it names tenant and connection, signed, so that nobody can guess one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from outrider.base.secret import Keyring
from outrider.base.signing import LinkSigner

PREFIX = "/cb/"


def signer_of(keyring: Keyring) -> LinkSigner:
    """Makes and reads the tokens in these addresses."""
    return LinkSigner(keyring.derive("callbacks"))


def base_of(settings: Mapping[str, Any], public_url: str) -> str:
    """Under which base a connection's provider reaches this installation: its own setting, else the installation's."""
    return str(settings.get("callback_base") or public_url).rstrip("/")


def callback_url(
    signer: LinkSigner,
    public_url: str,
    provider: str,
    settings: Mapping[str, Any],
    tenant_id: UUID,
    connection_id: UUID,
) -> str:
    """Where the provider of a connection is to report."""
    return f"{base_of(settings, public_url)}{PREFIX}{provider}/{signer.sign(tenant_id, connection_id)}"
