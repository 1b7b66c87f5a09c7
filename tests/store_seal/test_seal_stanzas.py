"""Each `seal` stanza on real server processes: init, restart, a second node, migration, wrong key.

What plays the other side: our own store (transit), moto (AWS), fakes that the vendors' clients
accept (Google, Azure), softhsm2 (PKCS #11).
"""

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Run, Store
from tests.store_seal.servers import Server, Start, servers

from strongroom.app.dev.postgres import ThrowawayPostgres
from strongroom.app.store_config.seals import Means, auto_seal
from strongroom.app.store_config.sources import read_files
from strongroom.crypto.keyfile import create_key_file
from strongroom.model.clock import SystemClock
from strongroom.model.secret import Secret
from strongroom.store.assembly import open_cluster
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.sqlite import SqliteEngine
from strongroom.store.seal.backends import AutoSeal
from strongroom.store.seal.cluster import ClusterSeal, SealSetting
from strongroom.store.seal.keeping import look_once
from strongroom.wire.aws import AwsCredentials, AwsJson, StaticCredentials
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]
PLAIN = {"secret_shares": 1, "secret_threshold": 1}
RECOVERY = {"recovery_shares": 1, "recovery_threshold": 1}


@dataclass
class Given:
    """A stanza, one with a key that does not open, and what is said then.

    `repair` makes the wrong one right without a restart.
    """

    type: str
    fields: str
    wrong: str
    said: str
    environment: dict[str, str] = field(default_factory=dict)
    repair: Callable[[], Any] | None = None

    def stanza(self, fields: str = "", more: str = "") -> str:
        return f'seal "{self.type}" {{\n{fields or self.fields}\n{more}\n}}\n'


@pytest.fixture
async def static_given(tmp_path: Path) -> Given:
    (tmp_path / "current").write_bytes(os.urandom(32))
    (tmp_path / "other").write_bytes(os.urandom(32))
    current = f'current_key = "file://{tmp_path}'

    def repair() -> None:
        shutil.copy(tmp_path / "current", tmp_path / "other")

    return Given(
        "static", f'{current}/current"', f'{current}/other"', "beside the new one as previous_key",
        repair=repair,
    )  # fmt: skip


@pytest.fixture
async def transit_given(store: Store, tmp_path: Path) -> Given:
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    for key in ("unseal", "other"):
        await store.ask("POST", f"transit/keys/{key}", {})
    policy = 'path "transit/*" { capabilities = ["read", "update"] }'
    (tmp_path / "token").write_text(await store.token_with(policy, period="1h"))
    where = f'address = "{store.address}"\ntoken = "file://{tmp_path}/token"\nkey_name ='
    return Given(
        "transit", f'{where} "unseal"', f'{where} "other"', "transit key other does not open this"
    )


@pytest.fixture
async def awskms_given(moto: str) -> Given:
    credentials = StaticCredentials(AwsCredentials("A", Secret("B"), None))
    async with HttpClient() as http:
        api = AwsJson(moto, ("eu-west-1", "kms"), credentials, http, SystemClock())
        made = await api.call("TrentService.CreateKey", {})
    # AWS opens with whichever key of the region wrapped it.
    where = f'endpoint = "{moto}"\nkms_key_id = "{made["KeyMetadata"]["KeyId"]}"\nregion ='
    return Given(
        "awskms", f'{where} "eu-west-1"', f'{where} "us-east-1"', "the awskms seal: ",
        {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"},
    )  # fmt: skip


@pytest.fixture
async def gcpckms_given(google_kms: Any) -> Given:
    fake, fields = google_kms
    fake.add("projects/p/locations/l/keyRings/r/cryptoKeys/other")
    where = (
        f'project = "p"\nregion = "l"\nkey_ring = "r"\ncredentials = "{fields["key_file"]}"\n'
        f'endpoint = "{fields["endpoint"]}"\nca_file = "{fields["ca_file"]}"\ncrypto_key ='
    )
    return Given("gcpckms", f'{where} "k"', f'{where} "other"', "does not open this")


@pytest.fixture
async def azurekeyvault_given(azure_vault: Any) -> Given:
    fake, fields = azure_vault
    fake.add("other")
    where = (
        f'tenant_id = "t"\nclient_id = "c"\nclient_secret = "file://{fields["secret_file"]}"\n'
        f'vault_name = "{fields["vault"]}"\nlogin_endpoint = "{fields["login"]}"\n'
        f'ca_file = "{fields["ca_file"]}"\nkey_name ='
    )
    return Given("azurekeyvault", f'{where} "kek"', f'{where} "other"', "does not open this")


@pytest.fixture
async def pkcs11_given(softhsm: dict[str, str], tmp_path: Path) -> Given:
    pin = tmp_path / "pin"
    pin.write_text("97531")
    where = f'lib = "{softhsm["library"]}"\ntoken_label = "strongroom"\nkey_label = "kek"\npin ='
    return Given(
        "pkcs11", f'{where} "file://{softhsm["pin_file"]}"', f'{where} "file://{pin}"',
        f"does not take the PIN in {pin}; it is not offered again",
        {"SOFTHSM2_CONF": os.environ["SOFTHSM2_CONF"]}, lambda: pin.write_text("1234"),
    )  # fmt: skip


KINDS = ("static", "transit", "awskms", "gcpckms", "azurekeyvault", "pkcs11")


@pytest.fixture(params=KINDS)
def given(request: pytest.FixtureRequest) -> Given:
    return request.getfixturevalue(f"{request.param}_given")


@pytest.fixture
def every_given(request: pytest.FixtureRequest) -> list[Given]:
    return [request.getfixturevalue(f"{each}_given") for each in KINDS]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    async for each in servers(tmp_path / "nodes"):
        yield each


async def initialised(server: Server, body: dict[str, int]) -> dict[str, Any]:
    await server.up()
    status, made = await server.ask("PUT", "sys/init", body)
    assert status == 200, made
    server.token = made["root_token"]
    return made


async def test_a_stanza_opens_every_node_and_can_be_left_and_taken(
    given: Given, start: Start, postgres_url: str
) -> None:
    storage = f'storage "postgresql" {{ connection_url = "{postgres_url}" }}\nworkers = 1\n'
    storage += 'audit "none" {}\n'
    tokens: list[str] = []

    def begin(seals: str) -> Server:
        server = start(storage + seals, **given.environment)
        server.token = tokens[0] if tokens else ""
        return server

    async def opened_with_the_secret(server: Server) -> Server:
        await server.open()
        status, reply = await server.ask("GET", "cubbyhole/a")
        assert (status, reply["data"]) == (200, {"k": "v"}), reply
        return server

    # Init: open at once, and what it hands out are recovery keys.
    one = begin(given.stanza())
    assert (await one.up())["waiting_for"] == "an init: strongroom operator init"
    made = await initialised(one, RECOVERY)
    tokens.append(one.token)
    assert (made["keys"], len(made["recovery_keys"])) == ([], 1)
    assert (await one.ask("POST", "cubbyhole/a", {"k": "v"}))[0] == 204
    status = (await one.ask("GET", "sys/seal-status"))[1]
    assert (status["type"], status["sealed"], status["recovery_seal"]) == (given.type, False, True)

    # A second node needs nobody; nor does one after a restart of all.
    await opened_with_the_secret(begin(given.stanza()))
    await one.stop()
    await opened_with_the_secret(begin(given.stanza()))

    # A key that does not open is named, and the process lives.
    wrong = begin(given.stanza(given.wrong))
    await wrong.up()
    said = await wrong.waits_for(given.said)
    assert (await wrong.ask("GET", "/livez"))[0] == 200
    status_code, ready = await wrong.ask("GET", "/readyz")
    assert (status_code, ready["problems"]["seal"]) == (503, f"waits for {said}")
    assert (await wrong.ask("GET", "sys/health"))[1]["waiting_for"] == said
    await wrong.logs(f"[WARNING] strongroom.app.server: sealed; waits for {said}")
    if given.repair:
        given.repair()
        await opened_with_the_secret(wrong)

    # To Shamir and back: recovery keys become unseal keys, and the other way round.
    shamir = begin(given.stanza(more='disabled = "true"'))
    assert (await shamir.up())["migration"] is True
    await shamir.waits_for("operator unseal -migrate")
    key = {"key": made["recovery_keys"][0], "migrate": True}
    status_code, status = await shamir.ask("PUT", "sys/unseal", key)
    assert (status_code, status["sealed"], status["type"]) == (200, False, "shamir"), status
    await opened_with_the_secret(shamir)
    back = begin(given.stanza())
    assert (await back.up())["migration"] is True
    status_code, status = await back.ask("PUT", "sys/unseal", key)
    assert (status_code, status["sealed"], status["type"]) == (200, False, given.type), status
    await opened_with_the_secret(begin(given.stanza()))


async def test_every_backend_becomes_every_other(every_given: list[Given], tmp_path: Path) -> None:
    """Without recovery keys it needs nobody; each step opens what the one before has wrapped."""
    seals = [auto_seal_of(each, tmp_path) for each in every_given]
    path = seals[:1]
    for one, other in itertools.combinations(seals, 2):
        path += [other, one] if path[-1] is one else [one, other, one]
    assert set(itertools.pairwise(path)) >= set(itertools.permutations(seals, 2))

    async def opened(auto: AutoSeal, old: AutoSeal | None = None) -> str:
        """A start of the server, as far as the seal goes; the cluster's id."""
        barrier, clock = Barrier(), SystemClock()
        engine = SqliteEngine(tmp_path / "moving.db", barrier)
        seal = ClusterSeal(engine, barrier, SealSetting(auto, old), clock)
        try:
            await open_cluster(engine, seal, barrier, clock)
            assert not seal.sealed, seal.waiting_for
            assert seal.stored().type == auto.type
            return engine.view.cluster().cluster_id
        finally:
            await engine.close()

    cluster = await opened(path[0])
    for old, new in itertools.pairwise(path):
        assert await opened(new, old) == cluster
    assert await opened(path[-1]) == cluster
    for each in seals:
        await each.wrapper.close()


async def test_a_static_key_that_is_replaced_while_the_store_serves_is_told_of(
    static_given: Given, tmp_path: Path
) -> None:
    """It was read once, so that the next start was the first to see another file, or none."""
    current, kept = tmp_path / "current", (tmp_path / "current").read_bytes()
    auto, barrier, clock = auto_seal_of(static_given, tmp_path), Barrier(), SystemClock()
    engine = SqliteEngine(tmp_path / "replaced.db", barrier)
    seal = ClusterSeal(engine, barrier, SealSetting(auto), clock)
    try:
        await open_cluster(engine, seal, barrier, clock)

        async def problem() -> str:
            await look_once(engine, seal)
            return seal.backend_problem

        assert await problem() == ""
        current.write_bytes((tmp_path / "other").read_bytes())
        assert "beside the new one as previous_key" in await problem()
        current.unlink()
        assert f"cannot read {current}: No such file or directory" in await problem()
        current.write_bytes(kept)
        assert await problem() == ""
        assert not seal.sealed
    finally:
        await engine.close()


def auto_seal_of(given: Given, folder: Path) -> AutoSeal:
    file = folder / f"{given.type}.hcl"
    file.write_text(given.stanza())
    (stanza,) = read_files([file]).stanzas
    return auto_seal(stanza, Means(SystemClock(), given.environment))


class OneMachine:
    """Starts of a store in a folder, by one `seal` stanza after another."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self._storage = f'storage "file" {{ path = "{folder}/data" }}\nworkers = 1\n'

    def begin(self, seals: str) -> Server:
        return self._start(self._storage + seals)

    async def changes(self, given: Given, *steps: str) -> Server:
        """Init by the stanza, and open by each step; then a start by the stanza as it was."""
        first = self.begin(given.stanza())
        token = (await initialised(first, RECOVERY))["root_token"]
        await first.stop()
        for seals in steps:
            server = self.begin(seals)
            await server.open()
            server.token = token
            assert (await server.ask("GET", "auth/token/lookup-self"))[0] == 200
            await server.stop()
        return self.begin(given.stanza())


@pytest.mark.parametrize("given", ["static", "transit", "gcpckms", "azurekeyvault"], indirect=True)
async def test_a_key_is_left_for_another_of_the_same_backend(
    given: Given, start: Start, tmp_path: Path
) -> None:
    """The stanza of the key that is left stays once, disabled; recovery keys are not asked for."""
    left, new = given.stanza(more='disabled = "true"'), given.stanza(given.wrong)
    old = await OneMachine(start, tmp_path).changes(given, new + left, new)
    # What was left opens nothing.
    await old.waits_for("as previous_key" if given.type == "static" else "does not open")


async def test_a_static_key_is_changed_with_the_previous_one_beside_it(
    static_given: Given, start: Start, tmp_path: Path
) -> None:
    previous = static_given.fields.replace("current_key", "previous_key")
    both, new = f"{static_given.wrong}\n{previous}", static_given.wrong
    machine = OneMachine(start, tmp_path)
    steps = [static_given.stanza(fields) for fields in (both, new)]
    old = await machine.changes(static_given, *steps)
    await old.up()
    await old.waits_for("beside the new one as previous_key")
    (tmp_path / "current").unlink()
    gone = machine.begin(static_given.stanza())
    assert gone.process.wait(120) == 2
    said = gone.log.read_text()
    assert f'seal "static": cannot read {tmp_path}/current: No such file' in said
    assert "listening" not in said


async def test_shamir_waits_for_people_and_a_join_key_lets_nodes_in(
    start: Start, postgres_url: str, tmp_path: Path
) -> None:
    create_key_file(tmp_path / "join")
    storage = f'storage "postgresql" {{ connection_url = "{postgres_url}" }}\nworkers = 1\n'
    storage += 'audit "none" {}\n'
    joining = storage + f'join_key_file = "{tmp_path}/join"\n'
    one = start(joining)
    made = await initialised(one, PLAIN)
    said = "1 of 1 unseal keys: strongroom operator unseal"
    assert await one.waits_for("unseal keys") == said
    await one.logs(f"[INFO] strongroom.app.server: sealed; waits for {said}")
    status, reply = await one.ask("PUT", "sys/unseal", {"key": "00" * 32})
    assert (status, "invalid key" in reply["errors"][0]) == (400, True)
    assert (await one.ask("PUT", "sys/unseal", {"key": made["keys"][0]}))[1]["sealed"] is False
    await start(joining).open()
    await start(storage).waits_for("unseal keys")


@pytest.mark.long
async def test_ten_servers_that_are_told_to_init_at_once_make_one_cluster(
    start: Start, postgres_url: str, tmp_path: Path
) -> None:
    """Each is a process of its own that has just brought the empty database up to date as well."""
    create_key_file(tmp_path / "join")
    text = (
        f'storage "postgresql" {{ connection_url = "{postgres_url}" }}\nworkers = 1\n'
        f'audit "none" {{}}\njoin_key_file = "{tmp_path}/join"\n'
    )
    nodes = [start(text) for _ in range(10)]
    await asyncio.gather(*(each.up() for each in nodes))
    replies = await asyncio.gather(*(each.ask("PUT", "sys/init", PLAIN) for each in nodes))
    (made,) = [said for status, said in replies if status == 200]
    refusal = {"errors": ["Vault is already initialized"]}
    assert [each for each in replies if each[0] != 200] == [(400, refusal)] * 9
    status, said = await nodes[0].ask("PUT", "sys/unseal", {"key": made["keys"][0]})
    assert (status, said["sealed"]) == (200, False)
    clusters = set()
    for each in nodes:
        await each.open()
        each.token = made["root_token"]
        assert (await each.ask("GET", "auth/token/lookup-self"))[0] == 200
        clusters.add((await each.ask("GET", "sys/seal-status"))[1]["cluster_id"])
    assert len(clusters) == 1


async def test_the_workers_of_a_machine_offer_a_wrong_pin_once_and_again_after_sighup(
    pkcs11_given: Given, start: Start, tmp_path: Path
) -> None:
    """A token that locks after three wrong PINs must survive a server with four workers."""
    storage = f'storage "file" {{ path = "{tmp_path}/data" }}\nworkers = 4\n'
    first = start(storage + pkcs11_given.stanza(), **pkcs11_given.environment)
    await initialised(first, RECOVERY)
    await first.stop()
    wrong = start(storage + pkcs11_given.stanza(pkcs11_given.wrong), **pkcs11_given.environment)
    for number in range(4):
        await wrong.logs(f"[WARNING] worker {number} strongroom.app.server: sealed; waits for the")
    offered = f"the token refused the PIN in {tmp_path}/pin"
    assert wrong.log.read_text().count(offered) == 1
    wrong.hang_up()

    async def twice() -> bool:
        return wrong.log.read_text().count(offered) == 2

    await wrong.until("a second offer", twice)
    pkcs11_given.repair()
    await wrong.open()


async def test_a_store_without_its_database_lives_and_is_not_ready(
    start: Start, tmp_path: Path, background: Run, request: pytest.FixtureRequest
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="sr-pg-"))  # short, and not below a private folder
    database = ThrowawayPostgres(folder, durable=False)

    async def in_background(call: Callable[[], None]) -> None:
        call()  # child processes end with the thread that started them

    request.addfinalizer(lambda: shutil.rmtree(folder, ignore_errors=True))
    request.addfinalizer(database.kill)
    background(in_background(database.start))
    (tmp_path / "key").write_bytes(os.urandom(32))
    server = start(
        f'storage "postgresql" {{ connection_url = "{database.url()}" }}\nworkers = 1\n'
        f'seal "static" {{ current_key = "file://{tmp_path}/key" }}\naudit "none" {{}}\n'
    )
    await initialised(server, RECOVERY)
    await server.open()
    background(in_background(database.stop))

    async def unready() -> Any:
        status, ready = await server.ask("GET", "/readyz")
        return status == 503 and ready["problems"]

    assert list(await server.until("a refusal", unready)) == ["storage"]
    assert (await server.ask("GET", "/livez"))[0] == 200
    background(in_background(database.start))
    await server.open()
    background(in_background(database.stop))
