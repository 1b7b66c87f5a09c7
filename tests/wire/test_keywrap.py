"""What every backend owes who wraps keys with it: one suite for the fake and for each real one.

Google's and Azure's are fakes that speak HTTP, accepted by the vendors' own clients; see the last
two tests.
"""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.conftest import GOOGLE_KEY

from strongroom.crypto.keyfile import WrappingKey, create_key_file
from strongroom.encrypt.kms.escrow import EscrowWrapper
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, Refusal, Unavailable
from strongroom.wire.aws import AwsJson, CredentialFile
from strongroom.wire.client import HttpClient
from strongroom.wire.keywrap import azure_fake, google_fake
from strongroom.wire.keywrap.contract import Perishable, Wrapper
from strongroom.wire.keywrap.fake import FakeWrapper
from strongroom.wire.keywrap.key_file import KeysWrapper
from strongroom.wire.keywrap.kinds import build
from strongroom.wire.keywrap.pkcs11 import Pkcs11Wrapper
from strongroom.wire.keywrap.refused_pin import RefusedPin, refused

CLOCK = SystemClock()
KEY = b"k" * 32


@dataclass
class Given:
    """A backend, and what makes it rotate (None where it cannot)."""

    wrapper: Wrapper
    rotate: Callable[[], Any] | None


def made(kind: str, fields: dict[str, str], rotate: Callable[[], Any] | None = None) -> Given:
    return Given(build({"name": "b", "type": kind, **fields}, CLOCK), rotate)


@pytest.fixture
async def fake_given() -> Given:
    fake = FakeWrapper()
    return Given(fake, fake.rotate)


@pytest.fixture
async def escrow_given(tmp_path: Path) -> Given:
    private = rsa.generate_private_key(65537, 2048)
    pem = serialization.Encoding.PEM
    (tmp_path / "private").write_bytes(
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (tmp_path / "public").write_bytes(
        private.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return Given(EscrowWrapper("escrow", tmp_path / "public", tmp_path / "private"), None)


@pytest.fixture
async def key_file_given(tmp_path: Path) -> Given:
    create_key_file(tmp_path / "key")
    return made("key_file", {"path": str(tmp_path / "key")})


@pytest.fixture
async def transit_given(store, tmp_path: Path) -> Given:
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "transit/keys/k8s", {})
    rules = "".join(
        f'path "transit/{path}/k8s" {{ capabilities = ["{capability}"] }} '
        for path, capability in (("keys", "read"), ("encrypt", "update"), ("decrypt", "update"))
    )
    (tmp_path / "token").write_text(await store.token_with(rules))
    fields = {"address": store.address, "key": "k8s", "token_file": str(tmp_path / "token")}
    return made("transit", fields, lambda: store.ask("POST", "transit/keys/k8s/rotate"))


@pytest.fixture
async def aws_kms_given(moto: str, tmp_path: Path) -> Given:
    (tmp_path / "aws").write_text("[default]\naws_access_key_id = A\naws_secret_access_key = B\n")
    async with HttpClient() as http:
        api = AwsJson(moto, ("eu-west-1", "kms"), CredentialFile(tmp_path / "aws"), http, CLOCK)
        key = (await api.call("TrentService.CreateKey", {}))["KeyMetadata"]["Arn"]
    return made(
        "aws_kms",
        {
            "key": key,
            "region": "eu-west-1",
            "credentials_file": str(tmp_path / "aws"),
            "endpoint": moto,
        },
    )


@pytest.fixture
async def google_kms_given(google_kms) -> Given:
    fake, fields = google_kms
    return made("google_kms", fields, lambda: fake.rotate(GOOGLE_KEY))


@pytest.fixture
async def azure_key_vault_given(azure_vault) -> Given:
    fake, fields = azure_vault
    return made("azure_key_vault", fields, lambda: fake.add("kek"))


@pytest.fixture
async def pkcs11_given(softhsm: dict[str, str]) -> Given:
    return made("pkcs11", softhsm)


KINDS = ["fake", "key_file", "transit", "google_kms", "azure_key_vault", "escrow"]
REAL = [pytest.param(each, marks=pytest.mark.component) for each in ("aws_kms", "pkcs11")]


@pytest.fixture(params=[*KINDS, *REAL])
def given(request: pytest.FixtureRequest) -> Given:
    return request.getfixturevalue(f"{request.param}_given")


async def test_what_is_wrapped_comes_back_and_shows_nothing(given: Given) -> None:
    wrapped = await given.wrapper.wrap(KEY, b"place")
    assert KEY not in wrapped
    assert await given.wrapper.unwrap(wrapped, b"place") == KEY
    assert await given.wrapper.wrap(KEY, b"place") != wrapped


async def test_another_place_or_changed_bytes_do_not_open(given: Given) -> None:
    wrapped = await given.wrapper.wrap(KEY, b"place")
    half = len(wrapped) // 2
    changed = wrapped[:-3] + bytes([wrapped[-3] ^ 1]) + wrapped[-2:]
    for blob, aad in (
        (wrapped, b"other"),
        (changed, b"place"),
        (wrapped[:half], b"place"),
        (b"", b"place"),
    ):
        with pytest.raises(Refusal) as caught:
            await given.wrapper.unwrap(blob, aad)
        assert "kkkk" not in str(caught.value)


async def test_the_identity_is_stable_and_moves_with_a_rotation(given: Given) -> None:
    before, wrapped = await given.wrapper.identity(), await given.wrapper.wrap(KEY, b"place")
    assert before == await given.wrapper.identity()
    if given.rotate is None:
        return
    done = given.rotate()
    if asyncio.iscoroutine(done):
        await done
    assert await given.wrapper.identity() != before
    assert await given.wrapper.unwrap(wrapped, b"place") == KEY


@pytest.mark.parametrize("kind", ["google_kms", "azure_key_vault"])
async def test_a_token_that_a_cloud_refuses_is_fetched_anew(
    kind: str, google_kms, azure_vault
) -> None:
    """A machine that was suspended takes a token for good that has long ended."""
    fake, fields = google_kms if kind == "google_kms" else azure_vault
    wrapper = build({"name": "b", "type": kind, **fields}, CLOCK)
    wrapped = await wrapper.wrap(KEY, b"p")
    fake.token = "another"
    with pytest.raises(Denied, match="401"):
        await wrapper.unwrap(wrapped, b"p")
    assert await wrapper.unwrap(wrapped, b"p") == KEY
    await wrapper.close()


async def test_google_credentials_of_another_kind_are_named(google_kms, tmp_path: Path) -> None:
    _, fields = google_kms
    (tmp_path / "federated.json").write_text('{"type": "external_account", "audience": "a"}')
    given = {**fields, "key_file": str(tmp_path / "federated.json")}
    wrapper = build({"name": "b", "type": "google_kms", **given}, CLOCK)
    with pytest.raises(Refusal, match="type 'external_account' are not served"):
        await wrapper.identity()
    await wrapper.close()


async def test_clouds_that_are_down_or_disabled_say_so(google_kms, azure_vault) -> None:
    for (fake, fields), kind in ((google_kms, "google_kms"), (azure_vault, "azure_key_vault")):
        wrapper = build({"name": "b", "type": kind, **fields}, CLOCK)
        wrapped = await wrapper.wrap(KEY, b"p")
        fake.enabled = False
        for call in (wrapper.unwrap(wrapped, b"p"), wrapper.identity()):
            with pytest.raises(Refusal):
                await call
        fake.enabled, fake.down = True, True
        with pytest.raises(Refusal, match="503"):
            await wrapper.unwrap(wrapped, b"p")
        fake.down = False
        assert await wrapper.unwrap(wrapped, b"p") == KEY
        await wrapper.close()


async def test_a_wrong_pin_or_label_is_named(softhsm, tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("97531")
    for change in (
        {"pin_file": str(tmp_path / "pin")},
        {"key": "absent"},
        {"token": "absent"},
        {"pin_file": "/absent"},
    ):
        wrapper = build({"name": "h", "type": "pkcs11", **softhsm, **change}, CLOCK)
        with pytest.raises(Refusal) as caught:
            await wrapper.wrap(KEY, b"p")
        assert "97531" not in caught.value.message


async def test_a_refused_pin_is_offered_once_until_it_changes_or_a_person_says_so(
    softhsm, tmp_path: Path
) -> None:
    """A token locks after a few wrong PINs, and a sealed server asks every second."""
    pin_file = tmp_path / "pin"
    pin_file.write_text("wrong")
    pins = CountedPins()
    where = (softhsm["token"], softhsm["key"])
    wrapper = Pkcs11Wrapper("h", Path(softhsm["library"]), where, pin_file, pins)
    for _ in range(3):
        with pytest.raises(Refusal, match="not offered again") as caught:
            await wrapper.unwrap(b"", b"")
        assert caught.value.code == "wrong-pin"
        assert "SIGHUP" in caught.value.hint
    assert pins.offered == 1
    pins.forget()
    with pytest.raises(Refusal):
        await wrapper.wrap(KEY, b"p")
    assert pins.offered == 2
    pin_file.write_text("1234")
    assert await wrapper.unwrap(await wrapper.wrap(KEY, b"p"), b"p") == KEY


@pytest.mark.component
async def test_a_token_that_hangs_holds_one_thread_however_often_it_is_asked(
    softhsm, tmp_path: Path
) -> None:
    pin_file = tmp_path / "pin"
    os.mkfifo(pin_file)  # Reading it hangs until somebody writes.
    wrapper = build({"name": "h", "type": "pkcs11", **softhsm, "pin_file": str(pin_file)}, CLOCK)
    sealed = asyncio.create_task(wrapper.wrap(KEY, b"p"))
    before = threading.active_count()
    try:
        for _ in range(4):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wrapper.identity(), 0.05)
        sealed.cancel()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wrapper.identity(), 0.05)
        assert threading.active_count() <= before + 1
    finally:
        pipe = os.open(pin_file, os.O_RDWR)  # Lets every reader in.
        os.write(pipe, b"1234")
        os.close(pipe)
    # It answers again: what waits goes on, and nothing was mixed up.
    pin_file.unlink()
    pin_file.write_text("1234")
    assert await wrapper.unwrap(await wrapper.wrap(KEY, b"p"), b"p") == KEY


HUNG = """
import asyncio, sys, threading
from pathlib import Path
from strongroom.wire.keywrap.pkcs11 import Pkcs11Wrapper

async def main():
    wrapper = Pkcs11Wrapper("h", Path("/lib"), ("t", "k"), Path(sys.argv[1]))
    try:
        await asyncio.wait_for(wrapper.identity(), 0.5)
    except TimeoutError:
        print("given up", threading.active_count())

asyncio.run(main())
"""


async def test_a_key_that_cannot_be_read_to_its_end_holds_one_thread_however_often_it_is_asked() -> (
    None
):
    """A mount that is away may hang for days, and a store asks every few seconds."""
    back, begun, key = threading.Event(), [], WrappingKey([KEY])

    def read() -> WrappingKey:
        begun.append(None)
        back.wait()
        return key

    wrapper = KeysWrapper("static", read)
    for _ in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await wrapper.identity()
    assert len(begun) == 1
    back.set()
    assert await wrapper.identity() == f"key/{key.key_id}"
    assert await wrapper.unwrap(await wrapper.wrap(b"secret", b"place"), b"place") == b"secret"
    assert len(begun) > 2  # Each use reads again.


def test_a_process_ends_though_its_token_hangs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pin")  # Nobody ever writes.
    command = [sys.executable, "-c", HUNG, str(tmp_path / "pin")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "given up 2\n"


async def test_a_token_is_asked_again_after_no_thread_could_be_begun(tmp_path: Path) -> None:
    """Where a container may have no more of them for a moment."""
    wrapper = Pkcs11Wrapper("h", Path("/lib"), ("t", "k"), tmp_path / "missing")
    usual = threading.stack_size(1 << 48)  # No machine has so much for one.
    try:
        with pytest.raises(RuntimeError, match="thread"):
            await wrapper.identity()
    finally:
        threading.stack_size(usual)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(wrapper.identity(), 10)


def test_a_wish_to_forget_waits_for_no_token_that_hangs() -> None:
    pins = RefusedPin()
    with pytest.raises(Denied), pins.offering("1234", "file"):
        raise refused("file")
    before = threading.enumerate()
    with pins.offering("4321", "file"):
        pins.forget_soon()  # As SIGHUP does, while the token has not answered.
    for each in threading.enumerate():
        if each not in before:
            each.join(30)
    with pins.offering("1234", "file"):
        pass


@pytest.mark.component
async def test_a_token_that_is_broken_is_not_taken_for_another_key(softhsm, tmp_path: Path) -> None:
    absent = build({"name": "h", "type": "pkcs11", **softhsm, "library": "/absent.so"}, CLOCK)
    with pytest.raises(Refusal, match=r"there is no library /absent\.so"):
        await absent.unwrap(b"", b"")
    where = (softhsm["token"], softhsm["key"])
    broken = Pkcs11Wrapper("h", Path(softhsm["library"]), where, tmp_path / "pin", BrokenToken())
    (tmp_path / "pin").write_text("1234")
    with pytest.raises(Refusal, match="the token failed: DeviceError"):
        await broken.unwrap(b"n" * 12 + b"sealed", b"p")


def test_a_pin_that_was_taken_is_offered_again_whatever_was_refused_after_it() -> None:
    """A key that was not there would keep a good PIN from the token until somebody says so."""
    pins = RefusedPin()
    with pytest.raises(Denied, match="no such key"), pins.offering("1234", "pin"):
        raise Denied("no-key", "no such key")
    with pins.offering("1234", "pin"):
        pass
    with pytest.raises(Denied), pins.offering("1234", "pin"):
        raise refused("pin")
    with pytest.raises(Denied, match="not offered again"), pins.offering("1234", "pin"):
        raise AssertionError("it was offered")


class BrokenToken(RefusedPin):
    """A token that fails when it is offered a PIN."""

    @contextmanager
    def offering(self, pin: str, where: str) -> Iterator[None]:
        from pkcs11.exceptions import DeviceError

        del pin, where
        raise DeviceError
        yield


class CountedPins(RefusedPin):
    """Counts what reaches the token."""

    offered = 0

    @contextmanager
    def offering(self, pin: str, where: str) -> Iterator[None]:
        with super().offering(pin, where):
            self.offered += 1
            yield


def test_workers_that_share_the_memory_offer_a_pin_once_together() -> None:
    shared = os.memfd_create("pins")
    one, two = RefusedPin(shared, b"k" * 32), RefusedPin(shared, b"k" * 32)
    with pytest.raises(Denied), one.offering("1234", "file"):
        raise refused("file")
    with pytest.raises(Denied), two.offering("1234", "file"):
        pytest.fail("offered twice")
    with two.offering("4321", "file"):
        pass
    assert b"1234" not in os.pread(shared, 100, 0)
    one.forget()
    with two.offering("1234", "file"):
        pass
    os.close(shared)


@pytest.fixture
async def transit_key(store) -> str:
    """A policy that lets the holder of a token use one transit key."""
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.ask("POST", "transit/keys/k8s", {})
    return 'path "transit/*" { capabilities = ["read", "update"] }'


async def test_a_transit_token_is_renewed_while_somebody_asks(
    store, transit_key: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(await store.token_with(transit_key, period="90s"))
    fields = {"address": store.address, "key": "k8s", "token_file": str(tmp_path / "token")}
    wrapper = build({"name": "b", "type": "transit", **fields}, CLOCK)
    assert isinstance(wrapper, Perishable)
    wrapped = await wrapper.wrap(KEY, b"p")
    for _ in range(4):
        assert 50 < await wrapper.renew() < 61
        await store.clock.advance(60)  # four minutes in all, of a token that lives for 90 s
    assert await wrapper.unwrap(wrapped, b"p") == KEY
    await wrapper.close()


async def test_what_another_store_says_of_a_key_that_does_not_open_is_told(
    store, transit_key: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(await store.token_with(transit_key, period="90s"))
    fields = {"address": store.address, "key": "k8s", "token_file": str(tmp_path / "token")}
    wrapper = build({"name": "b", "type": "transit", **fields}, CLOCK)
    wrapped = await wrapper.wrap(KEY, b"p")
    await store.ask("POST", "transit/keys/k8s/rotate")
    await store.ask("POST", "transit/keys/k8s/config", {"min_decryption_version": 2})
    with pytest.raises(Denied, match=r"does not open this: .*disallowed by policy"):
        await wrapper.unwrap(wrapped, b"p")
    await store.ask("POST", "transit/keys/k8s/config", {"deletion_allowed": True})
    await store.ask("DELETE", "transit/keys/k8s")
    with pytest.raises(Denied, match=r"does not open this: .*not found"):
        await wrapper.unwrap(wrapped, b"p")
    await store.ask("DELETE", "sys/mounts/transit")
    with pytest.raises(Denied, match=r"does not open this: .*no handler for route"):
        await wrapper.unwrap(wrapped, b"p")
    await wrapper.close()


async def test_a_transit_token_that_ends_is_named_and_a_new_one_is_taken_from_its_file(
    store, transit_key: str, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text(await store.token_with(transit_key, ttl="90s", renewable=False))
    fields = {"address": store.address, "key": "k8s", "token_file": str(token)}
    wrapper = build({"name": "b", "type": "transit", **fields}, CLOCK)
    assert isinstance(wrapper, Perishable)
    wrapped = await wrapper.wrap(KEY, b"p")
    assert 50 < await wrapper.renew() < 61
    await store.clock.advance(70)
    with pytest.raises(Refusal, match=r"ends in \d+ s and is not renewed"):
        await wrapper.renew()
    await store.clock.advance(30)
    with pytest.raises(Denied):
        await wrapper.renew()
    token.write_text(await store.token_with(transit_key, period="90s"))
    assert await wrapper.unwrap(wrapped, b"p") == KEY  # no restart, no wait
    assert await wrapper.renew() > 50
    await wrapper.close()


@pytest.mark.long
async def test_googles_own_client_accepts_the_fake(google_kms, tmp_path: Path) -> None:
    _, fields = google_kms
    program = f"""
import requests
from google.auth.credentials import Credentials
from google.cloud.kms_v1 import KeyManagementServiceClient
from google.cloud.kms_v1.services.key_management_service.transports import KeyManagementServiceRestTransport

class Fixed(Credentials):
    expired = False
    valid = True
    def refresh(self, request): pass
    def before_request(self, request, method, url, headers): headers["authorization"] = "Bearer " + {google_fake.TOKEN!r}

transport = KeyManagementServiceRestTransport(host={fields["endpoint"].removeprefix("https://")!r}, credentials=Fixed())
client = KeyManagementServiceClient(transport=transport)
made = client.encrypt(request={{"name": {GOOGLE_KEY!r}, "plaintext": b"text", "additional_authenticated_data": b"aad"}})
assert made.name.endswith("/cryptoKeyVersions/1"), made.name
opened = client.decrypt(request={{"name": {GOOGLE_KEY!r}, "ciphertext": made.ciphertext, "additional_authenticated_data": b"aad"}})
assert opened.plaintext == b"text"
assert client.get_crypto_key(request={{"name": {GOOGLE_KEY!r}}}).primary.name.endswith("/1")
try:
    client.decrypt(request={{"name": {GOOGLE_KEY!r}, "ciphertext": made.ciphertext, "additional_authenticated_data": b"other"}})
except Exception as error:
    assert error.code == 400, error
else:
    raise SystemExit("opened with another aad")
"""
    await _run(program, {"REQUESTS_CA_BUNDLE": fields["ca_file"]})


@pytest.mark.long
async def test_azures_own_client_accepts_the_fake(azure_vault) -> None:
    _, fields = azure_vault
    program = f"""
import time
from azure.core.credentials import AccessToken
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm

class Fixed:
    def get_token(self, *scopes, **more): return AccessToken({azure_fake.TOKEN!r}, int(time.time()) + 3600)

more = dict(connection_verify={fields["ca_file"]!r}, verify_challenge_resource=False)
keys = KeyClient({fields["vault"]!r}, Fixed(), **more)
key = keys.get_key("kek")
client = CryptographyClient(key.id, Fixed(), **more)
made = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k" * 32)
opened = client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, made.encrypted_key)
assert opened.key == b"k" * 32
"""
    await _run(program, {})


async def _run(program: str, environment: dict[str, str]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", program, env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
