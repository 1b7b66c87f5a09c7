"""What import-linter cannot say: standard library only, no private imports between rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "strongroom"
PURE = [
    *sorted((SOURCE / "model").rglob("*.py")),
    *sorted((SOURCE / "deliver/agent").rglob("*.py")),
]


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(SOURCE)))
def test_model_and_agent_import_the_standard_library_alone(path: Path) -> None:
    """So that the agent runs in an image that has only an interpreter."""
    allowed = set(sys.stdlib_module_names)
    own = ("strongroom.model", "strongroom.deliver.agent")
    foreign = {
        name
        for name in imported(path)
        if name.split(".")[0] not in allowed and not name.startswith(own)
    }
    assert foreign == set()


def test_no_room_imports_anothers_private_module() -> None:
    """An underscore is a promise to the rest of the code that nobody outside depends on it."""
    offenders = []
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0]
        offenders += [
            f"{path.relative_to(SOURCE)}: {name}"
            for name in imported(path)
            if name.startswith("strongroom.")
            and any(part.startswith("_") for part in name.split("."))
            and name.split(".")[1] != room
        ]
    assert offenders == []


def test_the_command_line_starts_without_loading_rooms() -> None:
    """`strongroom --help` loads no room and no third-party library."""
    program = (
        "import sys; from strongroom.app.main import build_parser; build_parser(None);"
        "print([m for m in sys.modules if m.startswith('strongroom.') and"
        " m.split('.')[1] not in ('app', 'model')], 'aiohttp' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[] False"


def test_an_operator_loads_nothing_that_its_first_object_does_not_need() -> None:
    """How soon it works after a start is how long its modules take to load."""
    program = (
        "import sys; from strongroom.app.main import build_parser;"
        "build_parser('operator', ['operator', '--lease', 'x']);"
        "import strongroom.kube.client, strongroom.kube.config, strongroom.sync.assembly;"
        "import strongroom.sync.generators.states, strongroom.sync.generators.kinds;"
        "import strongroom.sync.providers.vault, strongroom.sync.templates;"
        "print([m for m in ('yaml', 'cryptography', 'strongroom.template',"
        " 'strongroom.app.operator_verbs', 'strongroom.sync.senders', 'strongroom.kube.election')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
