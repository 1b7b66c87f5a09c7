"""Which PostgreSQL the tests run on."""

from pathlib import Path

import pytest

from strongroom.app.dev.postgres import program_folders
from strongroom.model.errors import Unavailable


def _server(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "postgres").touch()
    return folder


def test_the_newest_installed_release_is_used(tmp_path: Path) -> None:
    newest = _server(tmp_path / "15" / "bin")
    _server(tmp_path / "9" / "bin")
    assert program_folders("", tmp_path) == (newest,)


def test_a_named_release_comes_first_and_what_it_lacks_from_the_installed_one(
    tmp_path: Path,
) -> None:
    installed = _server(tmp_path / "installed" / "15" / "bin")
    named = _server(tmp_path / "named")
    assert program_folders(str(named), tmp_path / "installed") == (named, installed)
    assert program_folders(str(named), tmp_path / "none") == (named,)


@pytest.mark.parametrize("named", ["", "empty"])
def test_no_server_is_a_refusal_and_never_another_release(tmp_path: Path, named: str) -> None:
    installed = tmp_path / "installed"
    if named:
        _server(installed / "15" / "bin")
    with pytest.raises(Unavailable) as caught:
        program_folders(named and str(tmp_path / named), installed)
    assert caught.value.code == "no-postgres"
