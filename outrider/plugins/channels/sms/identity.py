"""Who an SMS comes from, checked when a sender is saved.

Owns the refusals of a sender's address, name and opt-out line. Never decides whether a number may be used: the
provider's account does.
"""

from __future__ import annotations

from dataclasses import replace

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Identity
from outrider.data.gsm import size_of
from outrider.plugins.channels.sms.number import is_number, sender_address

_LONGEST_NAME = 100
_LONGEST_LINE = 100
_WAY_OUT = "Reply STOP to opt out"


def check_identity(identity: Identity) -> tuple[Identity, list[str]]:
    """Check and complete an identity; see `contracts.channel.Channel.check_identity`.

    Raises:  RefusedMany naming every field that is wrong, or that means nothing for an SMS.
    """
    errors: list[Refused] = []
    opt_out_line = _WAY_OUT if identity.opt_out_line is None else identity.opt_out_line.strip()
    address = ""
    try:
        address = sender_address(identity.from_address, field="from_address")
    except Refused as error:
        errors.append(error)
    errors += [
        Refused("not_for_channel", "means nothing for an SMS", field=name)
        for name, value in (
            ("reply_to", identity.reply_to),
            ("return_path", identity.return_path),
            ("postal_address", identity.postal_address),
            ("headers", identity.headers),
            ("dkim", identity.dkim),
        )
        if value
    ]
    for name, text, longest in (
        ("from_name", identity.from_name, _LONGEST_NAME),
        ("opt_out_line", opt_out_line, _LONGEST_LINE),
    ):
        if len(text) > longest or not text.isprintable():
            errors.append(Refused("invalid_text", f"must be one printable line of at most {longest}", field=name))
    if errors:
        raise RefusedMany(errors)
    checked = replace(identity, from_address=address, from_name=identity.from_name.strip(), opt_out_line=opt_out_line)
    return checked, _warnings(checked)


def _warnings(identity: Identity) -> list[str]:
    warnings = []
    if not is_number(identity.from_address):
        warnings.append(
            "from_address is a name: nobody can answer STOP, so bulk messages carry a link; some countries refuse names"
        )
    if not identity.opt_out_line:
        warnings.append("opt_out_line is empty: bulk messages say nothing about the way out, which many laws demand")
    elif size_of(identity.opt_out_line).odd:
        warnings.append("opt_out_line has characters that halve what a part holds (UCS-2)")
    return warnings
