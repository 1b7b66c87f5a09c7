"""Seals by their stanza and by the environment: which goes first, and what each backend is given."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.conftest import over_tls

from strongroom.app.store_config.seal_fields import Fields, with_environment
from strongroom.app.store_config.seals import Means, auto_seal
from strongroom.app.store_config.settings import ServerSettings, settings_of
from strongroom.app.store_config.sources import Stanza, read_files
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid
from strongroom.wire.client import HttpClient
from strongroom.wire.http import Request, Response
from strongroom.wire.listener import Exchange

PLACE = b"place"


def fields_of(kind: str, environment: Mapping[str, str], **fields: object) -> Fields:
    return Fields(Stanza("seal", (kind,), fields, "c.hcl:1"), environment)


@pytest.mark.parametrize(
    ("kind", "name", "variable", "first"),
    [
        ("awskms", "kms_key_id", "VAULT_AWSKMS_SEAL_KEY_ID", "environment"),
        ("awskms", "region", "AWS_REGION", "environment"),
        ("awskms", "region", "AWS_DEFAULT_REGION", "environment"),
        ("gcpckms", "credentials", "GOOGLE_CREDENTIALS", "environment"),
        ("gcpckms", "crypto_key", "VAULT_GCPCKMS_SEAL_CRYPTO_KEY", "environment"),
        ("azurekeyvault", "resource", "AZURE_AD_RESOURCE", "environment"),
        ("transit", "namespace", "VAULT_NAMESPACE", "environment"),
        ("transit", "key_name", "VAULT_TRANSIT_SEAL_KEY_NAME", "environment"),
        # A pod's own address and token are its command line's.
        ("transit", "address", "VAULT_ADDR", "stanza"),
        ("transit", "token", "VAULT_TOKEN", "stanza"),
        ("transit", "tls_ca_cert", "VAULT_CACERT", "stanza"),
    ],
)
def test_the_environment_goes_first_where_vaults_does(kind, name, variable, first) -> None:
    environment = {variable: "environment"}
    assert fields_of(kind, environment, **{name: "stanza"}).text(name) == first
    assert fields_of(kind, environment).text(name) == "environment"
    assert fields_of(kind, {}, **{name: "stanza"}).text(name) == "stanza"
    left = fields_of(kind, environment, disabled="true", **{name: "stanza"})
    assert left.text(name) == "stanza"


def test_variables_about_tls_are_those_of_a_stanza_without_tls() -> None:
    environment = {"VAULT_CACERT": "/ca", "VAULT_SKIP_VERIFY": "1"}
    assert fields_of("transit", environment).flag("tls_skip_verify")
    assert not fields_of("transit", environment, tls_server_name="x").flag("tls_skip_verify")
    assert fields_of("transit", {}, tls_skip_verify=True).flag("tls_skip_verify")
    unrenewed = {"VAULT_TRANSIT_SEAL_DISABLE_RENEWAL": "true"}
    assert fields_of("transit", unrenewed, disable_renewal=False).flag("disable_renewal")
    assert not fields_of("transit", {}, disable_renewal=False).flag("disable_renewal")
    with pytest.raises(Invalid, match="disable_renewal is true or false"):
        fields_of("transit", {}, disable_renewal="perhaps").flag("disable_renewal")


def settings(folder: Path, seals: str, **environment: str) -> ServerSettings:
    file = folder / "c.hcl"
    file.write_text(f'storage "inmem" {{}}\nlistener "tcp" {{ tls_disable = 1 }}\n{seals}')
    return with_environment(settings_of(read_files([file])), environment)


def test_the_environment_names_the_seal(tmp_path: Path) -> None:
    found = settings(tmp_path, "", VAULT_SEAL_TYPE="awskms", VAULT_AWSKMS_SEAL_KEY_ID="k")
    assert found.seal.labels == ("awskms",)
    assert auto_seal(found.seal, Means(SystemClock(), {"VAULT_AWSKMS_SEAL_KEY_ID": "k"}))
    stanza = 'seal "transit" { key_name = "k" }\nseal "awskms" { disabled = "true" }'
    found = settings(tmp_path, stanza, VAULT_SEAL_TYPE="azurekeyvault")
    assert (found.seal.labels, found.old_seal.labels) == (("azurekeyvault",), ("awskms",))
    assert found.seal.fields == {"key_name": "k"}
    assert settings(tmp_path, stanza, VAULT_SEAL_TYPE="shamir").seal is None


def test_what_has_no_effect_in_a_seal_is_named(tmp_path: Path) -> None:
    stanza = 'seal "pkcs11" {\n lib = "/l"\n mechanism = "0x1085"\n hmac_key_label = "h"\n}'
    (note,) = settings(tmp_path, stanza).notes[-1:]
    assert note.endswith(
        "c.hcl:3: of seal 'pkcs11' these have no effect: hmac_key_label, mechanism"
    )
    stanza = 'seal "awskms" { kms_key_id = "secret-of-the-file" }'
    (note,) = settings(tmp_path, stanza, VAULT_AWSKMS_SEAL_KEY_ID="other").notes[-1:]
    assert note.endswith("VAULT_AWSKMS_SEAL_KEY_ID goes before kms_key_id of seal 'awskms'")
    same = settings(tmp_path, stanza, VAULT_AWSKMS_SEAL_KEY_ID="secret-of-the-file")
    assert not any("goes before" in each for each in same.notes)


def test_a_key_that_every_user_can_read_is_named(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    stanza = f'seal "static" {{ current_key = "file://{key}" }}'
    for mode, told in ((0o644, True), (0o604, True), (0o640, False), (0o400, False)):
        key.chmod(mode)
        notes = [each for each in settings(tmp_path, stanza).notes if "every user" in each]
        assert bool(notes) is told
        assert all(f"{key}, current_key of seal 'static'" in each for each in notes)
    key.unlink()
    assert not any("every user" in each for each in settings(tmp_path, stanza).notes)


def built(kind: str, environment: Mapping[str, str], /, **fields: object) -> Any:
    stanza = Stanza("seal", (kind,), fields, "c.hcl:1")
    return auto_seal(stanza, Means(SystemClock(), environment)).wrapper


async def opens_what_it_wrapped(wrapper: Any) -> None:
    assert await wrapper.unwrap(await wrapper.wrap(b"root", PLACE), PLACE) == b"root"
    await wrapper.close()


@pytest.mark.component
async def test_awskms_takes_a_web_identity_or_a_file_of_credentials(
    moto: str, tmp_path: Path
) -> None:
    headers = {
        "X-Amz-Target": "TrentService.CreateKey",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 Credential=A/20200101/eu-west-1/kms/aws4_request",
    }
    async with HttpClient() as http:
        reply = await http.request("POST", moto + "/", headers=headers, body=b"{}")
    key = orjson.loads(reply.body)["KeyMetadata"]["KeyId"]
    (tmp_path / "token").write_text("a.service.account")
    (tmp_path / "shared").write_text("[seal]\naws_access_key_id = A\naws_secret_access_key = B\n")
    environment = {"AWS_REGION": "eu-west-1", "AWS_ENDPOINT_URL_STS": moto}
    role = {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/seal",
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
    }
    where = {"kms_key_id": key, "endpoint": moto}
    await opens_what_it_wrapped(built("awskms", environment | role, **where))
    in_stanza = {
        "role_arn": role["AWS_ROLE_ARN"],
        "web_identity_token_file": role["AWS_WEB_IDENTITY_TOKEN_FILE"],
    }
    await opens_what_it_wrapped(built("awskms", environment, **where, **in_stanza))
    shared = {"shared_creds_filename": str(tmp_path / "shared"), "shared_creds_profile": "seal"}
    await opens_what_it_wrapped(built("awskms", environment, **where, **shared))
    (tmp_path / "token").unlink()
    with pytest.raises(Invalid, match=r"cannot read .*token"):
        await built("awskms", environment | role, **where).identity()
    with pytest.raises(Invalid, match="role_arn and web_identity_token_file belong together"):
        built("awskms", {}, **where, role_arn="x")


async def test_azure_takes_a_secret_of_the_environment_or_a_federated_token(
    azure_vault: Any, tmp_path: Path
) -> None:
    _, fields = azure_vault
    (tmp_path / "token").write_text("federated-proof")
    where = {"vault_name": fields["vault"], "key_name": "kek", "ca_file": fields["ca_file"]}
    application = {
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_AUTHORITY_HOST": fields["login"] + "/",
    }
    secret = application | {"AZURE_CLIENT_SECRET": "s"}
    await opens_what_it_wrapped(built("azurekeyvault", secret, **where))
    named = {"client_secret": "env://HIDDEN"}
    await opens_what_it_wrapped(
        built("azurekeyvault", application | {"HIDDEN": "s"}, **where, **named)
    )
    federated = application | {"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token")}
    await opens_what_it_wrapped(built("azurekeyvault", federated, **where))
    with pytest.raises(Invalid, match=r"needs tenant_id \(or AZURE_TENANT_ID\)"):
        built("azurekeyvault", {"AZURE_CLIENT_SECRET": "s"}, **where)
    with pytest.raises(Invalid, match="environment 'Mars' is not known"):
        built("azurekeyvault", secret, **where, environment="Mars")


@pytest.mark.component
async def test_pkcs11_takes_a_slot_and_a_pin_of_the_environment(softhsm: dict[str, str]) -> None:
    import pkcs11

    token = pkcs11.lib(softhsm["library"]).get_token(token_label="strongroom")
    environment = {"VAULT_HSM_LIB": softhsm["library"], "VAULT_HSM_PIN": "1234"}
    environment["VAULT_HSM_SLOT"] = str(token.slot.slot_id)
    await opens_what_it_wrapped(built("pkcs11", environment, key_label="kek"))
    environment["VAULT_HSM_SLOT"] = hex(token.slot.slot_id)
    environment["VAULT_HSM_PIN"] = "wrong-97531"
    with pytest.raises(Exception, match="the PIN in VAULT_HSM_PIN; it is not offered") as caught:
        await built("pkcs11", environment, key_label="kek").identity()
    assert "97531" not in str(caught.value)
    environment["VAULT_HSM_SLOT"] = "999999"
    with pytest.raises(Exception, match="there is no token in the slot 999999"):
        await built("pkcs11", environment, key_label="kek").identity()


@pytest.mark.parametrize("slot", ["0", 0])
def test_the_first_slot_is_one(slot: object, tmp_path: Path) -> None:
    """Written as a number, too: most machines have no other."""
    named = {"lib": str(tmp_path), "key_label": "kek", "pin_file": str(tmp_path)}
    assert fields_of("pkcs11", {}, slot=slot).text("slot") == "0"
    assert built("pkcs11", {}, slot=slot, **named)


class Other:
    """Another store: what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, str]]] = []

    def __call__(self, request: Request, exchange: Exchange) -> None:
        self.asked.append((request.target, request.headers))
        data: dict[str, Any] = {"latest_version": 1, "keys": {"1": 1}}
        if request.target.endswith("lookup-self"):
            data = {"ttl": 10, "creation_ttl": 3600, "renewable": True}
        exchange.reply(Response(200, orjson.dumps({"data": data})))


async def test_transit_takes_namespace_tls_and_no_renewal(tmp_path: Path) -> None:
    other = Other()
    listener, address, authority = await over_tls(other, tmp_path / "tls")
    where = {"address": address, "token": "t", "key_name": "k", "namespace": "team/a/"}
    trusted = {"tls_ca_cert": str(authority), "disable_renewal": "true"}
    wrapper = built("transit", {}, **where, **trusted)
    await wrapper.identity()
    # It ends in ten seconds, and somebody else sees to that.
    assert await wrapper.renew() > 1
    assert {each[1]["x-vault-namespace"] for each in other.asked} == {"team/a"}
    assert not any("renew-self" in each[0] for each in other.asked)
    await wrapper.close()
    for fields in ({"tls_skip_verify": "true"}, {**trusted, "tls_server_name": "localhost"}):
        wrapper = built("transit", {}, **where, **fields)
        await wrapper.identity()
        await wrapper.close()
    with pytest.raises(Invalid, match="belong together"):
        built("transit", {}, **where, tls_client_cert="/x")
    await listener.drain()
