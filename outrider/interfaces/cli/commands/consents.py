"""Consents: record what somebody said, import what another system knows; prove it, and check such a proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data import secret_file
from outrider.data.db import Role
from outrider.domain.contacts import consent, read
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.contacts.imports.options import Options
from outrider.domain.people import proof as proofs
from outrider.domain.people.proof_page import as_page, document_of, is_page
from outrider.interfaces.cli import copying, exits, importing, named
from outrider.interfaces.cli.addressed import AnyChannel, channel_of
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, text_of
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import changing, looking, note, wired

APP = App(name="consents")

Who = Annotated[str, Parameter(help="An address in any form, or the contact's id.")]


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

    Example: `outrider consents import consents.csv --source "listmonk, list 3" --purpose marketing`

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
async def record(
    who: Who,
    status: Literal["granted", "withdrawn"],
    *,
    source: str,
    channel: AnyChannel = None,
    purpose: str = "marketing",
    text_shown: str | None = None,
    form_version: str | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Record what somebody said about a channel and purpose: on the telephone, on paper, in a letter.

    Example: `outrider consents record ann@example.org withdrawn --source "telephone, 4 May"`

    Parameters
    ----------
    status
        What they said.
    source
        Where this is known from, such as "telephone, 4 May"; kept as proof.
    purpose
        What the consent is for.
    text_shown
        What they were shown or read and agreed to; a grant after a withdrawal needs it.
    form_version
        The version of the form on which it stood.
    """
    about = channel_of(who, channel)
    async with changing(options) as work:
        contact = await named.contact(work.uow, who, about)
        said = ConsentStatement(about, purpose, status, source, None, text_shown, form_version)
        is_new = await consent.set_consent(work.uow, channels(), work.actor, contact.id, said)
    text = f"{about} {purpose} is {status}{'' if is_new else ', as before'}; it stands in the proof"
    data = {"contact_id": str(contact.id), **msgspec.to_builtins(said), "is_changed": is_new}
    return Answer(data, note(text, dry_run=options.dry_run))


@APP.command
async def history(who: Who, *, channel: AnyChannel = None, options: Common = COMMON) -> Answer:
    """Show everything that somebody ever said about consent, oldest first.

    Example: `outrider consents history ann@example.org`
    """
    async with looking(options) as work:
        contact = await named.contact(work.uow, who, channel)
        found = await read.consent_history(work.uow, contact.id)
    rows = [msgspec.to_builtins(each) for each in found]
    columns = ("at", "channel", "purpose", "status", "source", "ip", "form_version", "text_shown")
    return Answer(rows, table(rows, columns, empty="nothing was ever said"))


@APP.command
async def prove(
    who: Who,
    *,
    channel: str = "email",
    purpose: str = "marketing",
    as_text: Annotated[bool, Parameter(name="--text", negative="")] = False,
    as_html: Annotated[bool, Parameter(name="--html", negative="")] = False,
    to: Path | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Prove what somebody said about a channel and purpose: every entry, chained, audited and signed.

    Example: `outrider consents prove ann@example.org --purpose news --html --to ann.html`

    Parameters
    ----------
    channel
        About which channel; an address is looked for there as well.
    purpose
        For which purpose.
    as_text
        In words, to be read and printed; only the JSON document can be checked.
    as_html
        As a page to be read, printed and kept, which holds the JSON document as well and can be checked like it.
    to
        Write it to this file (mode 0600) instead; it must not exist yet.
    """
    if as_text and as_html:
        raise Refused("invalid_choice", "give --text or --html, not both", field="--html")
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
    document = msgspec.json.format(msgspec.json.encode(made)).decode() + "\n"
    if as_text or as_html:
        document = as_page(made) if as_html else proofs.as_text(made)
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

    Example: `outrider consents verify ann.html`

    Parameters
    ----------
    file
        The JSON document, or the page that holds it.
    key
        A public key that is believed, as `outrider consents key` prints it there; several times.
    with_ledger
        Ask the database as well: whether ledger and audit log say the same today.
    """
    text = text_of(file, "file")
    proof = document_of(text) if is_page(text) else proofs.decode(text)
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
    lines.insert(
        0, f"{'sound' if found.is_sound else 'CHANGED'}; signed with {found.public_key}\ndigest {found.digest}"
    )
    return Answer(found, "\n".join(lines), exits.OK if is_good else exits.CHECK_FAILED)


@APP.command
async def key(*, options: Common = COMMON) -> Answer:
    """Print the public key with which this installation's proofs are checked; give it to whoever is to check them.

    Example: `outrider consents key`
    """
    async with wired(options) as (runtime, _):
        public = proofs.signer_of(runtime.keyring).public_key
    return Answer({"public_key": public}, public)
