"""Transit in forms that few ask for, as Vault's clients spell them and read the answers."""

import base64
import hashlib
import threading

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding

from strongroom.crypto.signatures import load_public_key, new_key_pair
from strongroom.model.errors import Invalid
from strongroom.store.call import Call
from strongroom.store.engine.contract import MountRow
from strongroom.store.secrets.transit_data import TransitData, sign_item
from strongroom.store.secrets.transit_key import KeyVersion, TransitKey


def b64(content: bytes | str) -> str:
    return base64.b64encode(content.encode() if isinstance(content, str) else content).decode()


@pytest.fixture
async def ask(store):
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    return store.ask


@pytest.mark.parametrize("field", ["hash_algorithm", "algorithm"])
async def test_an_hmac_is_verified_with_the_hash_that_the_body_names(ask, field) -> None:
    """Under its newer name it counted for nothing, and what was right was called wrong."""
    await ask("POST", "transit/keys/k", {})
    body = {"input": b64("x"), "algorithm": "sha2-512"}
    made = (await ask("POST", "transit/hmac/k", body))[1]["data"]["hmac"]
    body = {"input": b64("x"), "hmac": made, field: "sha2-512"}
    assert (await ask("POST", "transit/verify/k", body))[1]["data"] == {"valid": True}
    batch = {"batch_input": [{"input": b64("x"), "hmac": made}], field: "sha2-512"}
    said = (await ask("POST", "transit/verify/k", batch))[1]["data"]["batch_results"]
    assert said == [{"valid": True, "reference": ""}]
    wrong = {"input": b64("x"), "hmac": made, field: "sha2-256"}
    assert (await ask("POST", "transit/verify/k", wrong))[1]["data"] == {"valid": False}


KEY = TransitKey("k", "rsa-2048", {1: KeyVersion(new_key_pair("rsa-2048"), b"h" * 32)})


@pytest.mark.parametrize("word", [True, "true", "T", "1", 1])
def test_what_is_a_digest_already_is_not_hashed_again(word) -> None:
    """Spelt otherwise than true it was hashed once more, and nobody could verify the signature."""
    item = {
        "input": b64(hashlib.sha256(b"x").digest()),
        "prehashed": word,
        "signature_algorithm": "pkcs1v15",
    }
    made = base64.b64decode(sign_item(KEY, item, item)["signature"].split(":")[2])
    public = load_public_key("rsa-2048", KEY.versions[1].material)
    public.verify(made, b"x", padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("word", ["ture", "yes", 2, [1]])
def test_a_misspelt_prehashed_is_refused(word) -> None:
    with pytest.raises(Invalid, match="prehashed must be true or false"):
        sign_item(KEY, {"input": "", "prehashed": word}, {})


async def test_a_signature_of_a_derived_pair_comes_with_its_public_half(ask) -> None:
    await ask("POST", "transit/keys/d", {"type": "ed25519", "derived": True})
    item = {"input": b64("x"), "context": b64("ada")}
    one = (await ask("POST", "transit/sign/d", item))[1]["data"]
    body = {"batch_input": [item]}
    (other,) = (await ask("POST", "transit/sign/d", body))[1]["data"]["batch_results"]
    for made, name in ((one, "public_key"), (other, "publickey")):
        raw, signature = base64.b64decode(made[name]), made["signature"].split(":")[2]
        public = ed25519.Ed25519PublicKey.from_public_bytes(raw)
        public.verify(base64.b64decode(signature), b"x")
    await ask("POST", "transit/keys/e", {"type": "ed25519"})
    plain = (await ask("POST", "transit/sign/e", {"input": b64("x")}))[1]["data"]
    assert set(plain) == {"signature", "key_version"}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("keys/no/rotate", {}, "key not found"),
        ("keys/no/config", {}, "no existing key named no could be found"),
        ("keys/no/trim", {"min_available_version": 1}, "invalid key name"),
        (
            "keys/no/import_version",
            {"ciphertext": ""},
            "no key found with name no; to import a new key, use the import/ endpoint",
        ),
        ("keys/no/csr", {}, "key with provided name 'no' not found"),
        (
            "keys/no/set-certificate",
            {"certificate_chain": "x"},
            "key with provided name 'no' not found",
        ),
        ("hmac/k", {}, "missing input for HMAC"),
        ("verify/k", {"input": "", "hmac": "a", "signature": "b"},
         "provide one of 'signature' or 'hmac'"),
        ("decrypt/k", {"ciphertext": "vault:v7:AAAA"}, "invalid ciphertext: version is too new"),
        ("verify/k", {"input": "", "hmac": "vault:v7:AAAA"}, "invalid HMAC: version is too new"),
        ("verify/e", {"input": "", "signature": "vault:v7:AAAA"},
         "invalid signature: version is too new"),
        ("keys/new/import", {}, "one of ciphertext and public_key must be set, and not both"),
        ("keys/new/import", {"ciphertext": "AAAA", "public_key": "x"},
         "one of ciphertext and public_key must be set, and not both"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_a_400_in_vaults_words(ask, path, body, said) -> None:
    """Clients tell by them that a key is gone already; a 404 they take for a wrong mount."""
    await ask("POST", "transit/keys/k", {})
    await ask("POST", "transit/keys/e", {"type": "ed25519"})
    assert await ask("POST", f"transit/{path}", body) == (400, {"errors": [said]})


async def test_a_key_that_is_not_there_is_deleted_with_400_and_read_with_404(ask) -> None:
    gone = {"errors": ["error deleting policy no: could not delete key; not found"]}
    assert await ask("DELETE", "transit/keys/no") == (400, gone)
    for path in ("keys/no", "export/encryption-key/no", "backup/no"):
        assert (await ask("GET", f"transit/{path}"))[0] == 404


async def test_base64_may_have_line_breaks(ask) -> None:
    """A file that `base64` wrote has one at its end, and after each 76 characters."""
    await ask("POST", "transit/keys/k", {})
    text = "x" * 100
    body = {"plaintext": base64.encodebytes(text.encode()).decode().replace("\n", "\r\n")}
    status, made = await ask("POST", "transit/encrypt/k", body)
    assert status == 200
    body = {"ciphertext": made["data"]["ciphertext"] + "\n"}
    opened = (await ask("POST", "transit/decrypt/k", body))[1]["data"]["plaintext"]
    assert base64.b64decode(opened) == text.encode()
    assert (await ask("POST", "transit/encrypt/k", {"plaintext": "eA= ="}))[0] == 400
    status, said = await ask("POST", "sys/tools/hash", {"input": b64("x") + "\n"})
    assert (status, said["data"]["sum"]) == (200, hashlib.sha256(b"x").hexdigest())


async def test_one_rsa_signature_holds_nobody_up() -> None:
    """It is worked on in another thread than the one that serves everybody."""
    workers = []

    class Noted(TransitKey):
        __slots__ = ()

        def pair(self, version: int, context: bytes) -> bytes:
            workers.append(threading.current_thread())
            return super().pair(version, context)

    async def find(_call: Call, _makes: bool) -> TransitKey:
        return Noted(KEY.name, KEY.type, KEY.versions)

    (endpoint,) = (each for each in TransitData(find).endpoints if each.pattern == "sign/{name}")
    mount = MountRow("secret", "transit/", "transit", "u", "a")
    call = Call("update", "transit/sign/k", {"input": ""}, mount, "sign/k", args={"name": "k"})
    await endpoint.handlers["update"](call)
    assert workers
    assert threading.main_thread() not in workers


def test_work_with_one_version_reads_that_one() -> None:
    """A key that is rotated each hour has thousands of them after a year."""
    key = TransitKey("k", "aes256-gcm96", {1: KeyVersion(b"k" * 32, b"h" * 32, 1.0)})
    document = key.dumps()
    # Whoever looked at it would fail.
    document["versions"] |= {str(number): None for number in range(2, 1000)}
    document["versions"]["1000"] = document["versions"]["1"]
    kept = TransitKey.loads(document)
    assert (kept.latest, len(kept.versions), 500 in kept.versions) == (1000, 1000, True)
    sealed = kept.encrypt(b"x", kept.to_use(0), b"", b"")
    assert kept.decrypt(sealed, kept.to_read(1), b"", b"") == b"x"
    with pytest.raises(Invalid, match="not the backup of a key"):
        TransitKey.loads(document, from_outside=True)
