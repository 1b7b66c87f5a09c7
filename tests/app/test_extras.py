"""A part that is not installed is named, with the extra that brings it."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from tests.app.transcript import environment

from strongroom.app.extras import extra_with

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


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "words", "extra"),
    [
        ("re2", "template render greeting.tpl", "operator"),
        ("asyncpg", "server --data d --seal-key-file k --database postgresql://u@h/d", "postgres"),
        ("aiohttp", "status", "server"),
    ],
)
def test_a_command_without_its_packages(module, words, extra, tmp_path) -> None:
    (tmp_path / "greeting.tpl").write_text("hello")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, module, *words.split()], cwd=tmp_path,
        env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert f"the package {module} is not installed" in done.stderr
    assert done.stderr.endswith(f"hint: pip install 'strongroom[{extra}]'\n")
