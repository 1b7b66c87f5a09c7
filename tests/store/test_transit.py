"""Transit under its public client, and the rules that keep keys inside."""

import base64

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from hvac.exceptions import Forbidden, InvalidRequest


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.fixture
async def transit(store):
    await store.ask("POST", "sys/mounts/transit", {"type": "transit"})
    client = store.hvac()

    async def call(verb: str, /, **fields):
        return await store.run(getattr(client.secrets.transit, verb), **fields)

    call.store = store
    return call


SYMMETRIC = ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"]
SIGNING = ["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048"]


@pytest.mark.parametrize("kind", [*SYMMETRIC, "rsa-2048"])
async def test_what_is_encrypted_comes_back_under_every_version(transit, kind) -> None:
    await transit.store.ask("POST", "transit/keys/k", {"type": kind})
    first = (await transit("encrypt_data", name="k", plaintext=b64("marked-text")))["data"]
    assert first["ciphertext"].startswith("vault:v1:")
    await transit("rotate_key", name="k")
    second = (await transit("rewrap_data", name="k", ciphertext=first["ciphertext"]))["data"]
    assert second["ciphertext"].startswith("vault:v2:")
    for each in (first, second):
        opened = await transit("decrypt_data", name="k", ciphertext=each["ciphertext"])
        assert opened["data"]["plaintext"] == b64("marked-text")
    assert "marked-text" not in str(transit.store.records())
    assert b64("marked-text") not in str(transit.store.records())


@pytest.mark.parametrize("kind", SIGNING)
@pytest.mark.parametrize("marshaling", ["asn1", "jws"])
async def test_what_is_signed_verifies_and_nothing_else_does(transit, kind, marshaling) -> None:
    await transit("create_key", name="k", key_type=kind)
    made = await transit(
        "sign_data", name="k", hash_input=b64("text"), marshaling_algorithm=marshaling
    )
    signature = made["data"]["signature"]

    async def valid(text: str) -> bool:
        said = await transit(
            "verify_signed_data",
            name="k",
            hash_input=b64(text),
            signature=signature,
            marshaling_algorithm=marshaling,
        )
        return said["data"]["valid"]

    assert await valid("text")
    assert not await valid("other")


async def test_a_public_key_verifies_outside(transit) -> None:
    await transit("create_key", name="k", key_type="rsa-2048")
    made = await transit(
        "sign_data", name="k", hash_input=b64("text"), signature_algorithm="pkcs1v15"
    )
    shown = (await transit("read_key", name="k"))["data"]["keys"]["1"]["public_key"]
    public = serialization.load_pem_public_key(shown.encode())
    signature = base64.b64decode(made["data"]["signature"].split(":")[2])
    public.verify(signature, b"text", padding.PKCS1v15(), hashes.SHA256())


async def test_versions_below_the_minimum_are_refused_and_can_be_trimmed(transit) -> None:
    await transit("create_key", name="k")
    old = (await transit("encrypt_data", name="k", plaintext=b64("x")))["data"]["ciphertext"]
    for _ in range(2):
        await transit("rotate_key", name="k")
    await transit(
        "update_key_configuration", name="k", min_decryption_version=2, min_encryption_version=3
    )
    with pytest.raises(InvalidRequest, match="too old"):
        await transit("decrypt_data", name="k", ciphertext=old)
    with pytest.raises(InvalidRequest):
        await transit("encrypt_data", name="k", plaintext=b64("x"), key_version=1)
    await transit("trim_key", name="k", min_version=2)
    assert sorted((await transit("read_key", name="k"))["data"]["keys"]) == ["2", "3"]
    with pytest.raises(InvalidRequest):
        await transit("trim_key", name="k", min_version=3)
    with pytest.raises(InvalidRequest):
        await transit("update_key_configuration", name="k", min_decryption_version=9)


async def test_derived_and_convergent_keys(transit) -> None:
    await transit("create_key", name="d", derived=True, convergent_encryption=True)
    with pytest.raises(InvalidRequest, match="context"):
        await transit("encrypt_data", name="d", plaintext=b64("x"))

    async def made(text: str, context: str) -> str:
        said = await transit("encrypt_data", name="d", plaintext=b64(text), context=b64(context))
        return said["data"]["ciphertext"]

    assert await made("x", "a") == await made("x", "a")
    assert len({await made("x", "a"), await made("x", "b"), await made("y", "a")}) == 3
    with pytest.raises(InvalidRequest):
        await transit("decrypt_data", name="d", ciphertext=await made("x", "a"), context=b64("b"))
    status, _ = await transit.store.ask("POST", "transit/keys/c", {"convergent_encryption": True})
    assert status == 400


async def test_a_nonce_of_the_callers_choice_is_refused(transit) -> None:
    await transit("create_key", name="k")
    status, _ = await transit.store.ask(
        "POST", "transit/encrypt/k", {"plaintext": b64("x"), "nonce": b64("n" * 12)}
    )
    assert status == 400


async def test_data_keys_open_with_decrypt(transit) -> None:
    await transit("create_key", name="k")
    made = (await transit("generate_data_key", name="k", key_type="plaintext"))["data"]
    opened = await transit("decrypt_data", name="k", ciphertext=made["ciphertext"])
    assert opened["data"]["plaintext"] == made["plaintext"]
    assert len(base64.b64decode(made["plaintext"])) == 32
    assert (
        "plaintext"
        not in (await transit("generate_data_key", name="k", key_type="wrapped"))["data"]
    )


async def test_batches_keep_their_order_and_tell_failures(transit) -> None:
    await transit("create_key", name="k")
    good = [{"plaintext": b64(str(number)), "reference": f"r{number}"} for number in range(3)]
    sealed = (await transit("encrypt_data", name="k", batch_input=good))["data"]["batch_results"]
    opened = await transit(
        "decrypt_data",
        name="k",
        batch_input=[{"ciphertext": each["ciphertext"]} for each in sealed],
    )
    assert [base64.b64decode(each["plaintext"]) for each in opened["data"]["batch_results"]] == [
        b"0",
        b"1",
        b"2",
    ]
    assert [each["reference"] for each in sealed] == ["r0", "r1", "r2"]
    mixed = {"batch_input": [{"plaintext": b64("x")}, {"plaintext": "%"}]}
    status, said = await transit.store.ask("POST", "transit/encrypt/k", mixed)
    assert status == 400
    assert "error" in said["data"]["batch_results"][1]
    assert "ciphertext" in said["data"]["batch_results"][0]
    status, _ = await transit.store.ask(
        "POST", "transit/encrypt/k", {**mixed, "partial_failure_response_code": 207}
    )
    assert status == 207


async def test_hmac_hash_and_random(transit) -> None:
    await transit("create_key", name="k")
    made = (await transit("generate_hmac", name="k", hash_input=b64("x")))["data"]["hmac"]
    assert (await transit("verify_signed_data", name="k", hash_input=b64("x"), hmac=made))["data"][
        "valid"
    ]
    assert not (await transit("verify_signed_data", name="k", hash_input=b64("y"), hmac=made))[
        "data"
    ]["valid"]
    said = await transit("hash_data", hash_input=b64("abc"), algorithm="sha2-256")
    assert said["data"]["sum"].startswith("ba7816bf")
    said = await transit("generate_random_bytes", n_bytes=16)
    assert len(base64.b64decode(said["data"]["random_bytes"])) == 16


async def test_keys_stay_inside_unless_they_were_made_to_leave(transit) -> None:
    await transit("create_key", name="k")
    with pytest.raises((Forbidden, InvalidRequest)):
        await transit("export_key", name="k", key_type="encryption-key")
    with pytest.raises(InvalidRequest):
        await transit("backup_key", name="k")
    with pytest.raises(InvalidRequest):
        await transit("delete_key", name="k")
    await transit("create_key", name="e", exportable=True, allow_plaintext_backup=True)
    sealed = (await transit("encrypt_data", name="e", plaintext=b64("x")))["data"]["ciphertext"]
    assert (
        len(
            base64.b64decode(
                (await transit("export_key", name="e", key_type="encryption-key"))["data"]["keys"][
                    "1"
                ]
            )
        )
        == 32
    )
    backup = (await transit("backup_key", name="e"))["data"]["backup"]
    await transit("update_key_configuration", name="e", deletion_allowed=True)
    await transit("delete_key", name="e")
    await transit("restore_key", backup=backup, name="e")
    assert (await transit("decrypt_data", name="e", ciphertext=sealed))["data"]["plaintext"] == b64(
        "x"
    )
    with pytest.raises(InvalidRequest):
        await transit("restore_key", backup=b64("{}"), name="f")
    assert sorted((await transit("list_keys"))["data"]["keys"]) == ["e", "k"]


async def test_a_key_from_outside_is_imported_wrapped(transit) -> None:
    ask = transit.store.ask
    _, said = await ask("GET", "transit/wrapping_key")
    public = serialization.load_pem_public_key(said["data"]["public_key"].encode())
    ephemeral, target = b"e" * 32, b"t" * 32
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = public.encrypt(ephemeral, oaep) + aes_key_wrap_with_padding(ephemeral, target)
    status, _ = await ask(
        "POST", "transit/keys/byok/import", {"ciphertext": b64(wrapped), "exportable": True}
    )
    assert status == 204
    said = await transit("export_key", name="byok", key_type="encryption-key")
    assert base64.b64decode(said["data"]["keys"]["1"]) == target
    status, _ = await ask("POST", "transit/keys/byok/import_version", {"ciphertext": b64(wrapped)})
    assert status == 204
    assert (await transit("read_key", name="byok"))["data"]["latest_version"] == 2
    for bad in (
        {"ciphertext": b64(wrapped[:-8])},
        {"ciphertext": b64("x")},
        {"ciphertext": b64(wrapped), "type": "aes128-gcm96"},
    ):
        status, _ = await ask("POST", "transit/keys/bad/import", bad)
        assert status == 400


async def test_rotation_by_time_happens_at_use(transit) -> None:
    await transit("create_key", name="k", auto_rotate_period="1h")
    await transit.store.clock.advance(3601)
    made = (await transit("encrypt_data", name="k", plaintext=b64("x")))["data"]
    assert made["ciphertext"].startswith("vault:v2:")
    with pytest.raises(InvalidRequest):
        await transit("create_key", name="s", auto_rotate_period="1m")


async def test_encrypt_makes_a_key_only_for_who_may_create(transit) -> None:
    ask = transit.store.ask
    update = await transit.store.token_with('path "transit/*" { capabilities = ["update"] }')
    assert (await ask("POST", "transit/encrypt/new", {"plaintext": b64("x")}, token=update))[
        0
    ] == 403
    both = await transit.store.token_with(
        'path "transit/*" { capabilities = ["create", "update"] }'
    )
    assert (await ask("POST", "transit/encrypt/new", {"plaintext": b64("x")}, token=both))[0] == 200
    assert (await ask("POST", "transit/encrypt/new", {"plaintext": b64("x")}, token=update))[
        0
    ] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("encrypt/k", {}),
        ("encrypt/k", {"plaintext": "no base64!"}),
        ("encrypt/k", {"plaintext": 7}),
        ("encrypt/k", {"plaintext": "", "key_version": -1}),
        ("encrypt/k", {"batch_input": []}),
        ("decrypt/k", {"ciphertext": "vault:v1:AAAA"}),
        ("decrypt/k", {"ciphertext": "vault:v9:AAAA"}),
        ("decrypt/k", {"ciphertext": "AAAA"}),
        ("decrypt/absent", {"ciphertext": "vault:v1:AAAA"}),
        ("sign/k", {"input": ""}),
        ("verify/k", {"input": ""}),
        ("datakey/other/k", {}),
        ("datakey/plaintext/k", {"bits": 100}),
        ("random/17x", {}),
        ("hash/md5", {"input": ""}),
        ("keys/n", {"type": "des"}),
    ],
)
async def test_bad_input_is_a_400(transit, path, body) -> None:
    await transit("create_key", name="k")
    status, said = await transit.store.ask("POST", f"transit/{path}", body)
    assert status == 400, said
    assert said["errors"]
