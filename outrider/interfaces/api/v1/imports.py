"""Imports of contacts: a CSV file as the body, progress while it runs, refused rows to mend."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts import attributes, suppressions
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.imports import control, merge
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.examine import FileFacts, ProblemView, examine
from outrider.domain.contacts.imports.files import ImportFiles
from outrider.domain.contacts.imports.options import Dates, Delimiter, Kind, Options
from outrider.domain.contacts.imports.report import as_csv
from outrider.domain.tenants.regions import check_region, region_of
from outrider.engine.maintenance import imports
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

CSV = {"content_types": ("text/csv", "application/json")}
"""JSON only as far as the guards, so that who may not import is told that and not what a body should be."""

_DELIMITERS: dict[str, Delimiter] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}

Channel = Annotated[str, QueryParameter(max_length=40, description="What the addresses are.")]
ListId = Annotated[str, QueryParameter(max_length=64, description="Put everybody on this list.")]
Consent = Annotated[
    Literal["granted", "withdrawn"] | None,
    QueryParameter(description="What holds for rows that say nothing; it never undoes a withdrawal."),
]
Purpose = Annotated[str, QueryParameter(max_length=40, description="What the consent is for.")]
Source = Annotated[str, QueryParameter(max_length=200, description="Where the consent is known from.")]
DelimiterName = Annotated[
    Literal["auto", "comma", "semicolon", "tab", "pipe"], QueryParameter(description="auto: found by the header.")
]
Mapping = Annotated[
    list[str] | None,
    QueryParameter(
        name="map",
        max_items=200,
        description="`Header=target`: address, name, tags, ignore, attribute:<key> … Repeatable.",
    ),
]
DateOrder = Annotated[
    Dates | None,
    QueryParameter(description="How 01/02/2026 is read where an attribute holds a day; else such rows are refused."),
]
Region = Annotated[
    str,
    QueryParameter(
        max_length=2,
        description="Country in which telephone numbers without + are read; else the tenant's default_region.",
    ),
]
DryRun = Annotated[
    bool, QueryParameter(description="Walk the whole file, count and show what would change, change nothing.")
]
KindOf = Annotated[
    Kind, QueryParameter(description="What the rows are: contacts, or another system's suppressions or consents.")
]
ReasonOf = Annotated[
    suppressions.Reason | None,
    QueryParameter(description="kind suppressions: why, for rows that say nothing; columns are then not looked at."),
]
FileName = Annotated[str, QueryParameter(max_length=255, description="Shown with the import, never used as a path.")]


class Import(ImportView, frozen=True, kw_only=True):
    """An import, and the job that takes it; none for one that the command line takes itself."""

    job_id: UUID | None = None


def options_of(  # noqa: PLR0917 - as the framework passes them
    channel: str,
    list_id: str,
    consent: Literal["granted", "withdrawn"] | None,
    purpose: str,
    consent_source: str,
    delimiter: str,
    mapping: list[str] | None,
    dates: Dates | None,
    kind: Kind = "contacts",
    reason: suppressions.Reason | None = None,
    *,
    dry_run: bool = False,
) -> Options:
    """The options of a request.

    Raises:  Refused naming the parameter.
    """
    chosen: dict[str, str] = {}
    for pair in mapping or ():
        header, equals, target = pair.rpartition("=")
        if not equals or header in chosen:
            raise Refused("bad_mapping", "must be Header=target, each header once", field="?map")
        chosen[header] = target
    return Options(
        channel=channel,
        list_id=parse_id(list_id, "?list_id") if list_id else None,
        consent=consent,
        purpose=purpose,
        consent_source=consent_source,
        delimiter=_DELIMITERS.get(delimiter),
        mapping=chosen,
        dates=dates,
        kind=kind,
        reason=reason,
        dry_run=dry_run,
    )


@post("/imports", status_code=202, guards=[needs("operator", "imports:write")], opt=CSV)
async def begin(  # noqa: PLR0917 - the framework passes every argument by name
    request: Request[Any, Any, Any],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    channel: FromQuery[Channel] = "email",
    list_id: FromQuery[ListId] = "",
    consent: FromQuery[Consent] = None,
    purpose: FromQuery[Purpose] = "marketing",
    consent_source: FromQuery[Source] = "",
    delimiter: FromQuery[DelimiterName] = "auto",
    mapping: FromQuery[Mapping] = None,
    dates: FromQuery[DateOrder] = None,
    region: FromQuery[Region] = "",
    kind: FromQuery[KindOf] = "contacts",
    reason: FromQuery[ReasonOf] = None,
    dry_run: FromQuery[DryRun] = False,  # noqa: FBT002 - a query parameter has a name
    file_name: FromQuery[FileName] = "",
) -> Import:
    """Import a CSV file. It is examined as a whole first; then a job takes its rows, with progress.

    The same file with the same options that is still running, or was when its process ended, is gone on with. A dry run
    is an import that changes nothing: it has counts, refused rows and changes like any other.
    """
    _refuse_json(request)
    options = options_of(
        channel, list_id, consent, purpose, consent_source, delimiter, mapping, dates, kind, reason, dry_run=dry_run
    )
    options = await _at_home(options, region, runtime, principal.tenant_id)
    files = ImportFiles(runtime.settings.data_dir)
    upload = await files.receive(request.stream())
    try:
        facts = await _examined(upload, options, runtime, principal.tenant_id)
        async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
            view = await control.begin(uow, principal.actor, facts, options, file_name or "import.csv")
            await files.keep(upload, uow.tenant, view.id)
            job = await runtime.jobs.enqueue(
                uow, principal.actor, imports.KEY, {"import_id": view.id}, dedup_key=str(view.id)
            )
    finally:
        upload.unlink(missing_ok=True)
    return _with_job(view, job.id)


@post("/imports/examine", status_code=200, guards=[needs("operator", "imports:write")], opt=CSV)
async def examined(  # noqa: PLR0917 - the framework passes every argument by name
    request: Request[Any, Any, Any],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    channel: FromQuery[Channel] = "email",
    consent: FromQuery[Consent] = None,
    purpose: FromQuery[Purpose] = "marketing",
    consent_source: FromQuery[Source] = "",
    delimiter: FromQuery[DelimiterName] = "auto",
    mapping: FromQuery[Mapping] = None,
    dates: FromQuery[DateOrder] = None,
    region: FromQuery[Region] = "",
    kind: FromQuery[KindOf] = "contacts",
    reason: FromQuery[ReasonOf] = None,
) -> FileFacts:
    """Say how a file would be read: columns and their targets, rows, first problems. Nothing is stored."""
    _refuse_json(request)
    options = options_of(channel, "", consent, purpose, consent_source, delimiter, mapping, dates, kind, reason)
    options = await _at_home(options, region, runtime, principal.tenant_id)
    upload = await ImportFiles(runtime.settings.data_dir).receive(request.stream())
    try:
        return await _examined(upload, options, runtime, principal.tenant_id)
    finally:
        upload.unlink(missing_ok=True)


@get("/imports", guards=[needs("viewer", "imports:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ImportView]:
    """List imports, newest first."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await control.listed(uow, limit=limit, before=before[0] if before else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/imports/{import_id:str}", guards=[needs("viewer", "imports:read")])
async def shown(
    import_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Import:
    """Show one import, how far it is, and the job that takes it."""
    identifier = parse_id(import_id, "import_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        view = await control.get(uow, identifier)
        job = await imports.job_of(uow, identifier)
        if view.state == "running" and job is not None and job.finished_at is not None:
            await imports.settle_one(uow, runtime, control.Unfinished(uow.tenant, identifier, is_abandoned=False))
            view = await control.get(uow, identifier)
    return _with_job(view, job.id if job else None)


@get("/imports/{import_id:str}/errors", guards=[needs("viewer", "imports:read")])
async def errors(
    import_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ProblemView]:
    """List refused rows by line, each with field, code and reason."""
    after = read_cursor(cursor, tuple[Annotated[int, msgspec.Meta(ge=0, le=2**62)], str])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await control.errors(uow, parse_id(import_id, "import_id"), limit=limit, after=after)
    return page(items, limit, cursor_of(items[-1].line, items[-1].field) if items else "")


@get("/imports/{import_id:str}/errors.csv", guards=[needs("viewer", "imports:read")])
async def errors_csv(
    import_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Response[str]:
    """Give all refused rows as CSV that is harmless in a spreadsheet."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        problems = await control.errors(uow, parse_id(import_id, "import_id"), limit=merge.MOST_ERRORS)
    headers = {"Content-Disposition": 'attachment; filename="import-errors.csv"'}
    return Response(as_csv(problems), media_type="text/csv", headers=headers)


@post("/imports/{import_id:str}/cancel", status_code=200, guards=[needs("operator", "imports:write")])
async def cancelled(
    import_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Import:
    """Stop an import after the batch under way, and its job; what was imported stays."""
    identifier = parse_id(import_id, "import_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        view, job_id = await imports.cancel(uow, principal.actor, identifier)
    await imports.forget_file(runtime, principal.tenant_id, identifier)
    return _with_job(view, job_id)


def _with_job(view: ImportView, job_id: UUID | None) -> Import:
    facts = {name: getattr(view, name) for name in ImportView.__struct_fields__}
    return Import(**facts, job_id=job_id)


def _refuse_json(request: Request[Any, Any, Any]) -> None:
    if not request.headers.get("content-type", "").lower().startswith("text/csv"):
        raise Refused("unsupported_media_type", "the body must be text/csv", status=415)


async def _at_home(options: Options, region: str, runtime: Runtime, tenant_id: UUID) -> Options:
    """The options with the country in which numbers are read, where the channel has any.

    Raises:  Refused(unknown_region).
    """
    if not channel_of(runtime.channels, options.channel, field="?channel").is_regional:
        return options
    chosen = check_region(region, field="?region")
    if not chosen:
        async with runtime.db.uow(Role.APP, tenant_id) as uow:
            chosen = await region_of(uow.raw, tenant_id)
    return msgspec.structs.replace(options, region=chosen)


async def _examined(upload: Path, options: Options, runtime: Runtime, tenant_id: UUID) -> FileFacts:
    channel = channel_of(runtime.channels, options.channel, field="?channel")
    async with runtime.db.uow(Role.APP, tenant_id) as uow:
        definitions = await attributes.listed(uow)
    return await asyncio.to_thread(examine, upload, options, channel, definitions)


ROUTES = [begin, examined, listed, shown, errors, errors_csv, cancelled]
