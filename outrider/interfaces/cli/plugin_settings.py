"""Settings of a plugin from the command line: `--set name=value`, drawn from the plugin's own fields.

Owns reading them; secrets never stand in an argument, where every user of the machine could see them.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence
from typing import Any

from outrider.base.errors import Refused
from outrider.base.fields import Field

_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def read(fields: Sequence[Field], pairs: Sequence[str], secrets: Sequence[str]) -> dict[str, Any]:
    """Settings as the verbs take them.

    Takes:   pairs `name=value`; secrets: names whose value is asked for on a terminal, else read line by line from
             stdin in this order.
    Raises:  Refused naming the setting.
    """
    known = {field.name: field for field in fields}
    found: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise Refused("invalid_setting", f"{pair[:80]!r} is not name=value", field="--set")
        field = known.get(name)
        if field is not None and field.kind == "secret":
            raise Refused("secret_in_argument", f"{name} is a secret: give it with --secret {name}", field="--set")
        found[name] = value if field is None else _typed(field, value)
    for name in secrets:
        found[name] = _secret(name)
    return found


def _typed(field: Field, text: str) -> Any:
    try:
        match field.kind:
            case "integer":
                return int(text)
            case "number":
                return float(text)
            case "boolean" if text.lower() in _TRUE | _FALSE:
                return text.lower() in _TRUE
    except ValueError:
        pass
    return text


def _secret(name: str) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(f"{name}: ")
    line = sys.stdin.readline() if sys.stdin is not None else ""
    if not line.strip("\r\n"):
        raise Refused("required", f"stdin gave no line for {name}", field="--secret")
    return line.rstrip("\r\n")
