"""Fixtures for every test: the shared PostgreSQL of the run (tests/kit/postgres.py)."""

import signal

pytest_plugins = ["tests.kit.postgres"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background by a shell: our children would inherit a Ctrl-C that does nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)
