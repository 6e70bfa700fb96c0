"""The commands that carry a cluster from one major release of PostgreSQL to another, with real paths.

Owns their text only; never runs them: moving data is the operator's decision. A test runs them as printed.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from outrider.data.embedded_postgres.home import Home
from outrider.data.embedded_postgres.programs import Programs, of_major


def aside(home: Home, made: int) -> Path:
    """Where the old data is kept."""
    return home.path.with_name(f"{home.path.name}-{made}")


def move_commands(home: Home, made: int, programs: Programs, socket_dir: Path) -> list[str]:
    """The commands, one per line, to be pasted into a shell as the user that starts Outrider.

    Takes:   the major release that made the data; the programs that shall serve it from now on.
    Gives:   dump with the new programs from the old server, restore into a new cluster; the old one is kept aside.
    """
    old_folder = of_major(made)
    old = old_folder or Path(f"/usr/lib/postgresql/{made}/bin")
    new, kept = programs.folder, aside(home, made)
    cluster, dump, log = home.cluster, kept / "move.sql", kept / "move.log"
    uid, gid = home.account.uid, home.account.gid
    become = f"setpriv --reuid={uid} --regid={gid} --clear-groups " if home.account.is_dropped_to else ""
    owner = f"-o {uid} -g {gid} " if home.account.is_dropped_to else ""
    with_passwords = f"{become}env PGPASSFILE={_q(kept / 'pgpass')} "
    where = f"-h {_q(socket_dir)} -U postgres"
    options = _q(f"-c listen_addresses='' -c unix_socket_permissions=0700 -c unix_socket_directories={_q(socket_dir)}")
    commands = [
        f"install -d -m 0700 {owner}{_q(socket_dir)}",
        f"mv {_q(home.path)} {_q(kept)}",
        f"{become}{_q(old / 'pg_ctl')} start -w -D {_q(kept / 'cluster')} -l {_q(log)} -o {options}",
        f"{with_passwords}{_q(new / 'pg_dumpall')} {where} -f {_q(dump)}",
        f"{become}{_q(old / 'pg_ctl')} stop -w -D {_q(kept / 'cluster')}",
        f"install -d -m 0700 {owner}{_q(home.path)}",
        f"install -m 0600 {owner}{_q(kept / 'pgpass')} {_q(home.path / 'pgpass')}",
        f"{become}{_q(new / 'initdb')} -D {_q(cluster)} -U postgres --auth=trust --encoding=UTF8 --data-checksums",
        f"{become}{_q(new / 'pg_ctl')} start -w -D {_q(cluster)} -l {_q(log)} -o {options}",
        f"{with_passwords}{_q(new / 'psql')} -X -q {where} -d postgres -f {_q(dump)}",
        f"{become}{_q(new / 'pg_ctl')} stop -w -D {_q(cluster)}",
    ]
    if old_folder is None:
        missing = f"# first install the programs of PostgreSQL {made} (Debian, Ubuntu: apt install postgresql-{made})"
        commands.insert(0, missing)
    if programs.major >= 17:  # noqa: PLR2004 - the release that brought the provider, as in cluster.py
        commands = [
            f"{line} --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C.UTF-8" if "initdb" in line else line
            for line in commands
        ]
    return commands


def _q(path: Path | str) -> str:
    return shlex.quote(str(path))
