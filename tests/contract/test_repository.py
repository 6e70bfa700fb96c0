"""Rules of the repository itself: what it may contain, how large things may grow, and that its promises are kept."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.kit.statements import ROOT

LONGEST_FILE_LINES = 400
LONG_FILES: dict[str, str] = {
    # path -> why it may be longer than 400 lines
    "outrider/migrations/versions/0001_foundation.py": "the whole first schema, made in one transaction",
    "outrider/base/settings.py": "every setting with its default and description: the one documented file",
    "outrider/domain/messages/queries.sql": "every statement of the ledger and its queue: one table, one file",
}
LONGEST_FUNCTION_LINES = 80
ALLOWED_CALLS = {
    # opportunistic TLS (RFC 7435): encryption where the choice is plain text; never carries a password
    ("outrider/plugins/providers/smtp/handshake.py", "context.verify_mode = ssl.CERT_NONE"),
}
REGISTRY_HOSTS = re.compile(
    r"\b(?:pypi\.(?:org|python\.org)|files\.pythonhosted\.org|(?:registry|www)\.npmjs\.(?:org|com)|npmmirror\.com|registry\.yarnpkg\.com"
    r"|crates\.io|proxy\.golang\.org|rubygems\.org|repo\.maven\.apache\.org|conda\.anaconda\.org|artifactory|nexus\.)"
    r"|/simple/(?:\s|$)|extra-index-url|--index-url|find-links\s*=",
    re.IGNORECASE,
)
THIS_FILE = "tests/contract/test_repository.py"
MACHINE_PATHS = re.compile(
    r"(?<![\w.$}])/(?:root|work|opt/wheels|Users|home/(?!outrider\b|nobody\b|ordinary\b|you\b)\w+)/[\w.]"
)
ROLE_NAMES = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "manager",
    "managers",
    "service",
    "services",
    "core",
    "misc",
}
TEXT_SUFFIXES = {
    ".py", ".sql", ".toml", ".md", ".txt", ".lock", ".json", ".mjs", ".js", ".ts", ".tsx", ".yml", ".yaml", ".html",
    ".css", ".mako", ".sh", ".cfg", ".ini", "",
}  # fmt: skip


def committed() -> list[Path]:
    """Every file of the repository, also what is not committed yet, without what git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file()]


FILES = committed()
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in FILES if path.suffix in TEXT_SUFFIXES
}
MODULES = {name: text for name, text in TEXTS.items() if name.startswith("outrider/") and name.endswith(".py")}


def test_the_walk_finds_the_repository() -> None:
    assert {"README.md", "pyproject.toml", "requirements.lock", "Makefile", ".ci/run"} <= set(TEXTS)
    assert len(MODULES) > 40


def test_no_file_names_a_package_registry() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in TEXTS.items()
        if name != THIS_FILE
        for number, line in enumerate(text.splitlines(), 1)
        if REGISTRY_HOSTS.search(line)
    ]
    assert not found, "where packages come from is each machine's own setting:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "line", ["--index-url https://x/", "https://files.pythonhosted.org/a", '"https://registry.npmjs.org/x"']
)
def test_the_scan_for_registries_recognises_them(line: str) -> None:
    assert REGISTRY_HOSTS.search(line)


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in TEXTS.items()
        if name != THIS_FILE
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATHS.search(line)
    ]
    assert not found, "\n".join(found)


def test_every_python_package_is_pinned_by_hash() -> None:
    lock = TEXTS["requirements.lock"]
    pins = re.findall(r"^([a-z0-9._-]+)==\S+( \\)?$", lock, flags=re.MULTILINE)
    assert len(pins) > 50
    assert all(continued for _, continued in pins), "a package without a hash"
    assert set(re.findall(r"--hash=(\w+):", lock)) == {"sha256"}
    assert "@" not in re.sub(r"#.*", "", lock), "a package from an address"
    assert not (ROOT / "uv.lock").exists() or "uv.lock" not in TEXTS, "uv.lock records where packages were downloaded"


def test_the_lock_has_every_package_that_the_project_asks_for() -> None:
    project = TEXTS["pyproject.toml"]
    asked = {
        re.split(r"[\[><=~!; ]", requirement)[0].lower().replace("_", "-")
        for block in re.findall(r"^(?:dependencies|dev) = \[(.*?)^\]", project, flags=re.MULTILINE | re.DOTALL)
        for requirement in re.findall(r'^\s*"([^"]+)"', block, flags=re.MULTILINE)
    }
    pinned = {
        name.replace("_", "-")
        for name in re.findall(r"^([a-z0-9._-]+)==", TEXTS["requirements.lock"], flags=re.MULTILINE)
    }
    assert len(asked) > 30
    assert asked <= pinned, f"run `make lock`: {sorted(asked - pinned)}"


def test_node_locks_pin_by_hash_and_name_no_address() -> None:
    locks = [name for name in TEXTS if name.endswith("package-lock.json")]
    assert locks
    for name in locks:
        packages = json.loads(TEXTS[name])["packages"]
        assert not [key for key, package in packages.items() if "resolved" in package and not package.get("link")], name
        assert [
            key for key, package in packages.items() if key and not package.get("link") and "integrity" not in package
        ] == [], name


def test_make_has_few_targets_and_helps_with_each() -> None:
    makefile = TEXTS["Makefile"]
    targets = re.findall(r"^([a-z-]+):(?!=)(.*)$", makefile, flags=re.MULTILINE)
    assert 5 <= len(targets) <= 12
    assert [name for name, rest in targets if "## " not in rest] == [], "a target without a line of help"
    assert {"help", "setup", "demo", "test", "check", "up", "bench", "docs", "clean"} <= {name for name, _ in targets}


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert re.search(r"^exec env CI=1 make test$", TEXTS[".ci/run"], flags=re.MULTILINE)
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert re.search(r"^make test\b", TEXTS["README.md"], flags=re.MULTILINE)


@pytest.mark.parametrize(
    "name", sorted(name for name in TEXTS if name.startswith("outrider/") and name.endswith((".py", ".sql")))
)
def test_a_file_stays_readable_in_one_sitting(name: str) -> None:
    lines = TEXTS[name].count("\n")
    assert lines <= LONGEST_FILE_LINES or name in LONG_FILES, f"{lines} lines: split it by what it owns"
    assert lines > LONGEST_FILE_LINES or name not in LONG_FILES, "no longer needs its exception"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_says_what_it_is_and_its_functions_stay_short(name: str) -> None:
    tree = ast.parse(MODULES[name])
    assert ast.get_docstring(tree), "needs a docstring: what it owns and what it never does"
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION_LINES
    ]
    assert not long, long


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_stand_at_the_top_and_are_real(name: str) -> None:
    tree = ast.parse(MODULES[name])
    inside = [
        f"line {inner.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.If, ast.Lambda))
        for inner in ast.walk(node)
        if isinstance(inner, (ast.Import, ast.ImportFrom))
        and _is_ours(inner)
        and not name.startswith(("outrider/app", "outrider/interfaces/cli"))
    ]
    assert not inside, f"imports of our own inside functions or conditions hide rings: {inside}"


def test_files_are_named_after_what_they_are() -> None:
    found = [name for name in MODULES if set(Path(name).with_suffix("").parts) & ROLE_NAMES]
    assert not found


def test_no_dangerous_call_is_anywhere_in_the_product() -> None:
    """Checklist 6, 10, 14, 66: no shell, no eval, no unpickling, no unsafe YAML, no MD5, no random tokens."""
    forbidden = re.compile(
        r"\bpickle\b|\bmarshal\.loads\b|\byaml\.load\(|\bshell\s*=\s*True|\bos\.system\(|\bos\.popen\(|\bhashlib\.md5\b"
        r"|(?<![.\w])eval\(|(?<![.\w])exec\(|\bverify\s*=\s*False\b|\bverify_mode\s*=\s*ssl\.CERT_NONE\b|\b_create_unverified_context\b"
    )
    found = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in MODULES.items()
        for number, line in enumerate(text.splitlines(), 1)
        if forbidden.search(line.partition("#")[0]) and (name, line.strip()) not in ALLOWED_CALLS
    ]
    assert not found, "\n".join(found)


def test_every_suppressed_warning_gives_its_reason() -> None:
    suppressed = re.compile(r"#\s*(?:noqa(?::\s*[A-Z0-9, ]+)?|type:\s*ignore(?:\[[\w, -]+\])?)(?P<why>.*)$")
    found = [
        f"{name}:{number}: {line.strip()[-100:]}"
        for name, text in TEXTS.items()
        if name.endswith(".py") and name != THIS_FILE
        for number, line in enumerate(text.splitlines(), 1)
        if (match := suppressed.search(line))
        and not re.search(r"\w{3}", match["why"])
        and not _has_reason_near(text, number)
    ]
    assert not found, "\n".join(found)


def _is_ours(node: ast.Import | ast.ImportFrom) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or (node.module or "").split(".")[0] == "outrider"
    return any(alias.name.split(".")[0] == "outrider" for alias in node.names)


def _has_reason_near(text: str, number: int) -> bool:
    """A comment directly above will do; imports in a row may share the reason of the first one."""
    lines = text.splitlines()
    if number > 1 and lines[number - 2].lstrip().startswith("# "):
        return True
    return any("noqa" in line and " - " in line.partition("noqa")[2] for line in lines[max(0, number - 8) : number - 1])
