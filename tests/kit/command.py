"""The command line as people and scripts run it: a process of its own, its streams, its exit code.

API
    Command(url=…, data_dir=…)          an environment for commands: nothing of the test's own settings leaks in
        .run(*args, …) -> Done          run to the end; `.code`, `.out`, `.err`, `.json()`
        .many([args, …]) -> [Done]      several command lines, one after another
        .start(*args) -> Popen          a process that stays; the test stops it
        .stay(*args) -> Popen | Forked  the same, forked where that makes no difference
        .with_(NAME=value) -> Command   the same with another setting (None takes it away)
    migrated_command(new_database, tmp_path) -> Command   on a database of this release's schema, with a secret key
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from outrider.base.secret import new_key
from tests.kit import prefork
from tests.kit.prefork import Forked

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Stdout as the one JSON document it must be."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Command:
    """How commands are run."""

    environment: dict[str, str] = field(default_factory=dict)
    python: tuple[str, ...] = ()

    def with_(self, **changes: str | None) -> Command:
        """The same command with other environment variables."""
        changed = {**self.environment, **changes}
        return Command({name: value for name, value in changed.items() if value is not None}, self.python)

    def run(self, *arguments: str, stdin: str | None = "", timeout_s: float = 240, **popen: Any) -> Done:
        """Run to the end: forked from a process that has loaded the product, where that makes no difference."""
        line = self._line(arguments)
        if stdin is not None and popen.keys() <= {"cwd"} and prefork.takes(line, self.environment):
            cwd = popen.get("cwd", ROOT)
            ended = prefork.run(line, self.environment, stdin=stdin, cwd=cwd, timeout_s=timeout_s)
            return Done(ended.code, *(stream.decode("utf-8", "surrogateescape") for stream in (ended.out, ended.err)))
        done = subprocess.run(
            [sys.executable, *line],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=timeout_s,
            check=False,
            cwd=popen.pop("cwd", ROOT),
            **popen,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def many(self, lines: Sequence[Sequence[str]], *, timeout_s: float = 360) -> list[Done]:
        """Run command lines one after another, each to its end."""
        return [self.run(*line, timeout_s=timeout_s) for line in lines]

    def stay(self, *arguments: str, stdout: IO[str], stderr: IO[str]) -> subprocess.Popen[str] | Forked:
        """Start a process of the product with a pipe to it; forked, where that makes no difference."""
        line = self._line(arguments)
        if not prefork.takes(line, self.environment):
            return self.start(*arguments, stdout=stdout, stderr=stderr)
        streams = {"stdout": stdout.fileno(), "stderr": stderr.fileno()}
        return prefork.start(line, self.environment, cwd=ROOT, **streams)

    def start(self, *arguments: str, **popen: Any) -> subprocess.Popen[str]:
        """Start a process; whoever starts it ends it."""
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        return subprocess.Popen(
            [sys.executable, *self._line(arguments)],
            env=self.environment,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            **streams,
        )

    def _line(self, arguments: Sequence[str]) -> list[str]:
        """What Python is to run."""
        return [*self.python, "-m", "outrider", *arguments]


def command(data_dir: Path, *, url: str | None = None, key: str | None = None) -> Command:
    """A command with its own data directory and nothing else of this process's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OUTRIDER_", "OR_FAILPOINT"))}
    settings = {"OUTRIDER_DATA_DIR": str(data_dir)}
    if url is not None:
        settings["OUTRIDER_DATABASE_URL"] = url
    if key is not None:
        settings["OUTRIDER_SECRET_KEY"] = key
    return Command({**kept, **settings})


def migrated_command(new_database: Callable[..., str], data_dir: Path) -> Command:
    """A command on a new database of this release's schema, with a secret key of its own."""
    return command(data_dir, url=new_database("migrated"), key=new_key())
