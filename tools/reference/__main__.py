"""Write every generated page; see the package."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from outrider.data import migrate
from outrider.data.embedded_postgres import ensure
from tools.reference import api, cli, client, errors, plugins, settings, tables

REFERENCE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference"


async def pages(migrated_url: str) -> dict[str, str]:
    """File name -> text of every generated page."""
    return {
        "api.md": api.render(),
        "cli.md": cli.render(),
        "settings.md": settings.render(),
        "errors.md": errors.render(),
        "plugins.md": plugins.render(),
        "tables.md": await tables.render(migrated_url),
    }


def main() -> None:
    """Make a throw-away database for the schema, then write the pages."""
    with tempfile.TemporaryDirectory(prefix="outrider-docs-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # as root the server runs as somebody else, who must get through
        with ensure(home / "postgresql") as server:
            asyncio.run(migrate.upgrade(server.url))
            made = asyncio.run(pages(server.url))
    for name, text in made.items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"docs/reference/{name}: {text.count(chr(10))} lines")
    client.write()


if __name__ == "__main__":
    main()
