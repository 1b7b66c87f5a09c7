"""Transit under its public client, and the rules that keep keys inside."""

import asyncio
import base64
import dataclasses
import datetime
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.x509.oid import NameOID
from hvac.exceptions import Forbidden, InvalidRequest
from tests.store.test_cert_auth import Maker, pem

from strongroom.crypto.signatures import (
    load_key_pair,
    load_public_key,
    new_key_pair,
    public_key_text,
)
from strongroom.model.errors import Invalid
from strongroom.store.secrets.transit_data import PER_TURN, in_batch, sign_item
from strongroom.store.secrets.transit_key import KeyVersion, TransitKey, check_material, untagged


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


async def test_versions_below_the_minimum_are_neither_used_nor_shown_nor_exported(transit) -> None:
    """Without a version every one was exported, and encrypted with one that nobody may decrypt."""
    ask = transit.store.ask
    for name, kind in (("k", "aes256-gcm96"), ("s", "ed25519")):
        await ask("POST", f"transit/keys/{name}", {"type": kind, "exportable": True})
        await transit("rotate_key", name=name)
        await transit("update_key_configuration", name=name, min_decryption_version=2)
    _, said = await ask("GET", "transit/export/encryption-key/k")
    assert list(said["data"]["keys"]) == ["2"]
    assert list((await transit("read_key", name="k"))["data"]["keys"]) == ["2"]
    body = {"plaintext": b64("x"), "input": b64("x"), "key_version": 1}
    for path in ("encrypt/k", "hmac/k", "sign/s"):
        status, said = await ask("POST", f"transit/{path}", body)
        assert (status, "minimum" in said["errors"][0]) == (400, True), path
    await transit("update_key_configuration", name="k", min_decryption_version=1)
    assert list((await transit("read_key", name="k"))["data"]["keys"]) == ["1", "2"]
    assert (await ask("POST", "transit/encrypt/k", body))[0] == 200


async def test_what_was_trimmed_does_not_come_back_by_a_lower_trim(transit) -> None:
    await transit("create_key", name="k")
    for _ in range(2):
        await transit("rotate_key", name="k")
    await transit(
        "update_key_configuration", name="k", min_decryption_version=2, min_encryption_version=3
    )
    await transit("trim_key", name="k", min_version=2)
    with pytest.raises(InvalidRequest, match="cannot be decremented"):
        await transit("trim_key", name="k", min_version=1)


async def test_associated_data_is_refused_where_nothing_binds_it(transit) -> None:
    """RSA left it out, and decrypted with any other."""
    ask = transit.store.ask
    await transit("create_key", name="r", key_type="rsa-2048")
    body = {"plaintext": b64("x"), "associated_data": b64("for ada")}
    status, said = await ask("POST", "transit/encrypt/r", body)
    assert (status, "non-AEAD" in said["errors"][0]) == (400, True)
    _, made = await ask("POST", "transit/encrypt/r", {"plaintext": b64("x")})
    body = {"ciphertext": made["data"]["ciphertext"], "associated_data": b64("for ada")}
    assert (await ask("POST", "transit/decrypt/r", body))[0] == 400


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
    assert [each["reference"] for each in opened["data"]["batch_results"]] == ["", "", ""]
    mixed = {"batch_input": [{"plaintext": b64("x")}, {"plaintext": "%"}]}
    status, said = await transit.store.ask("POST", "transit/encrypt/k", mixed)
    assert status == 400
    assert "error" in said["data"]["batch_results"][1]
    assert "ciphertext" in said["data"]["batch_results"][0]
    status, _ = await transit.store.ask(
        "POST", "transit/encrypt/k", {**mixed, "partial_failure_response_code": 207}
    )
    assert status == 207


async def test_what_a_batch_has_decrypted_is_wrapped_whatever_has_failed(transit) -> None:
    """Beside a status that is no success it went out as it was, past a policy that wraps."""
    await transit("create_key", name="k")
    sealed = (await transit("encrypt_data", name="k", plaintext=b64("x")))["data"]["ciphertext"]
    token = await transit.store.token_with(
        'path "transit/decrypt/k" { capabilities = ["update"]\nmin_wrapping_ttl = 60 }'
    )
    wrap = {"X-Vault-Wrap-TTL": "60"}
    for code in ({}, {"partial_failure_response_code": 500}):
        body = {"batch_input": [{"ciphertext": sealed}, {"ciphertext": "x"}], **code}
        status, said = await transit.store.ask(
            "POST", "transit/decrypt/k", body, token=token, **wrap
        )
        assert (status, said["data"]) == (200, None)
        given = {"token": said["wrap_info"]["token"]}
        _, said = await transit.store.ask("POST", "sys/wrapping/unwrap", given)
        first, second = said["data"]["batch_results"]
        assert first["plaintext"] == b64("x")
        assert "error" in second


async def test_a_batch_to_rewrap_gives_what_could_be_rewrapped(transit) -> None:
    """200 as in Vault: beside a 400 its Go client reads no body, and all others were lost."""
    await transit("create_key", name="k")
    sealed = (await transit("encrypt_data", name="k", plaintext=b64("x")))["data"]["ciphertext"]
    await transit("rotate_key", name="k")
    broken = ("vault:v1:%", f"vault:v1:{b64('x' * 40)}", "")
    batch = [{"ciphertext": each} for each in (sealed, *broken)]
    status, said = await transit.store.ask("POST", "transit/rewrap/k", {"batch_input": batch})
    first, *others = said["data"]["batch_results"]
    assert (status, first["ciphertext"][:9]) == (200, "vault:v2:")
    assert all("error" in each and "ciphertext" not in each for each in others)
    status, _ = await transit.store.ask("POST", "transit/rewrap/k", {"batch_input": batch[1:]})
    assert status == 200
    assert (await transit.store.ask("POST", "transit/rewrap/k", batch[1]))[0] == 400


@pytest.mark.parametrize(
    ("kind", "name"),
    [("ecdsa-p256", "P-256"), ("ecdsa-p521", "P-521"), ("ed25519", "ed25519")],
)
async def test_a_curve_goes_by_its_own_name(transit, kind, name) -> None:
    await transit("create_key", name="k", key_type=kind)
    assert (await transit("read_key", name="k"))["data"]["keys"]["1"]["name"] == name


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
    with pytest.raises(InvalidRequest, match="exporting is disallowed on the policy"):
        await transit("backup_key", name="k")
    await transit("update_key_configuration", name="k", exportable=True)
    with pytest.raises(InvalidRequest, match="plaintext backup is disallowed on the policy"):
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


@pytest.mark.long
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


async def test_a_key_that_a_context_made_depends_on_it(transit) -> None:
    """It was an ordinary key, which opened under any context."""
    ask = transit.store.ask
    alone = {"plaintext": b64("x"), "context": b64("ada")}
    for name, body in (("one", alone), ("many", {"batch_input": [alone]})):
        assert (await ask("POST", f"transit/encrypt/{name}", body))[0] == 200
        assert (await transit("read_key", name=name))["data"]["derived"] is True
        _, made = await ask("POST", f"transit/encrypt/{name}", alone)
        other = {"ciphertext": made["data"]["ciphertext"], "context": b64("eve")}
        assert (await ask("POST", f"transit/decrypt/{name}", other))[0] == 400
    body = {**alone, "convergent_encryption": True}
    made = [await ask("POST", "transit/encrypt/same", body) for _ in range(2)]
    assert made[0][1]["data"] == made[1][1]["data"]


async def test_encrypting_makes_no_key_that_cannot_encrypt(transit) -> None:
    body = {"plaintext": b64("x"), "type": "ed25519"}
    assert (await transit.store.ask("POST", "transit/encrypt/new", body))[0] == 400
    assert (await transit.store.ask("GET", "transit/keys/new"))[0] == 404


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


async def test_a_hash_that_rsa_cannot_sign_with_is_a_400(transit) -> None:
    """The default padding looked the name up before anybody had checked it, and answered 500."""
    ask = transit.store.ask
    await transit("create_key", name="r", key_type="rsa-2048")
    for path, body in (
        ("sign/r", {"hash_algorithm": "md5"}),
        ("sign/r/none", {}),
        ("sign/r/none", {"prehashed": True}),
        ("sign/r/none", {"signature_algorithm": "pkcs1v15"}),
        ("verify/r", {"hash_algorithm": "md5", "signature": "vault:v1:AAAA"}),
        ("sign/r", {"salt_length": "long"}),
        ("sign/r", {"salt_length": -1}),
        ("sign/r", {"salt_length": 300}),
    ):
        status, said = await ask("POST", f"transit/{path}", {"input": b64("x"), **body})
        assert status == 400, (path, body, said)


@pytest.mark.parametrize("salt", [0, "20", "hash", "auto"])
async def test_a_salt_of_any_length_verifies_where_none_is_named(transit, salt) -> None:
    ask = transit.store.ask
    await transit("create_key", name="r", key_type="rsa-2048")
    _, made = await ask("POST", "transit/sign/r", {"input": b64("x"), "salt_length": salt})
    body = {"input": b64("x"), "signature": made["data"]["signature"]}
    assert (await ask("POST", "transit/verify/r", body))[1]["data"]["valid"] is True
    assert (await ask("POST", "transit/verify/r", {**body, "salt_length": salt}))[1]["data"][
        "valid"
    ]
    _, said = await ask("POST", "transit/verify/r", {**body, "salt_length": 33})
    assert said["data"]["valid"] is False


async def test_a_digest_is_signed_without_the_name_of_its_hash(transit) -> None:
    ask = transit.store.ask
    await transit("create_key", name="r", key_type="rsa-2048")
    body = {
        "input": b64("anything"), "prehashed": True, "hash_algorithm": "none",
        "signature_algorithm": "pkcs1v15",
    }  # fmt: skip
    status, made = await ask("POST", "transit/sign/r", body)
    assert status == 200, made
    body["signature"] = made["data"]["signature"]
    assert (await ask("POST", "transit/verify/r", body))[1]["data"]["valid"] is True
    body["hash_algorithm"] = "sha2-256"
    assert (await ask("POST", "transit/verify/r", body))[1]["data"]["valid"] is False


async def test_the_hash_is_that_of_the_path_and_its_older_name_counts(transit) -> None:
    ask = transit.store.ask
    await transit("create_key", name="e", key_type="ecdsa-p256")

    async def valid(signed: str, verified: str, **body: str) -> bool:
        _, made = await ask("POST", f"transit/{signed}", {"input": b64("x"), **body})
        given = {"input": b64("x"), "signature": made["data"]["signature"]}
        return (await ask("POST", f"transit/{verified}", given))[1]["data"]["valid"]

    assert await valid("sign/e", "verify/e/sha2-512", algorithm="sha2-512")
    assert await valid("sign/e/sha2-512", "verify/e/sha2-512", hash_algorithm="sha2-384")
    assert not await valid("sign/e", "verify/e/sha2-256", hash_algorithm="sha2-384")


# certificates


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p384", "rsa-2048"])
@pytest.mark.long
async def test_a_key_asks_for_a_certificate_and_keeps_the_chain(transit, kind) -> None:
    ask, authority = transit.store.ask, Maker(transit.store.clock.now())
    await ask("POST", "transit/keys/k", {"type": kind})
    template = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app.example")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("app.example")]), critical=False)
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    )
    text = template.public_bytes(serialization.Encoding.PEM).decode()
    status, said = await ask("POST", "transit/keys/k/csr", {"csr": text})
    assert status == 200, said
    request = x509.load_pem_x509_csr(said["data"]["csr"].encode())
    assert request.is_signature_valid
    assert request.subject == template.subject
    assert list(request.extensions) == list(template.extensions)
    issued = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(authority.name)
        .public_key(request.public_key())
        .serial_number(1)
        .not_valid_before(authority.now)
        .not_valid_after(authority.now + datetime.timedelta(days=1))
        .sign(authority.key, hashes.SHA256())
    )
    chain = pem(issued) + pem(authority.certificate)
    body = {"certificate_chain": chain}
    assert (await ask("POST", "transit/keys/k/set-certificate", body))[0] == 204
    _, shown = await ask("GET", "transit/keys/k")
    assert shown["data"]["keys"]["1"]["certificate_chain"] == chain
    stranger = Maker(transit.store.clock.now(), "stranger")
    for bad in (
        "", "nothing", pem(authority.certificate), pem(issued) + pem(stranger.certificate),
        pem(issued) * 11,
    ):  # fmt: skip
        body = {"certificate_chain": bad}
        assert (await ask("POST", "transit/keys/k/set-certificate", body))[0] == 400
    await ask("POST", "transit/keys/k/rotate")
    # The newest version has another key.
    assert (await ask("POST", "transit/keys/k/set-certificate", {"certificate_chain": chain}))[
        0
    ] == 400
    body = {"certificate_chain": chain, "version": 1}
    assert (await ask("POST", "transit/keys/k/set-certificate", body))[0] == 204
    assert (await ask("POST", "transit/keys/k/csr", {"csr": "nothing"}))[0] == 400
    await ask("POST", "transit/keys/aes", {})
    assert (await ask("POST", "transit/keys/aes/csr"))[0] == 400


def exported_pair(kind: str, text: str):
    """A pair in the form that Vault exports it in."""
    if kind == "ed25519":
        whole = base64.b64decode(text)
        pair = ed25519.Ed25519PrivateKey.from_private_bytes(whole[:32])
        assert whole[32:] == pair.public_key().public_bytes_raw()
        return pair
    assert text.startswith(
        f"-----BEGIN {'RSA' if kind.startswith('rsa') else 'EC'} PRIVATE KEY-----"
    )
    return serialization.load_pem_private_key(text.encode(), None)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-p256", "rsa-2048", "rsa-4096"])
@pytest.mark.long
async def test_a_public_key_alone_verifies_and_its_private_half_may_follow(transit, kind) -> None:
    ask = transit.store.ask
    await ask("POST", "transit/keys/own", {"type": kind, "exportable": True})
    _, said = await ask("GET", "transit/export/signing-key/own")
    private = exported_pair(kind, said["data"]["keys"]["1"])
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = {"type": kind, "public_key": public.decode(), "exportable": True}
    assert (await ask("POST", "transit/keys/half/import", body))[0] == 204
    _, signed = await ask("POST", "transit/sign/own", {"input": b64("text")})
    body = {"input": b64("text"), "signature": signed["data"]["signature"]}
    _, said = await ask("POST", "transit/verify/half", body)
    assert said["data"]["valid"] is True
    assert (await ask("POST", "transit/sign/half", {"input": b64("text")}))[0] == 400
    assert (await ask("GET", "transit/export/signing-key/half"))[0] == 400
    _, said = await ask("GET", "transit/keys/half")
    assert said["data"]["keys"]["1"]["public_key"]
    if kind.startswith("rsa"):
        _, sealed = await ask("POST", "transit/encrypt/half", {"plaintext": b64("x")})
        body = {"ciphertext": sealed["data"]["ciphertext"]}
        assert (await ask("POST", "transit/decrypt/half", body))[0] == 400
        _, opened = await ask("POST", "transit/decrypt/own", body)
        assert opened["data"]["plaintext"] == b64("x")
    # The private half, wrapped, becomes part of the version that lacks it.
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _, said = await ask("GET", "transit/wrapping_key")
    wrapping = serialization.load_pem_public_key(said["data"]["public_key"].encode())
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    wrapped = wrapping.encrypt(b"e" * 32, oaep) + aes_key_wrap_with_padding(b"e" * 32, der)
    body = {"ciphertext": b64(wrapped)}
    assert (await ask("POST", "transit/keys/half/import_version", body))[0] == 204
    assert (await ask("GET", "transit/keys/half"))[1]["data"]["latest_version"] == 1
    assert (await ask("POST", "transit/sign/half", {"input": b64("text")}))[0] == 200
    for bad in (
        {"type": kind, "public_key": "nothing"},
        {"type": "ecdsa-p521", "public_key": public.decode()},
        {"type": "aes256-gcm96", "public_key": public.decode()},
        {"type": kind},
    ):
        assert (await ask("POST", "transit/keys/bad/import", bad))[0] == 400


@pytest.mark.long
async def test_a_key_goes_to_another_store_wrapped_for_it(transit) -> None:
    """Exported for the other's wrapping key, and imported there as it is."""
    ask = transit.store.ask
    await ask("POST", "sys/mounts/other", {"type": "transit"})
    _, said = await ask("GET", "other/wrapping_key")
    body = {"type": "rsa-4096", "public_key": said["data"]["public_key"]}
    assert (await ask("POST", "transit/keys/target/import", body))[0] == 204
    for kind in ("aes256-gcm96", "ed25519", "rsa-2048"):
        await ask("POST", f"transit/keys/{kind}", {"type": kind, "exportable": True})
        status, said = await ask("GET", f"transit/byok-export/target/{kind}")
        assert status == 200, said
        body = {"type": kind, "ciphertext": said["data"]["keys"]["1"], "exportable": True}
        assert (await ask("POST", f"other/keys/{kind}/import", body))[0] == 204
        name = "encryption-key" if kind.startswith("aes") else "signing-key"
        exported = [
            (await ask("GET", f"{mount}/export/{name}/{kind}"))[1]["data"]["keys"]
            for mount in ("transit", "other")
        ]
        assert exported[0] == exported[1]
    await ask("POST", "transit/keys/stays", {})
    assert (await ask("GET", "transit/byok-export/target/stays"))[0] == 400
    assert (await ask("GET", "transit/byok-export/ed25519/rsa-2048"))[0] == 400
    assert (await ask("GET", "transit/byok-export/target/rsa-2048?hash=MD5"))[0] == 400
    assert (await ask("GET", "transit/byok-export/target/rsa-2048/2"))[0] == 400


async def test_an_imported_key_is_rotated_here_only_where_that_was_allowed(transit) -> None:
    ask = transit.store.ask
    await ask("POST", "transit/keys/own", {"type": "ed25519"})
    _, said = await ask("GET", "transit/export/public-key/own")
    raw = base64.b64decode(said["data"]["keys"]["1"])
    public = ed25519.Ed25519PublicKey.from_public_bytes(raw).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for name, allowed in (("no", False), ("yes", True)):
        body = {"type": "ed25519", "public_key": public.decode(), "allow_rotation": allowed}
        assert (await ask("POST", f"transit/keys/{name}/import", body))[0] == 204
        status, _ = await ask("POST", f"transit/keys/{name}/rotate")
        assert status == (200 if allowed else 400)
        _, said = await ask("GET", f"transit/keys/{name}")
        assert said["data"]["imported_key_allow_rotation"] is allowed


async def test_an_imported_key_is_rotated_by_time_only_where_that_was_allowed(transit) -> None:
    """Its material would be the store's from then on, which its owner had not allowed."""
    ask = transit.store.ask
    await ask("POST", "transit/keys/own", {"type": "ecdsa-p256"})
    _, said = await ask("GET", "transit/export/public-key/own")
    body = {
        "type": "ecdsa-p256", "public_key": said["data"]["keys"]["1"], "auto_rotate_period": "1h",
    }  # fmt: skip
    assert (await ask("POST", "transit/keys/no/import", body))[0] == 400
    assert (await ask("POST", "transit/keys/yes/import", {**body, "allow_rotation": True}))[
        0
    ] == 204
    del body["auto_rotate_period"]
    assert (await ask("POST", "transit/keys/no/import", body))[0] == 204
    status, said = await ask("POST", "transit/keys/no/config", {"auto_rotate_period": "1h"})
    assert (status, "allow_rotation" in said["errors"][0]) == (400, True)
    assert (await ask("POST", "transit/keys/no/config", {"deletion_allowed": True}))[0] == 200


def test_a_key_whose_rotation_was_not_allowed_is_never_due() -> None:
    """Also one that an earlier version has let have a period."""
    key = TransitKey(
        "k", "aes256-gcm96", {1: KeyVersion(b"k" * 32, b"h" * 32, 1.0)},
        imported=True, auto_rotate_seconds=3600,
    )  # fmt: skip
    assert not key.due(1e9)
    assert dataclasses.replace(key, allow_rotation=True).due(1e9)


@pytest.mark.parametrize(
    ("aad", "sealed"),
    [
        (b"", "49d56e5f5a69e4959dc0743be751e3228fabb99bf36ef427a05e3ce2e4ce194e13"),
        (b"bound", "e669d4857ae0eb7ef2a0bea3992603bca4db65c3976e1163c282d88de75cf4ccb7"),
    ],
)
def test_what_is_derived_stays_the_same_over_releases(aad: bytes, sealed: str) -> None:
    """Equal ciphertexts are what others look values up by, and signatures outlive a version."""
    versions = {1: KeyVersion(bytes(range(32)), b"h" * 32)}
    key = TransitKey("k", "aes256-gcm96", versions, derived=True, convergent=True)
    assert key.encrypt(b"plain", 1, b"context", aad).hex() == sealed
    plain = dataclasses.replace(key, convergent=False)
    assert plain.decrypt(bytes.fromhex(sealed), 1, b"context", aad) == b"plain"
    signs = dataclasses.replace(plain, type="ed25519")
    public = "rLwoeS8PYmdrHDRaSfNfsKOYukCLFgb/v1ysEIRHHjQ="
    assert public_key_text("ed25519", signs.pair(1, b"context")) == public


def test_an_imported_hmac_key_is_neither_short_nor_long() -> None:
    for size in (32, 512):
        check_material("hmac", b"k" * size)
    for size in (0, 31, 513):
        with pytest.raises(Invalid, match="32 to 512 bytes"):
            check_material("hmac", b"k" * size)


@pytest.mark.parametrize("version", ["", "x", "1x", "-1", "\u00b2", "1" * 10])
def test_a_version_that_is_no_number_is_no_ciphertext(version: str) -> None:
    with pytest.raises(Invalid, match="no prefix"):
        untagged(f"vault:v{version}:AAAA", "ciphertext")


async def test_an_hmac_key_has_the_size_that_was_asked_for(transit) -> None:
    ask = transit.store.ask
    body = {"type": "hmac", "key_size": 64, "exportable": True}
    status, said = await ask("POST", "transit/keys/h", body)
    assert (status, said["data"]["key_size"], said["warnings"]) == (200, 64, None)
    await transit("rotate_key", name="h")
    _, said = await ask("GET", "transit/export/hmac-key/h")
    assert [len(base64.b64decode(each)) for each in said["data"]["keys"].values()] == [64, 64]
    for bad in ({"type": "hmac", "key_size": 31}, {"type": "hmac", "key_size": 513}):
        assert (await ask("POST", "transit/keys/bad", bad))[0] == 400
    assert (await ask("POST", "transit/keys/bad", {"key_size": 32}))[0] == 400


def test_a_private_half_goes_to_the_version_that_it_is_for() -> None:
    """Given for an older version it became a new one, which signed from then on."""
    first, second = new_key_pair("ed25519"), new_key_pair("ed25519")
    public = load_public_key("ed25519", first).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    versions = {1: KeyVersion(public, b"h" * 32), 2: KeyVersion(second, b"h" * 32)}
    key = TransitKey("k", "ed25519", versions, imported=True)
    made = key.completed(1.0, first, 1)
    assert (made.latest, made.versions[1].material) == (2, first)
    for material, wanted in ((second, 1), (public, 1), (first, 2), (first, 3)):
        with pytest.raises(Invalid):
            key.completed(1.0, material, wanted)


async def test_a_key_that_is_there_says_that_it_stays_as_it_is(transit) -> None:
    ask = transit.store.ask
    _, said = await ask("POST", "transit/keys/k", {})
    assert said["warnings"] is None
    status, said = await ask("POST", "transit/keys/k", {"type": "rsa-2048"})
    assert (status, said["data"]["type"]) == (200, "aes256-gcm96")
    assert said["warnings"] == ["key k already existed"]


async def test_the_public_half_of_a_derived_pair_is_shown_for_its_context(transit) -> None:
    """Nobody outside could verify what it signs."""
    ask = transit.store.ask
    await ask("POST", "transit/keys/d", {"type": "ed25519", "derived": True})
    body = {"input": b64("x"), "context": b64("ada")}
    _, made = await ask("POST", "transit/sign/d", body)
    status, said = await ask("GET", f"transit/keys/d?context={b64('ada')}")
    assert (status, said["warnings"]) == (200, None)
    raw = base64.b64decode(said["data"]["keys"]["1"]["public_key"])
    signature = base64.b64decode(made["data"]["signature"].split(":")[2])
    ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(signature, b"x")
    _, said = await ask("GET", "transit/keys/d")
    assert said["data"]["keys"]["1"]["public_key"] == ""


async def test_an_item_of_a_batch_without_input_is_not_an_empty_one(transit) -> None:
    ask = transit.store.ask
    await transit("create_key", name="k", key_type="ed25519")
    batch = {"batch_input": [{"input": ""}, {"plaintext": b64("x")}]}
    for path in ("sign/k", "hmac/k"):
        status, said = await ask("POST", f"transit/{path}", batch)
        first, second = said["data"]["batch_results"]
        missing = {"error": "missing input", "reference": ""}
        assert (status, second) == (200, missing)
        assert "error" not in first


@pytest.mark.parametrize("kind", ["ed25519", "rsa-2048"])
async def test_others_are_served_while_a_batch_is_worked_on(kind) -> None:
    """A thousand RSA signatures held the whole process up for minutes."""
    key = TransitKey("k", kind, {1: KeyVersion(new_key_pair(kind), b"h" * 32)})
    batch = [{"input": b64(str(number)), "reference": number} for number in range(1, 41)]
    work = asyncio.create_task(in_batch(key, batch, {}, sign_item))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= len(batch) // PER_TURN
    results = ((await work).data or {})["batch_results"]
    assert [each["reference"] for each in results] == [str(each["reference"]) for each in batch]


def test_an_rsa_key_from_outside_is_looked_at_in_full_and_a_kept_one_is_not() -> None:
    """Looking took most of the time of each signature, while nobody else was served."""
    pair = load_key_pair("rsa-2048", new_key_pair("rsa-2048"))
    numbers = pair.private_numbers()
    wrong = rsa.RSAPrivateNumbers(
        numbers.p, numbers.q, numbers.d, numbers.dmp1 + 2, numbers.dmq1, numbers.iqmp,
        numbers.public_numbers,
    )  # fmt: skip
    der = wrong.private_key(unsafe_skip_rsa_key_validation=True).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(Invalid):
        check_material("rsa-2048", der)
    assert isinstance(load_key_pair("rsa-2048", der), rsa.RSAPrivateKey)


async def test_a_mount_can_be_told_not_to_make_keys_by_encrypting(transit) -> None:
    ask = transit.store.ask
    assert (await ask("GET", "transit/config/keys"))[1]["data"] == {"disable_upsert": False}
    assert (await ask("POST", "transit/config/keys", {"disable_upsert": True}))[0] == 200
    assert (await ask("POST", "transit/encrypt/new", {"plaintext": b64("x")}))[0] == 400
    await ask("POST", "transit/config/keys", {"disable_upsert": False})
    assert (await ask("POST", "transit/encrypt/new", {"plaintext": b64("x")}))[0] == 200


async def test_a_backup_whose_key_is_no_key_is_refused(transit) -> None:
    """It would fail at every use instead."""
    bad = {
        "name": "b", "type": "aes256-gcm96", "versions": {"1": ["AAAA", "AAAA", 1.0]},
    }  # fmt: skip
    backup = b64(json.dumps(bad))
    assert (await transit.store.ask("POST", "transit/restore", {"backup": backup}))[0] == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_encryption": "x"}, {"min_decryption": 2}, {"min_decryption": 0}, {"derived": "no"},
        {"auto_rotate_seconds": None}, {"min_encryption": 2}, {"versions": 0}, {"name": 5},
    ],
)  # fmt: skip
async def test_a_backup_whose_settings_cannot_be_is_refused(transit, wrong) -> None:
    """It was taken, and each use of the key answered 500."""
    await transit("create_key", name="e", exportable=True, allow_plaintext_backup=True)
    good = json.loads(base64.b64decode((await transit("backup_key", name="e"))["data"]["backup"]))
    if "versions" in wrong:
        wrong = {"versions": {str(wrong["versions"]): good["versions"]["1"]}}
    body = {"backup": b64(json.dumps({**good, **wrong}))}
    assert (await transit.store.ask("POST", "transit/restore/new", body))[0] == 400
    body = {"backup": b64(json.dumps(good))}
    assert (await transit.store.ask("POST", "transit/restore/new", body))[0] == 204


def test_a_key_that_uses_nothing_new_is_stored_as_before() -> None:
    """A node of the version before reads it."""
    key = TransitKey("k", "aes256-gcm96", {1: KeyVersion(b"k" * 32, b"h" * 32, 1.0)})
    stored = key.dumps()
    assert "allow_rotation" not in stored
    assert len(stored["versions"]["1"]) == 3
    assert TransitKey.loads(stored) == key
