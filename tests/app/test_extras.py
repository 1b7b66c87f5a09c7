"""A part that is not installed is named, with the extra that brings it."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tests.app.transcript import environment

from strongroom.app.extras import OWN, SHARED, extra_with
from strongroom.app.main import VERBS

ROOT = Path(__file__).parents[2]
WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from strongroom.app.main import main
sys.exit(main(sys.argv[2:]))
"""


def test_every_package_of_an_extra_is_brought_by_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names: dict[str, set[str]] = {}
    for module, distributions in packages_distributions().items():
        for each in distributions:
            names.setdefault(each.lower(), set()).add(module)
    seen = set()
    for extra, wanted in project["optional-dependencies"].items():
        command = {"postgres": "server", "pkcs11": "kms"}.get(extra, extra)
        for each in wanted:
            distribution = each.partition(">=")[0].lower()
            modules = {m for m in names.get(distribution, ()) if not m.startswith("_")}
            found = {extra_with(module, command) for module in modules} - {""}
            seen |= found
            assert distribution.startswith("strongroom[") or extra in found, (extra, each)
    assert seen >= {"server", "postgres", "operator", "kms"}
    assert extra_with("nosuch", "server") == ""


def test_an_extra_that_is_named_brings_the_package() -> None:
    """A hint to install what is installed already helps nobody."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]

    def brought(extra: str) -> set[str]:
        found = set()
        for each in extras[extra]:
            inner = each.removeprefix("strongroom[").removesuffix("]")
            found |= brought(inner) if inner in extras else {each.partition(">=")[0].lower()}
        return found

    names = packages_distributions()
    for module in (*OWN, *SHARED):
        for command in VERBS:
            extra = extra_with(module, command)
            assert {each.lower() for each in names[module]} & brought(extra), (module, command)
    assert extra_with("jwt", "operator") == extra_with("msgspec", "kms") == "server"


@pytest.mark.long
@pytest.mark.parametrize("words", ["audit --help", "audit timeline --help", "completion bash"])
def test_help_and_completion_need_no_packages(words, tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "msgspec", *words.split()], cwd=tmp_path,
        env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("re2", "template render greeting.tpl", "operator"),
        ("asyncpg", "server --data d --seal-key-file k --listen 127.0.0.1:0"
         " --database postgresql://u@h/d", "postgres"),
        ("aiohttp", "status", "server"),
    ],
)  # fmt: skip
def test_a_command_without_its_packages(module, words, extra, tmp_path) -> None:
    (tmp_path / "greeting.tpl").write_text("hello")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, *words.split()], cwd=tmp_path,
        env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"the package {module} is not installed" in done.stderr
    assert done.stderr.endswith(f"hint: pip install 'strongroom[{extra}]'\n")
