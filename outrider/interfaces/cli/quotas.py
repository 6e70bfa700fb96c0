"""How full the quotas of open messages are, in words: for `status`, `queue status`, `doctor` and `quota`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from outrider.domain.messages.fills import Fill, TenantFill


def line(fill: Fill) -> str:
    """One line: how many messages wait, and how many may."""
    return (
        f"{fill.open_count:,} of at most {fill.most:,} messages are waiting ({fill.ratio:.1%}); "
        f"bulk ones are taken up to {fill.bulk_most:,}"
    )


def shown(fill: Fill) -> dict[str, Any]:
    """The same as data."""
    return {**msgspec.to_builtins(fill), "open": fill.open_count, "ratio": round(fill.ratio, 4), "takes": fill.takes}


def alarms(fill: Fill, fullest: Sequence[TenantFill]) -> Iterator[str]:
    """What is refused now because a quota is full; the installation's first."""
    if refused := _refused(fill):
        yield f"the queue is full: {refused} messages of every tenant are refused (503); {line(fill)}"
    for each in fullest:
        if refused := _refused(each.fill):
            yield (
                f"the queue of tenant {each.name} ({each.tenant_id}) is full: its {refused} messages are refused (429)"
                f"; {line(each.fill)}"
            )


def row(each: TenantFill) -> dict[str, Any]:
    """A tenant as a row of a table."""
    return {"tenant": each.name, "tenant_id": each.tenant_id, **shown(each.fill)}


def _refused(fill: Fill) -> str:
    takes = fill.takes
    if not takes:
        return "all"
    return "" if "bulk" in takes else "bulk"
