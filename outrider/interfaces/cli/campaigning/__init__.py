"""Verbs of `outrider campaign`, a file for each kind; commands/campaign.py puts them on its command."""
