"""Outrider: self-hosted messaging operations."""

__version__ = "0.1.0"
