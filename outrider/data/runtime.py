"""What a process works with, made once by the app and handed downwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.base.secret import Keyring
from outrider.base.settings import Settings
from outrider.base.signing import LinkSigner
from outrider.contracts.channel import Channel, Renderer
from outrider.contracts.gate import Gate
from outrider.contracts.jobs import Jobs, NoJobs
from outrider.contracts.provider import Egress, Provider
from outrider.data.bell import Bell
from outrider.data.db import Database


@dataclass(frozen=True, slots=True)
class Runtime:
    """The pool, the key, the plugins and the pipes of one process.

    `gates` are in their order; `jobs` enqueues by a type's key and knows every type; `database_url` is the resolved one
    (embedded or given).
    """

    settings: Settings
    database_url: str
    db: Database
    keyring: Keyring
    unsubscribe_links: LinkSigner
    egress: Egress
    renderer: Renderer
    channels: Mapping[str, Channel]
    providers: Mapping[str, Provider]
    gates: tuple[Gate, ...]
    bell: Bell = field(default_factory=Bell)
    jobs: Jobs = field(default_factory=NoJobs)
