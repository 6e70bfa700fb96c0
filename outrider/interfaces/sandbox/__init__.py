"""The capture mail server: takes every message, delivers none, writes each down before it answers.

Owns the names that the rest of the product uses: options, `serve` and `run`, fault rules, the ledger's reader.
"""

from outrider.interfaces.sandbox.ledger import TAKEN, Record
from outrider.interfaces.sandbox.options import Addresses, SandboxOptions
from outrider.interfaces.sandbox.reader import LedgerReader, count_by_message_id
from outrider.interfaces.sandbox.rules import parse_rules
from outrider.interfaces.sandbox.server import Sandbox, run, serve

__all__ = [
    "TAKEN",
    "Addresses",
    "LedgerReader",
    "Record",
    "Sandbox",
    "SandboxOptions",
    "count_by_message_id",
    "parse_rules",
    "run",
    "serve",
]
