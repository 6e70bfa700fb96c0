"""Asks a short-lived process to turn what an author wrote into HTML and text, or to compare versions.

Owns starting it and its limits by the clock. Never parses markup in this process, and imports none of what does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from outrider.base.errors import Refused, Unavailable

_CHILD = Path(__file__).with_name("letter_child.py")
_WITHIN_S: Final = 20.0
_LARGEST_ANSWER_BYTES: Final = 16 * 1024 * 1024
_MOST_AT_ONCE: Final = 2
_slots = asyncio.Semaphore(_MOST_AT_ONCE)


async def asked(request: Mapping[str, Any], *, field: str) -> dict[str, Any]:
    """One request to a process of its own; see `letter_child`.

    Raises:  Refused(too_complex) naming `field` when it ran out of memory or time; Unavailable when no process starts.
    """
    found = find_spec("mrml")
    if found is None or found.origin is None:
        raise Unavailable("letters_unavailable", "mrml is not installed")
    async with _slots:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-B", str(_CHILD), str(Path(found.origin).parent.parent),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                env={}, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise Unavailable("letters_unavailable", f"no child process: {error.strerror}") from error
        try:
            async with asyncio.timeout(_WITHIN_S):
                answer, _ = await process.communicate(json.dumps(request).encode())
        except TimeoutError:
            answer = b""
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    if process.returncode != 0 or len(answer) > _LARGEST_ANSWER_BYTES:
        raise Refused("too_complex", "needs too much memory or time to be read", field=field)
    made: dict[str, Any] = json.loads(answer)
    return made
