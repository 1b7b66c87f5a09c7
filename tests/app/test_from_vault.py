"""The script of docs/from-vault.md, run as it stands from one store to another."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.app.test_process_examples import Place, place
from tests.app.transcript import BLOCK

from strongroom.app.cluster.control_plane import free_port
from strongroom.store.assembly import AUTH_METHODS, SECRETS_ENGINES

__all__ = ["place"]  # the fixture
pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
PAGE = (Path(__file__).resolve().parents[2] / "docs/from-vault.md").read_text()


@pytest.fixture
async def sides(place: Place) -> AsyncIterator[Place]:
    """Two stores: old.token and new.token are their roots, and the page's addresses theirs."""
    processes = []
    for side, shown in (
        ("old", "https://vault.example:8200"),
        ("new", "https://store.example:8200"),
    ):
        port = free_port()
        place.paths[shown] = f"http://127.0.0.1:{port}"
        process = place.begin(f"strongroom server -dev -dev-root-token-id={side} "
                              f"-dev-listen-address=127.0.0.1:{port} -dev-no-store-token")  # fmt: skip
        await place.answers(process, f"http://127.0.0.1:{port}/readyz", None)
        (place.folder / f"{side}.token").write_text(side)
        processes.append(process)
    yield place
    for process in processes:
        await place.end(process)


async def test_values_settings_and_policies_are_copied_once(sides: Place) -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    (sides.folder / "copy_store.py").write_text(script)
    (block,) = BLOCK.findall(PAGE)
    copy = "\n".join(line for line in block.splitlines() if "SSL_CERT_FILE" not in line)
    old, new = (
        f"export VAULT_ADDR={sides.paths[f'https://{host}.example:8200']} VAULT_TOKEN={side}\n"
        for host, side in (("vault", "old"), ("store", "new"))
    )
    given = {"n": 12345678901234567, "f": 1.5, "o": {"l": [None, True]}, "text": 'ü "q"'}
    (sides.folder / "given.json").write_text(json.dumps(given))
    await sides.run(f"""set -e; {old}
    strongroom kv put secret/deep/er/x n=1; strongroom kv put secret/deep/er/x @given.json
    strongroom kv metadata put -custom-metadata=owner=me -max-versions=3 -cas-required secret/deep/er/x
    strongroom kv put 'secret/a space' k=v
    strongroom kv put secret/gone k=v; strongroom kv delete secret/gone
    echo 'path "secret/*" {{ capabilities = ["read"] }}' | strongroom policy write app -""")

    said = await sides.run(copy)
    assert set(said.splitlines()) == {
        "copied: secret/deep/er/x",
        "copied: secret/a space",
        "left out, its newest version is deleted: secret/gone",
    }
    assert (
        json.loads(await sides.run(f"{new}strongroom kv get -format=json secret/deep/er/x"))[
            "data"
        ]["data"]
        == given
    )
    kept = json.loads(
        await sides.run(f"{new}strongroom kv metadata get -format=json secret/deep/er/x")
    )
    assert kept["data"]["custom_metadata"] == {"owner": "me"}
    assert (kept["data"]["max_versions"], kept["data"]["cas_required"]) == (3, True)
    assert "secret/*" in await sides.run(f"{new}strongroom policy read app")

    assert "copied" not in await sides.run(copy)
    await sides.run(f"{old}strongroom kv put -cas=2 secret/deep/er/x n=2")
    assert "copied: secret/deep/er/x" in await sides.run(copy)
    assert "2" in await sides.run(f"{new}strongroom kv get -field=n secret/deep/er/x")


def test_the_table_names_every_engine_and_method_that_is_there() -> None:
    served = {line.split(" | ")[0]: line for line in PAGE.splitlines() if line.startswith("| ")}
    for head, there in (("| Secrets engines", SECRETS_ENGINES), ("| Auth methods", AUTH_METHODS)):
        mine, missing = (
            set(re.findall(r"`(\w+)`", part)) for part in served[head].split(" | ")[1:3]
        )
        assert set(there) <= mine, head
        assert not mine & missing
        assert not set(there) & missing
