"""Every setting of a process: from the environment (`OUTRIDER_…`) or the file named by `OUTRIDER_CONFIG` (TOML).

Owns names, defaults, bounds and what each means; checks settings against each other at start. Never opens a connection.
"""

from __future__ import annotations

import os
import re
import tomllib
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from outrider.base.errors import Misconfigured
from outrider.base.web import is_local_host, name_server

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/outrider")
    home = os.environ.get("XDG_DATA_HOME")
    return Path(home) / "outrider" if home else Path(os.path.expanduser("~")) / ".local" / "share" / "outrider"  # noqa: PTH111 - works without HOME


class _ConfigFile(TomlConfigSettingsSource):
    """The TOML file; `${NAME}` in a text is the environment variable of that name."""

    def _read_files(self, files: Any, *args: Any, **more: Any) -> dict[str, Any]:
        if not Path(files).is_file():
            raise Misconfigured("invalid_settings", f"OUTRIDER_CONFIG: {files} is not a file")
        return super()._read_files(files, *args, **more)

    def _read_file(self, file_path: Any) -> dict[str, Any]:
        return {name: _expanded(value, file_path) for name, value in super()._read_file(file_path).items()}


def _expanded(value: Any, path: object) -> Any:
    """A value with its variables replaced; one that is not set is an error, never an empty text."""
    if isinstance(value, list):
        return [_expanded(each, path) for each in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise Misconfigured("invalid_settings", f"{path}: the environment variable {match[1]} is not set")
        return found

    return _VARIABLE.sub(replace, value)


class Settings(BaseSettings):
    """The settings of one process, validated."""

    model_config = SettingsConfigDict(env_prefix="OUTRIDER_", extra="forbid", hide_input_in_errors=True)

    # where things are
    database_url: SecretStr | None = Field(
        None,
        description="PostgreSQL 16 to 18 to use, as postgresql://user:password@host/name; unset: an embedded server under data_dir.",
    )
    direct_database_url: SecretStr | None = Field(
        None, description="The same database without a pooler in between, for LISTEN; unset: database_url."
    )
    postgres_bin: Path | None = Field(
        None,
        description="Folder of the server programs for the embedded database; unset: those that come with Outrider.",
    )
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Data of the embedded database, journals, the secret key file and the emergency file.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Key that seals secrets and signs links: 32 bytes, URL-safe base64. Unset: read from secret_key_file.",
    )
    secret_key_file: Path | None = Field(
        None, description="File (mode 0600) with the secret key; unset: data_dir/secret.key."
    )
    environment: str = Field(
        "production",
        description="Label of this installation (production, staging …), shown in every interface.",
        pattern=r"^[a-z0-9-]{1,40}$",
    )
    app_label: str = Field(
        "outrider",
        description="Value of the label `app` on every metric; `email-dashboard` makes older queries work unchanged.",
        pattern=r"^[a-zA-Z0-9_-]{1,40}$",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="json, console, or auto: console on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level that is logged."
    )

    # network
    public_url: str = Field(
        "http://localhost:3000",
        description="Base URL under which recipients and operators reach the API: unsubscribe links are built from it alone. Unless set, it has the port of `OUTRIDER_API_PORT`.",
    )
    allow_localhost_links: bool = Field(
        False, description="Launch campaigns although public_url names this machine (demo, tests)."
    )
    api_host: str = Field("127.0.0.1", description="Address on which the API listens.")
    api_port: int = Field(3000, ge=0, le=65535, description="Port of the API; 0: any free one, printed.")
    worker_health_host: str = Field("127.0.0.1", description="Address of the worker's own health endpoint.")
    worker_health_port: int = Field(
        3002,
        ge=0,
        le=65535,
        description="First port tried for the worker's health endpoint; taken ones are skipped, the chosen one is printed. 0: any.",
    )
    trusted_proxies: list[str] = Field(
        [], description="Networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed."
    )
    metrics_networks: list[str] = Field(
        ["127.0.0.0/8", "::1/128"],
        description="Networks that may read metrics and queue statistics without signing in.",
    )
    egress_allow: list[str] = Field(
        [], description="Private networks (CIDR) that senders may connect to; the operator's word, never a tenant's."
    )
    dns_servers: list[str] = Field(
        [],
        description="Name servers asked when a sender's domain is checked, as address or address:port; empty: the system's.",
    )
    test_addresses: list[str] = Field([], description="Who gets test sends besides users: addresses or @domains.")
    max_body_bytes: int = Field(30_000_000, ge=1_000, le=200_000_000, description="Largest request body of the API.")

    # submission by smtp
    submission_host: str = Field(
        "127.0.0.1",
        description="Address on which `outrider submission` listens; other than this machine's own needs submission_certificate.",
    )
    submission_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of SMTP submission (587 is usual; 0: any free one, printed); unset: not offered.",
    )
    submission_health_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="First port tried for health and metrics of the SMTP intake (on worker_health_host); unset: none.",
    )
    submission_certificate: Path | None = Field(
        None,
        description="PEM file with private key and certificate chain for STARTTLS; without it only this machine may sign in.",
    )
    submission_max_bytes: int = Field(
        35_000_000, ge=10_000, le=100_000_000, description="Largest message taken by SMTP, as it comes over the wire."
    )

    # the capture server
    sandbox_password: SecretStr | None = Field(
        None,
        description="Password of the user of `outrider sandbox --user`; unset: --password-file, or asked for on a terminal.",
    )

    # letters that come back
    returns_host: str = Field("127.0.0.1", description="Address on which `outrider returns` listens.")
    returns_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which bounces and complaints come back by SMTP (25, or where your mail server relays to; 0: any "
        "free one, printed); unset: nothing listens.",
    )
    returns_certificate: Path | None = Field(
        None, description="PEM file with private key and certificate chain for STARTTLS of `outrider returns`."
    )
    returns_max_bytes: int = Field(
        10_000_000, ge=10_000, le=100_000_000, description="Largest letter that is taken back; its beginning is read."
    )

    # database
    db_pool_size: int = Field(10, ge=2, le=200, description="Connections per process.")
    db_pool_wait_s: float = Field(
        2.0, ge=0.1, le=60, description="How long a request waits for a connection before it is answered 503."
    )
    statement_timeout_s: float = Field(30.0, ge=1, le=600, description="Longest statement of the API and of a claim.")

    # worker
    claim_batch: int = Field(
        500,
        ge=1,
        le=1000,
        description="Most messages of one claim; a claim is also half a second of work, or what keeps every line to a server busy.",
    )
    lanes_in_flight: int = Field(
        4,
        ge=1,
        le=64,
        description="Claims of one sender, transactional and bulk each, a worker works on at once; a server that hangs holds up no other.",
    )
    lease_s: float = Field(
        30.0, ge=1, le=600, description="How long a claimed message belongs to its worker unless renewed."
    )
    sweep_s: float = Field(
        5.0, ge=0.2, le=60, description="How often expired leases and dead workers' journals are looked for."
    )
    poll_s: float = Field(0.25, ge=0.02, le=10, description="How often a worker looks for work when nothing wakes it.")
    switch_poll_s: float = Field(
        0.5, ge=0.05, le=0.5, description="How often a worker asks for the kill switch when no notification came."
    )
    flush_s: float = Field(0.05, ge=0.005, le=1, description="Longest time an outcome waits to be recorded.")
    flush_count: int = Field(500, ge=1, le=1000, description="Outcomes recorded in one transaction at most.")
    grace_s: float = Field(
        20.0,
        ge=1,
        le=600,
        description=(
            "After SIGTERM: time for messages and jobs in flight before they are handed back. A process that has not "
            "ended 10 s later ends hard: within half a minute in all, which is what most supervisors wait."
        ),
    )
    expand_batch: int = Field(5000, ge=100, le=20000, description="Recipients of a campaign queued per transaction.")
    render_children: int = Field(
        2, ge=1, le=16, description="Most child processes that render templates at the same time; at rest there is one."
    )
    retry_first_s: float = Field(
        30.0,
        ge=0.05,
        le=3600,
        description="A message is tried again up to so much later, at random (full jitter); doubles each time.",
    )
    retry_most_s: float = Field(3600.0, ge=0.05, le=86400, description="Longest delay between two attempts.")
    retry_attempts: int = Field(12, ge=1, le=100, description="Attempts before a deferred message fails for good.")
    heartbeat_s: float = Field(2.0, ge=0.2, le=30, description="How often a process writes its heartbeat.")
    emergency_file: Path | None = Field(
        None,
        description="While this file exists workers send nothing, database or not; unset: data_dir/EMERGENCY_STOP.",
    )

    # jobs
    queue_concurrency: int = Field(
        5,
        ge=1,
        le=1000,
        description="Jobs of one queue that a scheduler process runs at once; a queue's own `worker_concurrency`, changeable while running, goes before it.",
    )
    scheduler_health_port: int = Field(
        3042,
        ge=0,
        le=65535,
        description="First port tried for the scheduler's health endpoint (on worker_health_host); taken ones are skipped. 0: any.",
    )
    schedule_least_minutes: int = Field(
        5, ge=1, le=1440, description="How close two planned times of a schedule may be."
    )

    # connections that cannot be reached
    circuit_failures: int = Field(
        3,
        ge=1,
        le=100,
        description="Batches in a row that reach nobody by a connection until it is left alone for a while.",
    )
    circuit_open_s: float = Field(
        15.0, ge=0.1, le=3600, description="How long such a connection is left alone; twice as long each time again."
    )
    circuit_open_most_s: float = Field(60.0, ge=0.1, le=86_400, description="The longest it is left alone.")
    circuit_refused_s: float = Field(
        60.0,
        ge=0.1,
        le=3600,
        description="How often one message tries a connection whose account is refused: wrong password, suspended.",
    )
    circuit_close_after: int = Field(
        1000, ge=1, le=1_000_000, description="Messages that go slowly by a connection again until it is trusted."
    )

    # money
    bill_days: int = Field(
        7,
        ge=1,
        le=90,
        description="For how many days a provider that names its prices later is asked what a message cost; what has none by "
        "then costs what was reserved.",
    )

    # opens and clicks
    tracking_flush_s: float = Field(
        0.1, ge=0.01, le=5, description="Longest time an opening or click waits in memory to be stored."
    )
    tracking_wait_s: float = Field(
        3.0, ge=0, le=60, description="How long openings and clicks of a message wait for each other to be judged."
    )
    tracking_soon_s: float = Field(
        2.0, ge=0, le=600, description="Opened or followed this soon after being handed over: a machine, not a person."
    )
    tracking_burst_s: float = Field(
        2.0, ge=0, le=60, description="Three different links of one message followed within this time: a machine."
    )
    tracking_scanner_networks: list[str] = Field(
        [], description="Networks (CIDR) of mail scanners: what they open and follow is counted as a machine's."
    )

    # sign-up forms
    signup_confirm_hours: int = Field(48, ge=1, le=720, description="How long the link of a confirmation works.")
    signup_mails_per_address: int = Field(
        3, ge=1, le=20, description="Confirmations asked of one address within a day, by all forms of a tenant."
    )
    signup_mails_per_hour: int = Field(
        500, ge=1, le=1_000_000, description="Confirmations a tenant's forms ask for within an hour, of all addresses."
    )

    # sign-in
    session_idle_s: int = Field(
        7200, ge=60, le=2_592_000, description="A session ends after this long without a request."
    )
    session_absolute_s: int = Field(
        43200, ge=60, le=2_592_000, description="A session ends after this long in any case."
    )
    login_attempts: int = Field(
        10, ge=3, le=100, description="Wrong passwords before an account is locked for login_lock_s."
    )
    login_lock_s: int = Field(900, ge=1, le=86400, description="How long a locked account stays locked.")
    api_rate_per_s: float = Field(
        200.0,
        ge=1,
        le=100_000,
        description="Requests per second per key and API process before 429; bursts of twice that pass.",
    )

    # retention
    keep_messages_days: int = Field(
        400, ge=7, le=1080, description="Messages, their events and rollups, by whole monthly partition."
    )
    keep_contents_days: int = Field(
        90, ge=1, le=1080, description="Inline contents without open messages and without template."
    )
    keep_idempotency_hours: int = Field(48, ge=24, le=720, description="Idempotency keys.")
    keep_audit_days: int = Field(1095, ge=30, le=3650, description="Audit log; the head of the chain is kept for ever.")
    keep_imports_days: int = Field(90, ge=1, le=1080, description="Import records and their row errors.")
    keep_import_changes_days: int = Field(
        30, ge=1, le=1080, description="What each import changed; so long an import can be undone."
    )
    keep_jobs_days: int = Field(
        30, ge=1, le=1080, description="Jobs that succeeded or were deleted, with their history of states."
    )
    keep_failed_jobs_days: int = Field(90, ge=1, le=1080, description="Failed jobs, with their history of states.")
    keep_schedule_runs_days: int = Field(
        400, ge=7, le=1080, description="History of schedules: what ran, what was skipped and what was missed."
    )
    keep_exports_days: int = Field(30, ge=1, le=1080, description="Records of exports: who asked for what, and when.")
    keep_export_files_hours: int = Field(
        24, ge=1, le=720, description="Files of exports; personal data that nobody should forget on a disk."
    )
    keep_signups_days: int = Field(
        30,
        ge=1,
        le=400,
        description="Sign-ups that ended or were never confirmed; the proof of a consent stays with the contact.",
    )
    keep_callbacks_days: int = Field(
        90, ge=1, le=1080, description="Callbacks of providers, and how often some were refused."
    )
    keep_workers_days: int = Field(7, ge=1, le=90, description="Records of processes that are gone.")
    partitions_ahead: int = Field(3, ge=1, le=12, description="Monthly partitions made in advance.")

    @classmethod
    def settings_customise_sources(  # noqa: D102 - pydantic's hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        path = os.environ.get("OUTRIDER_CONFIG")
        file = (_ConfigFile(settings_cls, toml_file=Path(path)),) if path else ()
        return (init_settings, env_settings, *file)

    @model_validator(mode="before")
    @classmethod
    def _links_go_to_its_own_port(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Links to this machine lead to the port the API listens on, unless somebody says otherwise."""
        port = str(values.get("api_port", ""))
        if "public_url" in values or not port.isdecimal() or not int(port):
            return values
        return {**values, "public_url": f"http://localhost:{int(port)}"}

    @field_validator("public_url")
    @classmethod
    def _public_url_is_a_base(cls, value: str) -> str:
        parts = urlsplit(value)
        extras = parts.username or parts.query or parts.fragment
        if parts.scheme not in {"http", "https"} or not parts.hostname or extras:
            message = "must be http(s)://host[:port][/path] without user, query or fragment"
            raise ValueError(message)
        return value.rstrip("/")

    @field_validator("trusted_proxies", "metrics_networks", "egress_allow", "tracking_scanner_networks")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("dns_servers")
    @classmethod
    def _name_servers(cls, value: list[str]) -> list[str]:
        return [text for text in value if name_server(text)]

    @cached_property
    def emergency_path(self) -> Path:
        """The file that stops workers without a database."""
        return self.emergency_file or self.data_dir / "EMERGENCY_STOP"

    @cached_property
    def key_path(self) -> Path:
        """Where the secret key is read from when it is not in the environment."""
        return self.secret_key_file or self.data_dir / "secret.key"

    @cached_property
    def journal_dir(self) -> Path:
        """Where workers of this machine keep their journals, so that siblings find them."""
        return self.data_dir / "journals"

    @cached_property
    def egress_networks(self) -> list[IPv4Network | IPv6Network]:
        """`egress_allow`, parsed."""
        return [ip_network(network) for network in self.egress_allow]

    @cached_property
    def public_host_is_local(self) -> bool:
        """Whether links built from public_url lead only to this machine."""
        return is_local_host(urlsplit(self.public_url).hostname or "")


def load(**overrides: Any) -> Settings:
    """Read and check the settings.

    Raises:  Misconfigured(invalid_settings) with one line per wrong setting, values of secrets never shown.
    """
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("OUTRIDER_")
        and name.removeprefix("OUTRIDER_").lower() not in Settings.model_fields
        and name != "OUTRIDER_CONFIG"
    )
    if unknown:
        raise Misconfigured(
            "unknown_setting", f"no such setting: {', '.join(unknown)}; `outrider settings` lists them all"
        )
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"OUTRIDER_{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}" for item in error.errors()
        ]
        raise Misconfigured("invalid_settings", "; ".join(lines)) from None
    except SettingsError as error:
        name = re.search(r'field "(\w+)"', str(error))
        if name is None:
            raise Misconfigured("invalid_settings", f"settings cannot be read: {error}") from None
        why = f'OUTRIDER_{name[1].upper()}: must be a JSON list such as ["127.0.0.0/8"]'
        raise Misconfigured("invalid_settings", why) from None
    except (tomllib.TOMLDecodeError, OSError, ValueError) as error:
        raise Misconfigured("invalid_settings", f"settings cannot be read: {error}") from None
    _check_together(settings)
    return settings


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    return host in {"localhost", "::1"} or host.startswith("127.")


def _check_together(settings: Settings) -> None:
    """Refuse combinations that would lose or double messages, saying what would happen."""
    if settings.retry_most_s < settings.retry_first_s:
        raise Misconfigured(
            "invalid_settings", "OUTRIDER_RETRY_MOST_S is less than OUTRIDER_RETRY_FIRST_S: retries could not back off"
        )
    if settings.session_absolute_s < settings.session_idle_s:
        raise Misconfigured(
            "invalid_settings",
            "OUTRIDER_SESSION_ABSOLUTE_S is less than OUTRIDER_SESSION_IDLE_S: the idle limit would never apply",
        )
    if settings.submission_certificate is None and not _is_loopback(settings.submission_host):
        raise Misconfigured(
            "invalid_settings",
            "OUTRIDER_SUBMISSION_HOST is reachable from elsewhere, but without OUTRIDER_SUBMISSION_CERTIFICATE nobody there "
            "could sign in: keys never go over the wire in the clear",
        )
    if settings.sweep_s > settings.lease_s:
        raise Misconfigured(
            "invalid_settings",
            "OUTRIDER_SWEEP_S is greater than OUTRIDER_LEASE_S: messages of dead workers would wait too long",
        )
