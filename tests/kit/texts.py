"""Contents, senders and recipients of SMS for tests.

API
    content(text), identity(address), item(variables)     with sensible values for everything that a test does not name
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from outrider.contracts.channel import Content, Identity, Item

DATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LINK = "https://mail.tenant.example/u/tok_en-1"
WAY_OUT = "Reply STOP to opt out"


def content(text: str = "Hello {{ name }}", *, is_template: bool = True) -> Content:
    """A text with a version key of its own."""
    return Content(json.dumps([text, is_template]), "", None, text, is_template=is_template)


def identity(address: str = "+14155550100", *, from_name: str = "Tenant", opt_out_line: str = WAY_OUT) -> Identity:
    """A sender."""
    return Identity(UUID(int=7), address, from_name, opt_out_line=opt_out_line)


def item(
    variables: Mapping[str, Any] | None = None, *, address: str = "+14155552671", url: str = "", sender: str = ""
) -> Item:
    """A recipient."""
    text = None if variables is None else json.dumps(variables)
    return Item(UUID(int=0x0199 << 112 | 0x7 << 76 | 0x2 << 62 | 1), address, text, DATED_AT, url, from_address=sender)
