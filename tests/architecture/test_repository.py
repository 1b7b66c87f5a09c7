"""The repository as a stranger finds it: rooms explain themselves, nothing local is named."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = sorted(
    path
    for path in (ROOT / "src/strongroom").iterdir()
    if path.is_dir() and any(module.stem != "__init__" for module in path.rglob("*.py"))
)


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_room_opens_with_its_invariant(room: Path) -> None:
    """DESIGN.md begins with the one thing the room guarantees."""
    lines = [line for line in (room / "DESIGN.md").read_text().splitlines() if line.strip()]
    assert lines[0].startswith("# ")
    assert lines[1].startswith("**Invariant.**")


def test_requirement_files_are_pinned_by_hash_and_record_no_address() -> None:
    """They install reproducibly from whatever index the machine uses."""
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text), path.name
        pins = re.findall(r"^[A-Za-z0-9].*$", text, re.M)
        assert all("==" in pin and pin.rstrip().endswith("\\") for pin in pins), path.name


def test_the_agent_needs_nothing() -> None:
    """The agent's requirement file is there and empty."""
    assert [
        line
        for line in (ROOT / "requirements/agent.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ] == []


def test_scripts_are_executable_and_syntactically_sound() -> None:
    """The two commands of the README and the one of CI run as they are."""
    for name in ("script/dev", "script/test", "script/lock", ".ci/run"):
        path = ROOT / name
        assert path.stat().st_mode & 0o111, name
        subprocess.run(["bash", "-n", str(path)], check=True)


def test_decisions_are_written_down() -> None:
    """Each says what was decided, why, and what it costs; numbers have no gap."""
    records = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:4] for path in records] == [
        f"{number:04}" for number in range(1, len(records) + 1)
    ]
    assert len(records) >= 4
    for path in records:
        text = path.read_text()
        assert all(part in text for part in ("**Decided.**", "**Why.**", "**What it costs.**")), (
            path.name
        )


def test_documents_a_stranger_looks_for_are_there() -> None:
    """README, licence, change log, security policy and how to contribute."""
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"):
        assert (ROOT / name).stat().st_size > 200, name


def _anchors(page: Path) -> set[str]:
    """What its headings are called in a link, as GitHub does it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    heads = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in heads}


def test_links_between_pages_lead_somewhere() -> None:
    wrong, read = [], 0
    for page in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("src/**/DESIGN.md"),
    ]:
        text = re.sub(r"^```.*?^```$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith("https://"):
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            read += 1
            if not target.exists() or (anchor and anchor not in _anchors(target)):
                wrong.append(f"{page.relative_to(ROOT)}: {link}")
    assert wrong == []
    assert read > 30


def test_every_page_is_reached_from_the_readme() -> None:
    seen, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", page.read_text())
        left += [(page.parent / each).resolve() for each in links]
    assert {*(ROOT / "docs").glob("*.md")} - seen == set()
