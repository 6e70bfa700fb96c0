"""The embedded server's configuration: written by us at every start, safe settings pinned on the command line.

Owns postgresql.conf and pg_hba.conf and the refusal of unsafe or reserved settings. Never edits what an operator wrote
by ALTER SYSTEM (postgresql.auto.conf): that counts, except that it may not turn safety off.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from outrider.base.errors import Misconfigured
from outrider.data.durability import SAFE_SETTINGS, unsafe_reason
from outrider.data.embedded_postgres.faults import refuse
from outrider.data.embedded_postgres.home import Home
from outrider.data.embedded_postgres.programs import Programs
from outrider.data.embedded_postgres.sockets import key_of
from outrider.data.server_settings import bytes_of

MIB = 1 << 20
_RESERVED = frozenset(
    {"config_file", "hba_file", "ident_file", "data_directory", "external_pid_file", "include", "include_dir"}
    | {"include_if_exists", "listen_addresses", "port", "unix_socket_directories", "unix_socket_group"}
    | {"unix_socket_permissions", "cluster_name", "password_encryption", "logging_collector", "log_directory"}
    | {"log_destination", "zero_damaged_pages", "ignore_checksum_failure", "ignore_invalid_pages", "data_sync_retry"}
    | {"allow_system_table_mods", "ssl", "restart_after_crash"}
)
_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")
_ENOUGH_SHARED_BYTES = 1 << 30
_BOUND_S = 20
_KEPT_WAL = "1GB"
"""Segments kept once they were made: a commit that finds none ready makes all others wait until one is written."""
_MOST_AHEAD_BYTES = 256 << 20
_ROOM_AHEAD = 20


def refuse_settings(settings: Mapping[str, str]) -> None:
    """Refuse settings that would make the server unsafe, or that are ours to make.

    Raises:  Misconfigured(unsafe_durability) for fsync, full_page_writes or synchronous_commit turned off;
             Misconfigured(database_setting) for a reserved or malformed one.
    """
    for name, value in settings.items():
        if not _NAME.fullmatch(name) or any(ord(character) < ord(" ") for character in value):
            raise Misconfigured("database_setting", "is no name and one-line value of PostgreSQL's", field=name[:60])
        if name in _RESERVED:
            raise Misconfigured("database_setting", "is set by Outrider's own supervisor", field=name)
        if name in SAFE_SETTINGS:
            reason = unsafe_reason(name, value.strip().lower())
            if reason:
                raise Misconfigured("unsafe_durability", f"{reason}; it cannot be turned off", field=name)


def pinned() -> list[str]:
    """The arguments that no file can override."""
    return [part for name in SAFE_SETTINGS for part in ("-c", f"{name}=on")]


def write(home: Home, programs: Programs, settings: Mapping[str, str], socket_dir: Path, tcp_port: int | None) -> None:
    """Write both files; a running server is not told."""
    values = {
        **_base(home, programs),
        **settings,
        "listen_addresses": "127.0.0.1" if tcp_port else "",
        "port": str(tcp_port or 5432),
        "unix_socket_directories": '"' + str(socket_dir).replace('"', '""') + '"',
        "unix_socket_permissions": "0700",
        "cluster_name": f"outrider-{key_of(home)}",
        "hba_file": str(home.path / "pg_hba.conf"),
    }
    head = "# Written by Outrider at every start. Your own settings: ALTER SYSTEM SET name = value;\n"
    lines = [f"{name} = {_quoted(value)}\n" for name, value in values.items()]
    home.write("postgresql.conf", (head + "".join(lines)).encode())
    rules = [
        "# Written by Outrider at every start: passwords for everybody, no other machine.",
        "local all all scram-sha-256",
        "local replication postgres scram-sha-256",
        *(["host all all 127.0.0.1/32 scram-sha-256"] if tcp_port else []),
    ]
    home.write("pg_hba.conf", ("\n".join(rules) + "\n").encode())


def wal_ahead_bytes(home: Home, settings: Mapping[str, str]) -> int:
    """How much WAL a new cluster has segments made ahead for: a quarter of what it keeps, where there is room."""
    try:
        kept_bytes = bytes_of(settings.get("min_wal_size", _KEPT_WAL))
    except ValueError:
        return 0  # PostgreSQL says what is wrong with it, at its start
    ahead_bytes = min(kept_bytes // 4, _MOST_AHEAD_BYTES)
    return ahead_bytes if shutil.disk_usage(home.path).free >= _ROOM_AHEAD * ahead_bytes else 0


def refuse_unsafe_files(home: Home, programs: Programs) -> None:
    """Ask PostgreSQL itself what its files come to, and refuse when one of them turns safety off.

    Raises:  Misconfigured(unsafe_durability) naming the setting and the file; what a file with errors raises, `refuse`.
    """
    for name in SAFE_SETTINGS:
        code, output = _ask(home, programs, "-c", f"config_file={home.path / 'postgresql.conf'}", "-C", name)
        if code != 0:
            refuse("the database's configuration cannot be read", output)
        reason = unsafe_reason(name, output.strip())
        if reason:
            raise Misconfigured(
                "unsafe_durability",
                f"{reason}; take that line out of {home.cluster / 'postgresql.auto.conf'}",
                field=name,
            )


def _ask(home: Home, programs: Programs, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a `postgres -C …`, which reads the files and starts nothing."""
    answer = subprocess.run(
        [programs.folder / "postgres", "-D", home.cluster, *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        timeout=_BOUND_S,
        **home.account.identity,
    )
    return answer.returncode, answer.stdout if answer.returncode == 0 else answer.stdout + answer.stderr


def _base(home: Home, programs: Programs) -> dict[str, str]:
    """What suits a small node that shares its machine with Outrider's own processes."""
    memory_bytes = _memory_bytes()
    shared_mib = min(max(memory_bytes // 4 // MIB, 128), 512)
    return {
        "max_connections": "100",
        "shared_buffers": f"{shared_mib}MB",
        "effective_cache_size": f"{max(memory_bytes // 2 // MIB, 256)}MB",
        "maintenance_work_mem": f"{min(max(memory_bytes // 16 // MIB, 64), 256)}MB",
        "huge_pages": "try",
        "dynamic_shared_memory_type": "posix" if _has_shared_memory() else "mmap",
        "wal_compression": "lz4" if _knows_lz4(home, programs) else "off",
        "min_wal_size": _KEPT_WAL,
        "max_wal_size": "2GB",
        "checkpoint_timeout": "10min",
        "random_page_cost": "1.1",
        "jit": "off",
        "client_connection_check_interval": "10s",
        # the queue's rows live for seconds: dead ones are cleared often, in small steps
        "autovacuum_naptime": "10s",
        "autovacuum_vacuum_scale_factor": "0.05",
        "autovacuum_analyze_scale_factor": "0.05",
        "autovacuum_vacuum_insert_scale_factor": "0.1",
        "autovacuum_vacuum_cost_limit": "1000",
        "password_encryption": "scram-sha-256",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "logging_collector": "on",
        "log_directory": str(home.log_dir),
        "log_filename": "postgresql-%a.log",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_truncate_on_rotation": "on",
        "log_file_mode": "0600",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        # details of errors quote rows, which hold people's addresses
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_checkpoints": "off",
    }


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"


def _memory_bytes() -> int:
    """Memory of the machine, or of the container where that is less (control groups, both versions)."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            sizes.append(int(text))
    return min(sizes)


def _has_shared_memory() -> bool:
    """Whether /dev/shm has room for parallel queries; containers often give it 64 MB."""
    try:
        return os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").total >= _ENOUGH_SHARED_BYTES  # noqa: S108 - asked for its size
    except OSError:
        return False


def _knows_lz4(home: Home, programs: Programs) -> bool:
    """Whether the server was built with lz4; other compressions cost more processor time than they save."""
    return _ask(home, programs, "-c", "wal_compression=lz4", "-C", "wal_compression")[0] == 0
