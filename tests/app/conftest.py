"""The command line, run in the test's own process against a running store."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from strongroom.app.main import main


class Cli:
    """Runs commands in this process, with a home of their own."""

    def __init__(self, store, capsys, home: Path) -> None:
        self.store, self._capsys, self.home = store, capsys, home

    async def __call__(self, *words: str, expect: int = 0) -> str:
        self._capsys.readouterr()
        try:
            status = await asyncio.to_thread(main, list(words))
        except SystemExit as ended:
            status = ended.code
        out, self.err = self._capsys.readouterr()
        assert status == expect, (status, out, self.err)
        return out

    async def json(self, *words: str):
        return json.loads(await self(*words, "-format=json"))


@pytest.fixture
def cli(store, capsys, tmp_path, monkeypatch) -> Cli:
    for name in [each for each in os.environ if each.startswith("VAULT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_ADDR", store.address)
    monkeypatch.setenv("VAULT_TOKEN", store.root)
    return Cli(store, capsys, tmp_path)
