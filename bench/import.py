"""How fast a CSV file becomes contacts, and in how much memory.

Ours is the command line, as a process of its own: file examined, rows checked one by one, contacts, addresses, consent
with its proof and list written in batches with a checkpoint. The peer is the least that any importer must do on the
same server in the same minute: the same file copied into a table by COPY and moved by two INSERT … SELECT (contacts and
addresses), without a check, proof, checkpoint or policy. It is the ceiling, not a competitor.

Then, beside imports of people nobody knows yet, single messages are handed in over HTTP at a steady pace, in turn with
quiet windows of the same run: what others notice of an import (F87). The server's WAL segments are made before, as they
are where it has been at work: on a new server every 16 MB of WAL stop all commits until they are made.

    .venv/bin/python bench/import.py [--rows 1000000] [--per-s 50] [--window-s 20] [--rounds 3]
    .venv/bin/python bench/import.py --only import                  # nothing beside it
    .venv/bin/python bench/import.py --only import --killed-at import.batch:20,import.committed:79   # … and begun again

Wanted: at least 5,000 rows/s, at most 256 MB resident in the importing process, at first and when everybody is known;
p99 of other traffic at most 1.5 x.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from bench.kit import beside, ours
from bench.kit.figures import machine, parts, say, table, verdict
from bench.kit.servers import Postgres, postgres, process, run

PARTS = ("import", "traffic")
LEAST_ROWS_PER_S = 5_000
MOST_MEGABYTES = 256
MOST_TRAFFIC_RATIO = 1.5
_ROWS_BESIDE_PER_S = 25_000
"""More than an import takes, so that it lasts longer than its window."""
HEADER = ("email", "name", "external id", "consent", "town")

_WAL = "SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1000000))) FROM generate_series(1, 2000)"
"""Two gigabytes: more than imports of all windows write."""

_PEER_TABLES = """
CREATE TABLE peer_staging (email text, name text, external_id text, consent text, town text);
CREATE TABLE peer_contacts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), external_id text UNIQUE, name text,
                            attributes jsonb);
CREATE TABLE peer_addresses (address text PRIMARY KEY, contact_id uuid NOT NULL);
"""
_PEER_CONTACTS = """
INSERT INTO peer_contacts (external_id, name, attributes)
SELECT external_id, name, jsonb_build_object('town', town) FROM peer_staging
ON CONFLICT (external_id) DO UPDATE SET name = excluded.name
"""
_PEER_ADDRESSES = """
INSERT INTO peer_addresses (address, contact_id)
SELECT s.email, c.id FROM peer_staging s JOIN peer_contacts c USING (external_id) ON CONFLICT DO NOTHING
"""


def main() -> int:
    """Measure, print, and say whether the aims are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--per-s", type=float, default=50.0)
    parser.add_argument("--window-s", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=parts(*PARTS), default=frozenset(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--killed-at", type=_points, default=(), help="POINT:NTH, with commas: kills of the first one")
    options = parser.parse_args()
    print(f"machine: {machine()}")
    met: list[bool] = []
    with postgres(min_wal_size="2GB") as database, ours.installation(database) as made:
        if "import" in options.only:
            met += _imports(database, made, options)
        if "traffic" in options.only:
            database.execute(_WAL)
            database.settle()
            traffic = _traffic(made, options)
            beside.show("an import", traffic)
            met.append(verdict("other traffic: p99", traffic.ratio(), MOST_TRAFFIC_RATIO, at_most=True))
    return 0 if all(met) else 1


def _points(text: str) -> tuple[str, ...]:
    """Failpoints as `OR_FAILPOINT` names them, without what is to be done there."""
    found = tuple(text.split(","))
    for each in found:
        name, _, nth = each.partition(":")
        if not name.startswith("import.") or not nth.isdecimal():
            raise argparse.ArgumentTypeError(f"{each}: is not import.POINT:NTH")
    return found


def _imports(database: Postgres, made: ours.Installation, options: argparse.Namespace) -> list[bool]:
    """The file when nobody is known and when everybody is, and what the least that an importer must do takes."""
    count: int = options.rows
    path = _file(made.data_dir / "people.csv", count)
    first = _killed(made, path, count, options.killed_at) if options.killed_at else _new(made, path, count)
    again = _ours(made, path, count, "unchanged_count")
    peer_s = run(_theirs(database, path, count))
    rows = [["what", "rows/s", "most memory, MB"]]
    rows += [
        [name, f"{count / took_s:,.0f}", f"{megabytes:.0f}"]
        for name, (took_s, megabytes) in (("new to us", first), ("all known", again))
    ]
    table([*rows, ["COPY and INSERT … SELECT alone", f"{count / peer_s:,.0f}", "the server's"]])
    print(f"ratio to the ceiling: {peer_s / first[0]:.2f} x")
    if options.killed_at:
        print(f"every row once after {len(options.killed_at)} kills; {first[0]:.0f} s in all")
    met = [
        verdict(f"{name}: rows", count / took_s, LEAST_ROWS_PER_S, unit="/s")
        for name, (took_s, _) in _both(first, again)
    ]
    met += [
        verdict(f"{name}: memory", megabytes, MOST_MEGABYTES, at_most=True, unit="MB")
        for name, (_, megabytes) in _both(first, again)
    ]
    return met


def _new(made: ours.Installation, path: Path, count: int) -> tuple[float, float]:
    return _ours(made, path, count, "created_count")


def _killed(made: ours.Installation, path: Path, count: int, points: Sequence[str]) -> tuple[float, float]:
    """The first import, killed -9 at one point after the other and begun again by the same command each time."""
    begun = time.perf_counter()
    for point in points:
        environment = made.environment | {"OR_FAILPOINT": f"{point}:kill"}
        status = subprocess.run(_command(path), env=environment, stdout=subprocess.DEVNULL, check=False).returncode
        if status != -signal.SIGKILL:
            raise RuntimeError(f"the import ended with {status} instead of being killed at {point}")
        say(f"killed at {point}, {time.perf_counter() - begun:.0f} s after the beginning")
    _, megabytes = _new(made, path, count)
    took_s = time.perf_counter() - begun
    stored = made.database.value("SELECT count(*) FROM addresses")
    if stored != count:
        raise RuntimeError(f"{stored} addresses are stored of {count} rows")
    return took_s, megabytes


def _traffic(made: ours.Installation, options: argparse.Namespace) -> beside.Beside:
    """What single messages notice of imports; each round's people are new, or most of its work would not be there."""
    count = int(options.window_s * _ROWS_BESIDE_PER_S)

    @contextmanager
    def importing(number: int) -> Iterator[Callable[[], bool]]:
        path = _file(made.data_dir / f"beside-{number}.csv", count, first=options.rows + number * count)
        with process(_command(path), name="import", env=made.environment, stdout=subprocess.DEVNULL) as child:
            _wait_for_rows(made.database, path.name)
            yield lambda: child.poll() is None

    return beside.measure(made, importing, per_s=options.per_s, window_s=options.window_s, rounds=options.rounds)


def _wait_for_rows(database: Postgres, file_name: str) -> None:
    """Until its first batch is stored: before, the file is only examined."""
    taken = "SELECT coalesce(max(row_count), 0) FROM imports WHERE file_name = $1"
    while not database.value(taken, file_name):
        time.sleep(0.1)


def _both(first: tuple[float, float], again: tuple[float, float]) -> list[tuple[str, tuple[float, float]]]:
    return [("new to us", first), ("all known", again)]


def _file(path: Path, count: int, first: int = 0) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(
            (f"p{n}@example.org", f"Person {n}", f"x{n}", "yes", f"town {n % 7}") for n in range(first, first + count)
        )
    return path


def _command(path: Path) -> list[str]:
    return [
        str(ours.PROGRAM), "contacts", "import", str(path), "--list", "all", "--consent-source", "form", "--json",
    ]  # fmt: skip


def _ours(made: ours.Installation, path: Path, count: int, expected: str) -> tuple[float, float]:
    """Seconds from start to end of the command, and the most memory that its process had."""
    begun = time.perf_counter()
    with subprocess.Popen(_command(path), env=made.environment, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        answer = json.loads(child.stdout.read())
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    took_s = time.perf_counter() - begun
    if child.returncode or answer[expected] != count:
        raise RuntimeError(f"the import ended with {child.returncode}: {answer[expected]} of {count} {expected}")
    return took_s, used.ru_maxrss * 1024 / 1_000_000


async def _theirs(database: Postgres, path: Path, count: int) -> float:
    raw = await asyncpg.connect(database.superuser_url)
    try:
        await raw.execute(_PEER_TABLES)
        begun = time.perf_counter()
        async with raw.transaction():
            await raw.copy_to_table("peer_staging", source=path, format="csv", header=True, timeout=3600)
            await raw.execute(_PEER_CONTACTS, timeout=3600)
            await raw.execute(_PEER_ADDRESSES, timeout=3600)
        took_s = time.perf_counter() - begun
        if await raw.fetchval("SELECT count(*) FROM peer_addresses") != count:
            raise RuntimeError("the peer did not store every row")
        return took_s
    finally:
        await raw.close()


if __name__ == "__main__":
    sys.exit(main())
