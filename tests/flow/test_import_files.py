"""Import on a real database: what arrives, what is refused, and that nothing a recipient said is undone."""

from __future__ import annotations

from pathlib import Path

from tests.kit.audience import import_file, opened, write_csv


async def test_importing_the_same_file_twice_makes_nobody_new(migrated_url: str, tmp_path: Path) -> None:
    rows = [[f"p{n}@example.org", f"Person {n}", "de", f"town {n}"] for n in range(12_345)]
    path = write_csv(tmp_path / "people.csv", ["E-Mail", "Name", "locale", "Home Town"], rows)
    async with opened(migrated_url) as audience:
        first = await import_file(audience, path)
        second = await import_file(audience, path)
    assert (first.state, first.row_count, first.created_count) == ("completed", 12_345, 12_345)
    assert (second.state, second.created_count, second.unchanged_count) == ("completed", 0, 12_345)
    assert second.id != first.id
