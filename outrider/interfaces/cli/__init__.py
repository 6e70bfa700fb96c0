"""The command line: one file per command under `commands/`, found by its name; what they share lives here."""
