"""Senders (who a message comes from) and the provider connections that carry their messages."""
