"""Asking before what cannot be taken back or starts sending again.

Owns the question; without a terminal and without `--yes` the answer is no.
"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.interfaces.cli import output

Yes = Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Do it without asking.")]


def confirm(what: str, word: str, *, yes: bool) -> None:
    """Have a person type a word.

    Takes:   what will happen, the word that confirms it, whether `--yes` was given.
    Raises:  Refused(confirmation_needed) where nobody can be asked; Refused(not_confirmed) for any other answer.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise Refused("confirmation_needed", f"{what}; this needs confirmation: give --yes, as stdin is no terminal")
    output.say(f"{what}. Type {word!r} to go on:")
    if sys.stdin.readline().strip() != word:
        raise Refused("not_confirmed", "not confirmed; nothing was changed")
