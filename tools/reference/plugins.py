"""docs/reference/plugins.md: gates, channels, providers and job types, from the plugins themselves."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.base.fields import Field
from outrider.base.registry import discover
from tools.reference.markdown import page, table

_INTRODUCTION = """
A plugin is one file, found by its name; its settings are declared as data, and forms, API, command line and this page
are drawn from them. Others can be added by an entry point in the group `outrider.plugins.gates`,
`outrider.plugins.channels`, `outrider.plugins.providers` or `outrider.plugins.jobs`.
"""


def render() -> str:
    """The page."""
    gates = sorted(discover("outrider.plugins.gates", "GATE").values(), key=lambda gate: gate.order)
    channels = discover("outrider.plugins.channels", "CHANNEL").values()
    providers = discover("outrider.plugins.providers", "PROVIDER").values()
    parts = [
        "## Gates\n\nAsked in this order before every message; the first that does not pass decides, and its answer "
        "stands in the message's timeline.\n\n"
        + table(("order", "gate", "what it does"), [(str(gate.order), f"`{gate.key}`", gate.help) for gate in gates]),
        *(f"### Gate `{gate.key}`\n\n{_fields(gate.fields)}" for gate in gates if gate.fields),
        "## Channels\n\n"
        + table(("channel", "what it is"), [(f"`{channel.key}`", channel.help) for channel in channels]),
    ]
    parts.extend(
        f"## Provider `{one.key}` (channel `{one.channel}`)\n\n{one.help}\n\n{_fields(one.fields)}" for one in providers
    )
    parts.append(_jobs())
    return page("Plugins", _INTRODUCTION, *parts)


def _jobs() -> str:
    """Job types: what they do, where they run, which arguments they take, which schedule comes with them."""
    rows = []
    for job in discover("outrider.plugins.jobs", "JOB").values():
        arguments = ", ".join(f"`{name}`" for name in job.arguments.__struct_fields__) or "none"
        comes = f"`{job.standing.cron}` {job.standing.timezone}" if job.standing else ""
        whose = "the installation" if job.is_installation else "a tenant"
        rows.append((f"`{job.key}`", job.title, f"`{job.queue}`", arguments, whose, comes))
    return "## Job types\n\n" + table(("job", "what it does", "queue", "arguments", "whose", "schedule"), rows)


def _fields(fields: Sequence[Field]) -> str:
    return table(("setting", "default", "may be", "what it is for"), [_field(field) for field in fields])


def _field(field: Field) -> tuple[str, str, str, str]:
    default = (
        "required" if field.is_required else "unset" if field.default in {None, ""} else f"`{_plain(field.default)}`"
    )
    return f"`{field.name}`", default, _bounds(field), field.help


def _bounds(field: Field) -> str:
    if field.choices:
        return ", ".join(f"`{choice}`" for choice in field.choices)
    if field.least is not None and field.most is not None:
        return f"{_number(field.least)} to {_number(field.most)}"
    if field.kind == "boolean":
        return "`true`, `false`"
    if field.example:
        return f"text such as `{field.example}`"
    return f"{field.kind}, at most {field.longest:,} characters" if field.kind in {"text", "secret"} else field.kind


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
