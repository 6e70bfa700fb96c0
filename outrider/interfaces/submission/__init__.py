"""SMTP submission: an intake for programs that speak nothing but SMTP. They sign in with an API key.

A message is accepted when it is committed, and not before it is answered 250; each recipient becomes a message of its
own, which passes every gate like those of the API. How-to: docs/how-to/submit-by-smtp.md.
"""

from __future__ import annotations

from outrider.interfaces.submission.server import serve

__all__ = ["serve"]
