"""Fixtures for every test: the shared PostgreSQL of the run (tests/kit/postgres.py)."""

import gc
import signal

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.kit.postgres"]

_OBJECTS_TO_A_COLLECTION = 5_000

# how long an example takes says how busy the machine is: no test fails by that
settings.register_profile("outrider", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("outrider")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background by a shell: our children would inherit a Ctrl-C that does nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave alone what lives as long as the run, and come less often to the rest.

    Thousands of collected tests and every module of the product took it a third of a second at a time, a quarter of all
    that a run computed. What a test leaves unclosed is found as before: pytest collects once more at the end.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_TO_A_COLLECTION, *gc.get_threshold()[1:])
