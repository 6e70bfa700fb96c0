"""Options of the sandbox that cannot work are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox import SandboxOptions

LEDGER = Path("ledger.jsonl")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": "mail.example"}, "host"),
        ({"smtp_port": 70_000}, "smtp_port"),
        ({"http_port": -1}, "http_port"),
        ({"max_connections": 0}, "max_connections"),
        ({"max_message_bytes": 10}, "max_message_bytes"),
        ({"idle_timeout_s": 0}, "idle_timeout_s"),
        ({"is_auth_required": True}, "credentials"),
        ({"is_auth_required": True, "credentials": {}}, "credentials"),
        ({"certificate_path": Path("own.crt")}, "private_key_path"),
        ({"is_tls_required": True, "is_starttls_offered": False}, "is_tls_required"),
        ({"hostname": "two words"}, "hostname"),
        ({"hostname": ""}, "hostname"),
        ({"fsync": "sometimes"}, "fsync"),
    ],
)
def test_an_option_that_cannot_work_is_named(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        SandboxOptions(ledger_path=LEDGER, **changes).check()
    assert caught.value.field == field


def test_the_defaults_work_and_passwords_are_not_shown() -> None:
    options = SandboxOptions(ledger_path=LEDGER, credentials={"ana": "s3cret"})
    options.check()
    assert "s3cret" not in repr(options)
