"""A port of loopback that is known before whoever listens there is started, and stays free until then.

API
    free_port() -> int      nobody uses it, the kernel gives it to nobody who asks for any, and no other run is given it
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
from pathlib import Path

_FIRST, _LEAST = 12_000, 5_000
"""Below what servers usually listen on is left alone; so many are wanted beneath what the kernel gives away."""
_turns = itertools.count()


def free_port() -> int:
    """A port from below those that the kernel chooses, where it leaves any; other runs begin to look elsewhere."""
    kernels = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if kernels - _FIRST < _LEAST:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            return int(found.getsockname()[1])
    while True:
        port = _FIRST + (os.getpid() * 61 + next(_turns)) % (kernels - _FIRST)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
