"""Every method that hvac has for transit, by hvac's own list: one without a case here fails."""

import base64
import inspect

import pytest
from hvac.api.secrets_engines import Transit
from hvac.exceptions import InvalidPath, InvalidRequest


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def create_key(transit, **fields) -> None:
    transit.create_key("k", **fields)
    assert transit.read_key("k")["data"]["name"] == "k"


def read_key(transit) -> None:
    create_key(transit, key_type="ecdsa-p256", exportable=True)
    data = transit.read_key("k")["data"]
    assert data["type"] == "ecdsa-p256"
    assert data["keys"]["1"]["public_key"].startswith("-----BEGIN PUBLIC KEY-----")
    with pytest.raises(InvalidPath):
        transit.read_key("absent")


def list_keys(transit) -> None:
    create_key(transit)
    assert transit.list_keys()["data"]["keys"] == ["k"]


def delete_key(transit) -> None:
    create_key(transit)
    with pytest.raises(InvalidRequest):
        transit.delete_key("k")
    transit.update_key_configuration("k", deletion_allowed=True)
    transit.delete_key("k")
    with pytest.raises(InvalidPath):
        transit.list_keys()


def update_key_configuration(transit) -> None:
    create_key(transit)
    transit.update_key_configuration("k", exportable=True, auto_rotate_period="24h")
    assert transit.read_key("k")["data"]["auto_rotate_period"] == 86400


def rotate_key(transit) -> None:
    create_key(transit)
    transit.rotate_key("k")
    assert transit.read_key("k")["data"]["latest_version"] == 2


def export_key(transit) -> None:
    create_key(transit, exportable=True)
    keys = transit.export_key("k", "encryption-key", version="1")["data"]["keys"]
    assert len(base64.b64decode(keys["1"])) == 32


def sealed(transit, text: str = "text", **fields) -> str:
    return transit.encrypt_data("k", plaintext=b64(text), **fields)["data"]["ciphertext"]


def encrypt_data(transit) -> None:
    create_key(transit)
    assert sealed(transit).startswith("vault:v1:")
    made = transit.encrypt_data("k", batch_input=[{"plaintext": b64("x")}])
    assert len(made["data"]["batch_results"]) == 1


def decrypt_data(transit) -> None:
    create_key(transit)
    text = sealed(transit, associated_data=b64("about"))
    opened = transit.decrypt_data("k", ciphertext=text, associated_data=b64("about"))
    assert opened["data"]["plaintext"] == b64("text")
    with pytest.raises(InvalidRequest):
        transit.decrypt_data("k", ciphertext=text)


def rewrap_data(transit) -> None:
    create_key(transit)
    text = sealed(transit)
    transit.rotate_key("k")
    assert transit.rewrap_data("k", text)["data"]["ciphertext"].startswith("vault:v2:")


def generate_data_key(transit) -> None:
    create_key(transit)
    made = transit.generate_data_key("k", "plaintext", bits=512)["data"]
    assert len(base64.b64decode(made["plaintext"])) == 64


def generate_random_bytes(transit) -> None:
    assert len(transit.generate_random_bytes(8, "hex")["data"]["random_bytes"]) == 16


def hash_data(transit) -> None:
    said = transit.hash_data(b64("abc"), "sha2-512", "base64")["data"]["sum"]
    assert base64.b64decode(said).hex().startswith("ddaf35a1")


def generate_hmac(transit) -> None:
    create_key(transit)
    made = transit.generate_hmac("k", b64("x"), algorithm="sha2-512")["data"]["hmac"]
    assert len(base64.b64decode(made.split(":")[2])) == 64


def sign_data(transit) -> None:
    create_key(transit, key_type="ed25519")
    made = transit.sign_data("k", b64("x"))["data"]["signature"]
    assert transit.verify_signed_data("k", b64("x"), signature=made)["data"]["valid"]


def verify_signed_data(transit) -> None:
    create_key(transit, key_type="rsa-2048")
    made = transit.sign_data(
        "k", b64("x"), hash_algorithm="sha2-512", signature_algorithm="pss", salt_length="hash"
    )["data"]["signature"]
    for text, valid in (("x", True), ("y", False)):
        said = transit.verify_signed_data(
            "k", b64(text), signature=made, hash_algorithm="sha2-512", signature_algorithm="pss"
        )
        assert said["data"]["valid"] is valid


def backup_key(transit) -> None:
    create_key(transit, exportable=True, allow_plaintext_backup=True)
    assert transit.backup_key("k")["data"]["backup"]


def restore_key(transit) -> None:
    create_key(transit, exportable=True, allow_plaintext_backup=True)
    text, backup = sealed(transit), transit.backup_key("k")["data"]["backup"]
    transit.restore_key(backup, name="other")
    assert transit.decrypt_data("other", ciphertext=text)["data"]["plaintext"] == b64("text")
    with pytest.raises(InvalidRequest):
        transit.restore_key(backup, name="other")
    transit.restore_key(backup, name="other", force=True)


def trim_key(transit) -> None:
    create_key(transit)
    for _ in range(2):
        transit.rotate_key("k")
    transit.update_key_configuration("k", min_decryption_version=2, min_encryption_version=3)
    transit.trim_key("k", 2)
    assert list(transit.read_key("k")["data"]["keys"]) == ["2", "3"]


METHODS = [
    name for name, _ in inspect.getmembers(Transit, inspect.isfunction) if not name.startswith("_")
]
CASES = {name: each for name, each in globals().items() if name in METHODS}


@pytest.mark.parametrize("method", METHODS)
async def test_hvac_transit(store, method) -> None:
    assert method in CASES, "a method of hvac without a case"
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    await store.run(CASES[method], store.hvac().secrets.transit)
