"""Every example of a client verb is run as it stands in its help and in docs/cli.md."""

import base64
import io
import json
import shlex

import pytest

from strongroom.app.command_tree import Node, tree
from strongroom.app.main import CLIENT

# In an order in which each finds what it is about. `login` and `events` wait for
# somebody and have tests of their own.
ORDER = """
kv put|kv patch|kv get|kv list|kv scan|kv diff|kv metadata put|kv metadata patch|kv metadata get
kv copy|kv rollback|kv delete|kv undelete|kv destroy|kv move|kv metadata delete
kv enable-versioning|policy fmt|policy write|policy list|policy read|token create|policy delete
token lookup|token capabilities|auth enable|auth tune|auth help|auth list|auth move|auth disable
secrets enable|secrets tune|secrets list|secrets move|secrets disable|write|list|read|patch|delete
lease lookup|lease renew|lease revoke|path-help|print token|version|unwrap|token renew
transit import|transit import-version|token revoke
"""


def _examples() -> dict[str, str]:
    leaves: list[Node] = [
        node
        for top in tree()
        if top.words[0] in CLIENT and top.words[0] not in ("login", "events")
        for node in top.walk()
        if not node.children
    ]
    return {
        " ".join(each.words): (each.parser.epilog or "").partition("example:\n")[2].strip()
        for each in leaves
    }


@pytest.fixture
async def example(cli, tmp_path, monkeypatch):
    """Runs the examples of a verb, with more words, and gives what each printed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "password.txt").write_text("secret")
    (tmp_path / "app.hcl").write_text('path "secret/data/*" { capabilities = ["read"] }')
    await cli("kv", "put", "secret/db", "k=v")
    (tmp_path / "key.b64").write_text(base64.b64encode(bytes(32)).decode())
    await cli("auth", "enable", "approle")
    await cli("secrets", "enable", "transit")
    await cli("write", "sys/mounts/database", "type=issuer")
    made = await cli.json("token", "create", "-policy=default")
    child = made["auth"]["client_token"]
    lease = (await cli.json("read", "database/creds/app"))["lease_id"]
    wrapped = await cli("token", "lookup", "-wrap-ttl=5m", "-field=wrapping_token")
    real = {"8609694a": made["auth"]["accessor"], "hvs.CAES": wrapped}
    (token,) = await cli.json("list", "sys/leases/lookup/auth/token/create")
    real["auth/token/create/h2f6a"] = f"auth/token/create/{token}"
    # No engine of this store has leases.
    real["database/creds/app/2f6a"] = lease
    examples = _examples()

    async def run(name: str, *more: str) -> list[str]:
        # Root is not renewed, and would not outlive its own revocation.
        own = name in ("token renew", "token revoke")
        monkeypatch.setenv("VAULT_TOKEN", child if own else cli.store.root)
        printed = []
        for line in examples[name].splitlines():
            program, *words = shlex.split(line)
            assert (program, " ".join(words).startswith(name)) == ("strongroom", True)
            monkeypatch.setattr("sys.stdin", io.StringIO("typed"))
            printed.append(await cli(*[real.get(each, each) for each in words], *more))
        return printed

    return run


def _in_order() -> list[str]:
    return [each for line in ORDER.split("\n") for each in line.split("|") if each]


@pytest.mark.long
async def test_every_example_does_what_it_says(cli, example) -> None:
    assert sorted(_in_order()) == sorted(_examples())
    for name in _in_order():
        await example(name)
    await cli("token", "lookup", expect=2)


# The store answers these with nothing: in a program's form there is nothing to print either.
SILENT = """
kv metadata put|kv metadata patch|kv metadata delete|kv delete|kv undelete|kv destroy
kv enable-versioning|policy fmt|policy write|policy delete|auth enable|auth tune|auth disable
secrets enable|secrets tune|secrets disable|write|patch|delete|lease revoke|transit import
transit import-version|token revoke
"""
FOR_PEOPLE = ("print token", "version")  # one word on a line; they take no form


@pytest.mark.long
async def test_a_program_reads_one_document_or_nothing(cli, example) -> None:
    silent = SILENT.replace("\n", "|").split("|")
    for name in _in_order():
        if name in FOR_PEOPLE:
            continue
        for printed in await example(name, "-format=json"):
            assert (printed == "") == (name in silent), (name, printed)
            assert not printed or json.loads(printed), name
    await cli("token", "lookup", expect=2)
