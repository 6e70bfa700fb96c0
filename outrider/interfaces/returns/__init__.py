"""Returns: where bounces and complaints come back by SMTP, each to the address of the message it is about.

A letter is answered 250 when what it says is committed, never before. Nobody signs in: the address proves which message
is meant, and nothing but such addresses is taken. How-to: docs/how-to/bounces-and-complaints.md.
"""

from __future__ import annotations

from outrider.interfaces.returns.server import serve

__all__ = ["serve"]
