"""The documentation cannot drift: generated pages are what the code says, and every table has a retention."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider.base.settings import Settings
from outrider.contracts.outcome import CAUSES
from tests.kit.statements import PACKAGE, ROOT
from tools.reference import client
from tools.reference.__main__ import pages
from tools.reference.errors import every_error
from tools.reference.tables import described

REFERENCE = ROOT / "docs" / "reference"
NAMES = ("api.md", "cli.md", "settings.md", "errors.md", "plugins.md", "tables.md")
GUIDES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")])
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@pytest.fixture(scope="module")
async def made(contract_url: str) -> dict[str, str]:
    """Every generated page, made anew."""
    return await pages(contract_url)


@pytest.mark.parametrize("name", NAMES)
def test_a_generated_page_is_what_the_code_says(name: str, made: dict[str, str]) -> None:
    assert set(made) == set(NAMES)
    assert (REFERENCE / name).read_text(encoding="utf-8") == made[name], "run `make docs`"


def test_the_synchronous_client_is_the_asynchronous_one_without_waiting() -> None:
    for name, text in client.render().items():
        assert (client.PACKAGE / name).read_text(encoding="utf-8") == text, "run `make docs`"


def test_every_setting_and_cause_and_error_is_described() -> None:
    page = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        assert f"`OUTRIDER_{name.upper()}`" in page
        assert field.description, f"{name} has no description"
    assert len(every_error()) > 100
    for error in every_error():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", error.code), f"{error.code!r} is no stable code"
        assert error.message, f"{error.code} says nothing"
    for cause in CAUSES.values():
        assert cause.remedy
        assert cause.why


def test_every_table_says_how_long_its_rows_stay() -> None:
    for name, facts in described().items():
        assert set(facts) == {"purpose", "kept"}, name
        named = set(re.findall(r"OUTRIDER_([A-Z_]+)", facts["kept"]))
        assert {setting.lower() for setting in named} <= set(Settings.model_fields), f"{name}: no such setting"
        assert named or re.match(r"for ever|until|with |emptied|about a second", facts["kept"]), name
    kept = " ".join(facts["kept"] for facts in described().values())
    for setting in Settings.model_fields:
        if setting.startswith("keep_"):
            assert f"OUTRIDER_{setting.upper()}" in kept, f"{setting} bounds no table"
            used = [path for path in PACKAGE.rglob("*.py") if f".{setting}" in path.read_text(encoding="utf-8")]
            assert used, f"nothing reads {setting}: its rows stay for ever"


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]), ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)):
        target, _, anchor = match["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        file = page if not target else (page.parent / target).resolve()
        assert file.exists(), f"{page.name} links to {match['target']}"
        if anchor and file.suffix == ".md":
            anchors = {_anchor(line) for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")}
            assert anchor in anchors, f"{page.name} links to {match['target']}"


@pytest.mark.parametrize("page", GUIDES, ids=str)
def test_every_command_that_a_page_names_is_there_with_its_options(page: Path) -> None:
    known = _commands()
    groups = {name.rpartition(" ")[0] for name in known}
    for line in _code(page.read_text(encoding="utf-8").replace("\\\n", " ")):
        for command in re.findall(r"(?:^|\s)(outrider [a-z][^|;&<>()#]*)", re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", line)):
            words = command.split()
            name = " ".join(words[:3]) if " ".join(words[:2]) in groups and " ".join(words[:3]) in known else ""
            name = name or " ".join(words[:2])
            assert name in known, f"{page.name}: no such command: {command}"
            is_group_alone = name in groups and len(words) > 2 and re.match("[a-z]", words[2])
            assert not is_group_alone, f"{page.name}: no such command: {command}"
            named = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
            assert named <= known[name] | {"--help"}, f"{page.name}: no such option: {command}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        targets = [match["target"].partition("#")[0] for match in LINK.finditer(page.read_text(encoding="utf-8"))]
        waiting += [(page.parent / target).resolve() for target in targets if target and ":" not in target]
    lost = {page.relative_to(ROOT) for page in (ROOT / "docs").rglob("*.md")} - {
        page.relative_to(ROOT) for page in seen
    }
    assert not lost, f"no page links to {sorted(map(str, lost))}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=lambda page: page.name)
def test_a_decision_fits_its_form_and_names_what_enforces_it(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.match(rf"# {page.name[:4]}: \S", text)
    assert "**Status:**" in text
    assert re.search(r"^## Question$", text, re.MULTILINE)
    assert re.search(r"[Ee]nforced by|`tests/|`test_", text), "name what enforces it"
    assert text.count("\n") <= 120, "a decision fits one page"
    for named in re.findall(r"`((?:tests|bench|outrider|tools)/[\w./]+?\.(?:py|sql|mjs))`", text):
        assert (ROOT / named).exists(), f"{named} is not there"


def _anchor(heading: str) -> str:
    """The anchor that Markdown renderers give a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.lstrip("# ").lower())
    return text.replace(" ", "-")


def _commands() -> dict[str, set[str]]:
    """Every command with its options, as the generated page lists them."""
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    sections = re.findall(r"^#{2,3} (outrider [a-z -]+)\n(.*?)(?=^#{2,3} |\Z)", page, re.MULTILINE | re.DOTALL)
    return {
        name: {option for line in re.findall(r"^\* `([^`]*)`", text, re.MULTILINE) for option in _options(line)}
        for name, text in sections
    }


def _options(line: str) -> list[str]:
    return re.findall(r"--[a-z][a-z-]*", line)


def _code(text: str) -> list[str]:
    """Lines of blocks of code, and what stands between backticks in a sentence."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    rest = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines()] + [
        " ".join(each.split()) for each in re.findall(r"`([^`]*)`", rest)
    ]
