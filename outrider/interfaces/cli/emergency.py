"""The emergency file: stops the workers of this machine without a database.

Owns writing and removing it; the workers look at it several times a second [F86].
"""

from __future__ import annotations

import os

from outrider.base.clock import utc_now
from outrider.base.errors import Misconfigured
from outrider.data.secret_file import make_private_folder
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import Changing
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.work import actor, note


def stop(options: Changing) -> Answer:
    """Write the file with who, when and why; whoever comes second changes nothing."""
    path = doors().settings().emergency_path
    was_there = path.exists()
    if not options.dry_run and not was_there:
        reason = " ".join(options.reason.split())[:500]
        try:
            make_private_folder(path.parent)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            with os.fdopen(fd, "wb") as file:
                file.write(f"{utc_now().isoformat()} {actor().name}: {reason}\n".encode())
                file.flush()
                os.fsync(fd)
        except OSError as error:
            raise Misconfigured("emergency_file", f"{path} cannot be written: {error.strerror}") from error
    data = {"path": str(path), "is_stopped": True, "changed": not was_there}
    state = "was there already" if was_there else "is written"
    text = f"{path} {state}: no worker of this machine sends while it exists"
    return Answer(data, note(text, dry_run=options.dry_run))


def end(options: Changing) -> Answer:
    """Remove the file."""
    path = doors().settings().emergency_path
    was_there = path.exists()
    if not options.dry_run:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise Misconfigured("emergency_file", f"{path} cannot be removed: {error.strerror}") from error
    data = {"path": str(path), "is_stopped": False, "changed": was_there}
    text = f"{path} is removed" if was_there else f"{path} was not there"
    return Answer(data, note(text, dry_run=options.dry_run))
