"""What a wrong command line is told, in one sentence that names what the person left out or typed.

Owns the wording of the parser's errors; never decides what is wrong.
"""

from __future__ import annotations

from cyclopts import Argument
from cyclopts.exceptions import ConsumeMultipleError, CycloptsError, MissingArgumentError, ValidationError


def told(error: CycloptsError) -> str:
    """The error on one line."""
    if isinstance(error, MissingArgumentError) and not isinstance(error, ConsumeMultipleError) and error.argument:
        return f"outrider {_command(error)}: {_missing(error, error.argument)}"
    text = " ".join(str(error).split())
    if isinstance(error, ValidationError) and error.exception_message:
        # the parser joins its own sentence and the validator's by a full stop; they are one
        return text.replace(f". {error.exception_message}", f": {error.exception_message}")
    return text


def _missing(error: MissingArgumentError, argument: Argument) -> str:
    """An option without its value, or something that was not given at all."""
    typed = error.keyword or next((token.keyword for token in reversed(argument.tokens) if token.keyword), None)
    if typed is not None:
        return f"{typed} requires an argument"
    if argument.field_info.is_positional:
        return f"{argument.name.lstrip('-').upper().replace('-', '_')} is missing"
    return f"{argument.name} is missing"


def _command(error: CycloptsError) -> str:
    return " ".join(error.command_chain or ()).removeprefix("outrider ")
