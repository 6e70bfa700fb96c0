"""The addresses of the public pages: signed, each kind with a key of its own, so that none opens another.

Owns their paths, and the plain HTML of a form for a page elsewhere. A token names a tenant and one thing of it.
"""

from __future__ import annotations

from html import escape
from typing import Final, Literal
from uuid import UUID

from outrider.base.secret import Keyring
from outrider.base.signing import LinkSigner
from outrider.domain.signup.forms import Form

Kind = Literal["form", "confirm", "preferences"]
PATHS: Final[dict[Kind, str]] = {"form": "/s/", "confirm": "/c/", "preferences": "/p/"}
_KEYS: Final[dict[Kind, str]] = {"form": "signup-form", "confirm": "signup-confirm", "preferences": "preferences"}

HONEYPOT = "website"
"""A field that people do not see; what fills it in is none of them."""


class Links:
    """Makes and reads the addresses of one installation."""

    def __init__(self, keyring: Keyring) -> None:
        self._signers = {kind: LinkSigner(keyring.derive(purpose)) for kind, purpose in _KEYS.items()}

    def path(self, kind: Kind, tenant_id: UUID, subject_id: UUID) -> str:
        """The path of a page; what stands before it is the sender's base, or the installation's."""
        return f"{PATHS[kind]}{self._signers[kind].sign(tenant_id, subject_id)}"

    def read(self, kind: Kind, token: str) -> tuple[UUID, UUID] | None:
        """Tenant and subject of a token of this kind that we made, else None."""
        return self._signers[kind].read(token)


def embedded(form: Form, url: str) -> str:
    """A form as plain HTML for a page elsewhere: no script, no style. The form's own page asks for one more press."""
    rows = ['  <label>Email <input type="email" name="address" required autocomplete="email"></label>']
    if form.asks_name:
        rows.append('  <label>Name <input type="text" name="name" autocomplete="name"></label>')
    if len(form.lists) > 1:
        rows += [
            f'  <label><input type="checkbox" name="list" value="{each.list_id}"> {escape(each.title)}</label>'
            for each in form.lists
        ]
    rows += [
        f'  <label><input type="checkbox" name="agree" value="yes" required> {escape(form.consent_text)}</label>',
        f'  <input type="text" name="{HONEYPOT}" value="" hidden tabindex="-1" autocomplete="off" aria-hidden="true">',
        "  <button>Sign up</button>",
    ]
    head = f'<form action="{escape(url)}" method="post" accept-charset="utf-8">'
    return "\n".join([head, *rows, "</form>", ""])
