"""The plugin as a process whose backend does not let it in: signals, and a PIN that is offered once."""

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.app.main import main
from strongroom.app.waiting import until
from strongroom.crypto.keyfile import create_key_file
from strongroom.encrypt.kms.keeper import Keeper
from strongroom.encrypt.kms.keys import Backends, Place, make
from strongroom.encrypt.kms.plugin import ask_status
from strongroom.encrypt.kms.standing import Policy, Standing
from strongroom.encrypt.kms.state import first, save
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Unavailable
from strongroom.wire.keywrap.kinds import build

CLOCK = SystemClock()
PLACE = Place("strongroom", "c")


class Waiting:
    """`kms serve` of a new installation, whose key file is not there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        backend = {"name": "file", "type": "key_file", "path": str(folder / "key")}
        config = {"socket": f"{folder}/s", "state": f"{folder}/state", "backends": [backend]}
        (folder / "kms.yaml").write_text(json.dumps(config))
        words = ["-m", "strongroom", "kms", "serve", "--config", str(folder / "kms.yaml")]
        self.process = subprocess.Popen(
            [sys.executable, *words], stderr=(folder / "log").open("wb")
        )

    async def says(self, word: str) -> None:
        async def said() -> bool | None:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            return True if word in (self.folder / "log").read_text() else None

        await until(f"{word!r} in the log", said, CLOCK, seconds=120)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    with tempfile.TemporaryDirectory(prefix="sr-") as folder:
        made = Waiting(Path(folder))
        yield made
        made.process.kill()
        made.process.wait()


async def test_a_new_plugin_that_waits_for_its_backend_reloads_and_stops(waiting: Waiting) -> None:
    """Neither signal is lost while no backend wraps the first key."""
    await waiting.says("no-quorum")
    with pytest.raises(Unavailable, match="starting"):
        await ask_status(waiting.folder / "s")
    create_key_file(waiting.folder / "key")
    waiting.process.send_signal(signal.SIGHUP)
    await waiting.says("made the first key")

    async def ready() -> bool | None:
        try:
            return (await ask_status(waiting.folder / "s")).healthz == "ok" or None
        except Unavailable:
            return None

    await until("the plugin", ready, CLOCK, seconds=120)
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.process.wait(120) == 0
    assert not (waiting.folder / "s").exists()


@pytest.mark.long
async def test_a_new_plugin_that_waits_for_its_backend_stops_when_told(waiting: Waiting) -> None:
    await waiting.says("no-quorum")
    waiting.process.send_signal(signal.SIGTERM)
    assert waiting.process.wait(120) == 0


@pytest.mark.component
async def test_a_token_is_offered_a_wrong_pin_once_for_all_probes_and_once_for_each_reload(
    softhsm, tmp_path: Path, caplog
) -> None:
    """An HSM locks after a few; the plugin probes every ten seconds, and searches besides."""
    pin_file = tmp_path / "pin"
    pin_file.write_text("1234")
    hsm = build({"name": "hsm", "type": "pkcs11", **softhsm, "pin_file": str(pin_file)}, CLOCK)
    backends = Backends((hsm,))
    entry, _ = await make(backends, PLACE, 1.0)
    save(tmp_path / "state", first(entry))
    keeper = Keeper(tmp_path / "state", backends, PLACE, Policy(), SimulatedClock())

    def offered() -> int:
        return sum("refused the PIN" in each.message for each in caplog.records)

    pin_file.write_text("4321")
    for _ in range(5):
        await keeper.probe()
        await keeper.find("nobody-knows")
    assert (offered(), keeper.snapshot.standing) == (1, Standing.STARTING)
    assert "does not take the PIN" in keeper.snapshot.reason
    # A person says so.
    await keeper.reload()
    await keeper.probe()
    assert offered() == 2
    # Another PIN in the file is offered without a word.
    pin_file.write_text("1234")
    await keeper.probe()
    assert (offered(), keeper.snapshot.standing) == (2, Standing.READY)


def test_what_is_not_well_has_its_status_in_either_format(tmp_path: Path, capsys) -> None:
    state = {"version": 2, "epoch": 1, "current": "a", "pending": "", "promoted": 0}
    key = {"id": "a", "created": 0, "threshold": 1, "wraps": []}
    (tmp_path / "state").write_text(json.dumps({**state, "keys": [key]}))
    config = tmp_path / "kms.yaml"
    backend = {"name": "file", "type": "key_file", "path": f"{tmp_path}/key"}
    given = {"socket": f"{tmp_path}/s", "state": f"{tmp_path}/state", "backends": [backend]}
    config.write_text(json.dumps(given))
    for form in ("table", "json"):
        assert main(["kms", "status", "--config", str(config), "--format", form]) == 1
    assert main(["kms", "serve", "--config", str(config), "--create-key"]) == 2
    assert "[two-keys]" in capsys.readouterr().err
