"""The rendering child's own code without a child, for tests that are about messages and not about processes.

API
    InProcessRenderer    a `contracts.channel.Renderer`; `rendered` counts contexts, so that a test can tell which way a
                         message was made
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import minijinja

from outrider.contracts.channel import TemplateProblem
from outrider.data import render_child, template_syntax


class InProcessRenderer:
    """Renders in this process with exactly the settings of the child. For trusted templates of tests only."""

    def __init__(self) -> None:
        self.rendered = 0

    async def check(self, sources: Mapping[str, str], version_key: str) -> list[TemplateProblem]:
        template = render_child.Template(dict(sources), template_syntax, minijinja, is_check=True)
        return [TemplateProblem(*problem) for problem in template.trial()]

    async def render(
        self, sources: Mapping[str, str], version_key: str, contexts: Sequence[str]
    ) -> list[dict[str, str] | str]:
        self.rendered += len(contexts)
        template = render_child.Template(dict(sources), template_syntax, minijinja)
        progress = bytearray(struct.calcsize("<Q"))
        lengths, chunks = render_child.render_batch(template, list(contexts), progress)
        answers: list[dict[str, str] | str] = []
        queue = iter(chunks)
        for at in range(0, len(lengths), len(sources)):
            if lengths[at] < 0:
                answers.append(next(queue).decode())
            else:
                answers.append({part: next(queue).decode() for part in sources})
        return answers
