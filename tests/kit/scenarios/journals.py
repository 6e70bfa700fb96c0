"""Drills about journals: what one proves, and what it does not once the machine has been down.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path

import orjson

from tests.kit.defects import ANOTHER_BOOT
from tests.kit.drill import Drill, Guarantee
from tests.kit.gate import Gate
from tests.kit.ledgers import i11_no_lease_is_forgotten
from tests.kit.processes import BOUND_S, say, slowness, until

CONNECTIONS = 4
_OVERDUE_S = 8.0
"""So much longer than a lease and the sweep after it nothing lasts because of the machine's load."""
_RESCUE_S = 10.0
"""What a rescue may take beyond lease and sweep, on a machine that does nothing else [F06]."""
_KEPT = b"OC"
"""Kinds of records that had reached the disk: the journal was opened, batches were claimed."""


async def killed_with_lines_in_flight(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F08: kill -9 while the server thinks about the messages it was given; a sibling reads the journal."""
    count = 60
    async with Gate.open(await drill.smtp_port()) as gate:
        sender = await drill.sender(guarantee, connections=CONNECTIONS, port=gate.port)
        await drill.admit(sender, count)
        gate.hold(skip=3)
        victim = await drill.worker()  # with room for a second batch: a late worker may give back what it has not begun
        await until(lambda: gate.held_count == CONNECTIONS, what="every line waits for its answer")
        victim.kill()
        gate.hold_no_more()
        await drill.worker()
        await drill.drained()
    in_doubt = (await drill.evidence()).doubtful
    found = await drill.violations(
        duplicates=CONNECTIONS if guarantee == "at_least_once" else 0,
        uncertain=CONNECTIONS if guarantee == "at_most_once" else 0,
    )
    if guarantee == "at_most_once" and len(in_doubt) != CONNECTIONS:
        found.append(f"I2: {CONNECTIONS} answers were lost, {len(in_doubt)} messages are uncertain")
    return found


async def machine_rebooted(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F20: the machine was down: the end of the journal, never fsynced, is gone, and the boot id is another.

    What the journal calls not begun was begun: only the leases may decide.
    """
    count = 40
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    await drill.admit(sender, count)
    victim = drill.start_worker(at="send.answered:20:kill", lanes_in_flight="1", flush_s="1")
    await victim.killed("send.answered")
    (path,) = (drill.folder / "data" / "journals").glob("*.journal")
    lose_the_end(path)
    await drill.worker()
    await drill.drained()
    taken = len(drill.acceptances())
    return await drill.violations(
        duplicates=taken if guarantee == "at_least_once" else 0, uncertain=count if guarantee == "at_most_once" else 0
    )


async def another_machine_takes_over(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F06: a worker dies and its journal is on a disk that nobody sees: when the leases end, everything is rescued.

    Whoever rescues is there when it dies. From its death until nothing is its own any more it takes at most what the
    lease and the sweep of this installation come to, and ten seconds: with those it is installed with, 45 s.
    """
    count = 40
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    await drill.admit(sender, count)
    held_back = drill.folder / "hold-back"
    held_back.touch()
    await drill.worker(own_data=True, emergency_file=str(held_back))
    victim = drill.start_worker(at="send.before_bytes:20:kill", lanes_in_flight="1")
    await victim.killed("send.before_bytes")
    died_s = time.monotonic()
    leased, taken = await drill.open_count(1), len(drill.acceptances())
    if forgotten := await _forgotten_leases(drill):
        return forgotten
    took_s, most_s = time.monotonic() - died_s, _rescue_s(drill)
    say(f"rescued {took_s:.1f} s after the worker's death, {most_s:.1f} s at most")
    late = [f"F06: rescued after {took_s:.1f} s, {most_s:.1f} s at most are wanted here"] if took_s > most_s else []
    held_back.unlink()
    await drill.drained()
    return late + await drill.violations(
        duplicates=taken if guarantee == "at_least_once" else 0, uncertain=leased if guarantee == "at_most_once" else 0
    )


def _rescue_s(drill: Drill) -> float:
    """What a rescue may take by its settings: where others work, work takes longer, leases do not."""
    return _setting(drill, "LEASE_S") + _setting(drill, "SWEEP_S") + _RESCUE_S * slowness()


def _setting(drill: Drill, name: str) -> float:
    return float(drill.command.environment[f"OUTRIDER_{name}"])


async def _forgotten_leases(drill: Drill) -> list[str]:
    """I11: wait until the dead worker's leases are swept, or until one is over for far longer than a sweep takes."""
    found: list[str] = []

    async def is_decided() -> bool:
        evidence = await drill.evidence()
        found[:] = i11_no_lease_is_forgotten(evidence, overdue_s=_setting(drill, "SWEEP_S") + _OVERDUE_S)
        return bool(found) or not any(waiting.state == 1 for waiting in evidence.queue.values())

    await until(is_decided, what="the leases are swept, or forgotten", bound_s=2 * BOUND_S, poll_s=0.2)
    return found


def lose_the_end(path: Path) -> None:
    """Make a journal what a power cut leaves: another boot's, with what was written first and nothing after it."""
    kept = b"".join(_record(kind, payload) for kind, payload in _records(path.read_bytes()) if kind in _KEPT)
    assert kept, "the journal was never begun"
    path.write_bytes(kept)


def _records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and payload of every record; the opening one says another boot."""
    found = []
    at = 0
    while at + 2 <= len(data):
        kind, length = data[at : at + 1], data[at + 1]
        payload = data[at + 2 : at + 2 + length]
        if kind == b"O":
            payload = orjson.dumps([ANOTHER_BOOT, *orjson.loads(payload)[1:]])
        found.append((kind, payload))
        at += 2 + length + 4
    return found


def _record(kind: bytes, payload: bytes) -> bytes:
    head = kind + bytes((len(payload),)) + payload
    return head + struct.pack(">I", zlib.crc32(head))


async def answers_lost(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F58, F59: the line is cut with a message on it, before the server took it and after it did."""
    each = 3
    drill.faults(
        {"action": "drop", "stage": "before_dot", "skip": 5, "times": each},
        {"action": "drop", "stage": "after_dot", "skip": 15, "times": each},
    )
    sender = await drill.sender(guarantee, connections=2)
    await drill.admit(sender, 60)
    await drill.worker()
    await drill.drained()
    if guarantee == "at_least_once":
        return await drill.violations(duplicates=each)
    return await drill.violations(uncertain=2 * each)
