"""A server that answers as Twilio's Messages API does, sends nothing to anybody, and fails on request.

Owns its own ledger, written before each answer. Reports statuses by signed callbacks, and plays phones that answer.
"""

from outrider.interfaces.sandbox.twilio.options import TwilioOptions
from outrider.interfaces.sandbox.twilio.server import TwilioSandbox, serve

__all__ = ["TwilioOptions", "TwilioSandbox", "serve"]
