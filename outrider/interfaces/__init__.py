"""Doors: API, command line, sandbox."""
