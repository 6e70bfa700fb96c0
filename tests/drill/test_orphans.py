"""Orphans that a process adopts: how they ended is heard, strangers among the dead are buried, and none stays."""

from __future__ import annotations

import subprocess
import sys

from tests.kit.command import ROOT

_FAMILY = """
import asyncio, os, signal, sys, time
from outrider.app import orphans

def ends(how):
    def live():
        os.write(out, str(os.getpid()).encode())
        how()
        os._exit(7)
    return live

def dies_of(number):
    def die():
        signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
        os.kill(os.getpid(), number)
    return die

heard, out = os.pipe()

def child(how):
    orphans.fork(ends(how))
    return int(os.read(heard, 20))

async def codes(*pids):
    return [await orphans.ending(pid) for pid in pids]

"""


def _printed(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _FAMILY + program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=240
    )
    return done.stdout.split()


def test_how_an_adopted_orphan_ended_is_heard() -> None:
    program = """
with orphans.adopted():
    pids = [child(lambda: None), *(child(dies_of(n)) for n in (signal.SIGSEGV, signal.SIGTERM, signal.SIGKILL))]
    print(*asyncio.run(codes(*pids)))
"""
    assert _printed(program) == ["7", "-11", "-15", "-9"]


def test_an_orphan_begins_when_it_is_one() -> None:
    program = """
def tell():
    os.write(out, f" {os.getppid()}".encode())
with orphans.adopted():
    orphans.fork(ends(tell))
    os.waitpid(-1, 0)
    print(*os.read(heard, 60).decode().split()[1:], os.getpid())
"""
    parent, here = _printed(program)
    assert parent == here


def test_nobody_is_adopted_outside_the_block_and_while_it_is_not_wished() -> None:
    program = """
print(*asyncio.run(codes(child(lambda: None))))
with orphans.adopted():
    with orphans.adopted(wish=False):
        print(*asyncio.run(codes(child(lambda: None))))
    print(*asyncio.run(codes(child(lambda: None))))
print(*asyncio.run(codes(child(lambda: None))))
"""
    assert _printed(program) == ["None", "None", "7", "None"]


def test_the_dead_that_nobody_waits_for_are_buried_and_no_other() -> None:
    program = """
with orphans.adopted():
    stranger = child(lambda: None)
    os.waitid(os.P_PID, stranger, os.WEXITED | os.WNOWAIT)
    orphans.bury(lambda pid: pid != stranger)
    awaited = child(lambda: None)
    os.waitid(os.P_PID, awaited, os.WEXITED | os.WNOWAIT)
    orphans.bury(lambda pid: pid == awaited)
    print(*asyncio.run(codes(stranger, awaited)))
    orphans.bury(lambda pid: False)
"""
    assert _printed(program) == ["None", "7"]


def test_a_process_for_which_there_is_no_room_is_an_error_of_who_asked() -> None:
    program = """
import errno
real, forks = os.fork, 0
def fork():
    global forks
    forks += 1
    if forks == 2:
        raise OSError(errno.EAGAIN, "no room")
    return real()
os.fork = fork
try:
    orphans.fork(ends(lambda: None))
except OSError as error:
    print(error.errno == errno.EAGAIN)
"""
    assert _printed(program) == ["True"]
