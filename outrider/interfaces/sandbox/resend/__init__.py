"""A server that answers as Resend's API does, sends nothing to anybody, and fails on request.

Owns its own ledger, written before each answer; what it was asked under a key is known again after a restart. Reports
events by signed webhooks.
"""

from outrider.interfaces.sandbox.resend.options import ResendOptions
from outrider.interfaces.sandbox.resend.server import ResendSandbox, serve

__all__ = ["ResendOptions", "ResendSandbox", "serve"]
