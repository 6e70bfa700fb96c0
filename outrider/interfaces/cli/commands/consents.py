"""Consents: import what another system knows of them; prove what somebody said, and check such a proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.data import secret_file
from outrider.data.db import Role
from outrider.domain.contacts.imports.options import Options
from outrider.domain.people import proof as proofs
from outrider.interfaces.cli import copying, exits, importing, named
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, text_of
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.work import looking, note, wired

APP = App(name="consents")


@APP.command(name="import")
async def import_(
    file: Path,
    *,
    source: str,
    purpose: str = "marketing",
    channel: str = "email",
    status: Literal["granted", "withdrawn"] | None = None,
    map_: Annotated[list[str] | None, Parameter(name="--map")] = None,
    errors: Path | None = None,
    options: Changing | None = None,
) -> Answer:
    """Import another system's consents of contacts that are here. Nobody who withdrew is subscribed again.

    A withdrawal of somebody unknown is kept as a hash on the do-not-contact list. The earlier time holds.

    Parameters
    ----------
    file
        The CSV file: an address, a status, and where known when, source and ip; others are not looked at.
    source
        Where this is known from, such as mailchimp; kept as proof for rows that name none.
    purpose
        What the consent is for.
    channel
        Which channel the addresses belong to.
    status
        What holds for rows that say nothing.
    map_
        header=field, several times: address, status, at, source, ip, ignore.
    errors
        Write every refused row to this CSV file (mode 0600).
    """
    asked = Options(
        kind="consents", channel=channel, consent=status, consent_source=source, purpose=purpose,
        mapping=importing.mapping_of(map_),
    )  # fmt: skip
    return await importing.take(file, asked, options or Changing(), errors=errors)


@APP.command
async def prove(
    who: str,
    *,
    channel: str = "email",
    purpose: str = "marketing",
    as_text: Annotated[bool, Parameter(name="--text", negative="")] = False,
    to: Path | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Prove what somebody said about a channel and purpose: every entry, chained, audited and signed.

    Parameters
    ----------
    who
        An address in any form, or the contact's id.
    channel
        About which channel; an address is looked for there as well.
    purpose
        For which purpose.
    as_text
        In words, to be read and printed; only the JSON document can be checked.
    to
        Write it to this file (mode 0600) instead; it must not exist yet.
    """
    if to is not None:
        copying.check_new(to)
    async with wired(options) as (runtime, work):
        contact = await named.contact(work.uow, who, channel)
        made = await proofs.export(
            work.uow, runtime.channels, proofs.signer_of(runtime.keyring), work.actor, contact.id,
            channel=channel, purpose=purpose, reason=options.reason,
        )  # fmt: skip
    data = {"file": str(to) if to is not None else None, "entries": len(made.entries), "status": made.status}
    text = f"wrote {to or 'the proof'}: {len(made.entries)} entries"
    if options.dry_run:  # nothing is handed out: its entry in the audit log was taken back
        return Answer(data, note(text, dry_run=True))
    document = proofs.as_text(made) if as_text else msgspec.json.format(msgspec.json.encode(made)).decode() + "\n"
    if to is None:
        return Answer(made, document)
    copying.write(document, to)
    return Answer(data, text)


@APP.command
async def verify(
    file: Path,
    *,
    key: Annotated[list[str] | None, Parameter(negative="")] = None,
    with_ledger: Annotated[bool, Parameter(name="--ledger", negative="")] = False,
    options: Common = COMMON,
) -> Answer:
    """Check a proof: whether anything was changed, and whether its key is this installation's or one that is given.

    Works without a database; exit code 1 when something was changed or the key is not known.

    Parameters
    ----------
    file
        The JSON document.
    key
        A public key that is believed, as `outrider consents key` prints it there; several times.
    with_ledger
        Ask the database as well: whether ledger and audit log say the same today.
    """
    proof = proofs.decode(text_of(file, "file"))
    keyring = secret_file.load(doors().settings())
    own = {proofs.signer_of(keyring).public_key} if keyring is not None else set()
    known = {*own, *(key or ())}
    if with_ledger:
        async with looking(options, role=Role.ENGINE) as work:
            found = await proofs.check_with_ledger(work.uow, proof, known)
    else:
        found = proofs.check(proof, known)
    lines = [*found.problems, *found.notes]
    is_good = found.is_sound and found.is_ours
    lines.insert(0, f"{'sound' if found.is_sound else 'CHANGED'}; signed with {found.public_key}")
    return Answer(found, "\n".join(lines), exits.OK if is_good else exits.CHECK_FAILED)


@APP.command
async def key(*, options: Common = COMMON) -> Answer:
    """Print the public key with which this installation's proofs are checked; give it to whoever is to check them."""
    async with wired(options) as (runtime, _):
        public = proofs.signer_of(runtime.keyring).public_key
    return Answer({"public_key": public}, public)
