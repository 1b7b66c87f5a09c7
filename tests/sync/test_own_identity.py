"""The operator's own identity is shown to nobody whom the author of a namespace's store chose."""

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from strongroom.kube.resource import CONFIG_MAPS, SECRETS
from strongroom.model.errors import Invalid, Refusal, Unavailable
from strongroom.sync.crds import CLUSTER_GENERATORS
from strongroom.sync.generators.contract import Sources
from strongroom.sync.generators.kinds import ServedKinds
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.providers.vault import VaultSettings, split_key
from strongroom.sync.spec import RemoteRef
from strongroom.wire.addresses import is_metadata
from strongroom.wire.client import HttpClient, Route
from strongroom.wire.http import Response

VAULT = {"server": "https://vault.evil.example", "path": "secret"}
AZURE = {"vaultUrl": "https://shop.vault.azure.net", "authType": "ManagedIdentity"}
CLOUD = {"activeDirectoryEndpoint": "https://login.evil.example"}
POD = {"AZURE_CLIENT_ID": "c", "AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/absent"}
BORROWED = {
    "token of the pod": {"vault": {**VAULT, "auth": {"kubernetes": {"role": "r"}}}},
    "role of AWS": {"vault": {**VAULT, "auth": {"iam": {"vaultRole": "r"}}}},
    "account of Google": {"vault": {**VAULT, "auth": {"gcp": {"role": "r"}}}},
    "another vault": {"azurekv": {**AZURE, "vaultUrl": "https://vault.evil.example"}},
    "what looks like one": {"azurekv": {**AZURE, "vaultUrl": "https://x.evil/.vault.azure.net"}},
    "another port": {"azurekv": {**AZURE, "vaultUrl": "https://shop.vault.azure.net:444"}},
    "with a user": {"azurekv": {**AZURE, "vaultUrl": "https://a.vault.azure.net@evil.example"}},
    "a fragment": {"azurekv": {**AZURE, "vaultUrl": "https://evil.example#.vault.azure.net"}},
    "over nothing": {"azurekv": {**AZURE, "vaultUrl": "http://shop.vault.azure.net"}},
    "another login": {
        "azurekv": {**AZURE, "authType": "WorkloadIdentity", "customCloudConfig": CLOUD}
    },
    "another resource": {
        "azurekv": {
            **AZURE, "customCloudConfig": {**CLOUD, "keyVaultEndpoint": "https://management.azure"}
        }
    },
}  # fmt: skip


async def made(
    api, clock, provider: dict, *, home: str = "n", lends_in: tuple[str, ...] = ()
) -> None:
    metadata = {"name": "s", "uid": "u"} | ({"namespace": home} if home else {})
    store = {"metadata": metadata, "spec": {"provider": provider}}
    found = await Providers(Surroundings(api, clock, POD, lends_in))(store, "n")
    await found.close()


@pytest.mark.parametrize("name", BORROWED)
async def test_a_namespaces_store_shows_it_at_no_address_of_its_choice(
    api, clock, name: str
) -> None:
    with pytest.raises(Invalid, match="own-identity"):
        await made(api, clock, BORROWED[name])
    with pytest.raises(Invalid, match=r"SecretStore .*own-identity") as caught:
        await made(api, clock, BORROWED[name], lends_in=("another",))
    assert "ClusterSecretStore" in caught.value.hint
    # Whoever writes for the cluster may, and namespaces to which the operator lends it.
    await made(api, clock, BORROWED[name], home="")
    await made(api, clock, BORROWED[name], lends_in=("n",))
    await made(api, clock, BORROWED[name], lends_in=("*",))


async def test_at_the_clouds_own_addresses_it_counts_everywhere(api, clock) -> None:
    await made(api, clock, {"azurekv": AZURE})
    await made(api, clock, {"azurekv": {**AZURE, "authType": "WorkloadIdentity"}})
    await made(api, clock, {"azurekv": {**AZURE, "vaultUrl": "https://Shop.Vault.Azure.net:443/"}})
    china = {"environmentType": "ChinaCloud", "vaultUrl": "https://shop.vault.azure.cn/"}
    await made(api, clock, {"azurekv": {**AZURE, **china}})


async def test_an_identity_of_the_namespace_goes_where_it_says(api, clock) -> None:
    account = {"name": "app"}
    kubernetes = {"role": "r", "serviceAccountRef": account}
    await made(api, clock, {"vault": {**VAULT, "auth": {"kubernetes": kubernetes}}})
    own = {"vaultUrl": "https://vault.local", "authType": "WorkloadIdentity"}
    await made(api, clock, {"azurekv": {**own, "serviceAccountRef": account}})


@pytest.mark.parametrize(
    "registry",
    ["evil.example", "evil.example/x.azurecr.io", "a.azurecr.io@evil.example", "azurecr.io"],
)
async def test_a_registry_of_somebodys_hears_no_token_of_the_machine(
    api, clock, registry: str
) -> None:
    spec = {"registry": registry, "auth": {"managedIdentity": {}}}
    item = {"kind": "ACRAccessToken", "metadata": {"name": "g", "namespace": "n"}, "spec": spec}
    workshop = ServedKinds(Sources(Surroundings(api, clock), Random(1)))
    with pytest.raises(Invalid, match=r"ACRAccessToken .*own-identity") as caught:
        await workshop.make(item, "n")
    assert "let a ClusterGenerator say it, or" in caught.value.hint


FEDERATED = {"workloadIdentityFederation": {"credConfig": {"name": "c", "key": "k"}}}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("GCRAccessToken", {"projectID": "p"}),
        ("GCRAccessToken", {"projectID": "p", "auth": {}}),
        ("GCRAccessToken", {"projectID": "p", "auth": FEDERATED}),
        ("STSSessionToken", {"region": "eu-west-1"}),
        ("STSSessionToken", {"region": "eu-west-1", "auth": {}, "role": "arn:aws:iam::1:role/r"}),
    ],
)
async def test_a_namespaces_generator_does_not_give_it_away(
    api, clock, kind: str, spec: dict[str, Any]
) -> None:
    """Whoever may write one had the operator's own credentials in a Secret of theirs."""
    metadata = {"name": "g", "namespace": "n"}
    item = {"kind": kind, "metadata": metadata, "spec": spec}
    around = {"GCE_METADATA_HOST": "127.0.0.1:1", "AWS_STS_ENDPOINT": "http://127.0.0.1:1"}
    around |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    workshop = ServedKinds(Sources(Surroundings(api, clock, around), Random(1)))
    with pytest.raises(Invalid, match="own-identity") as caught:
        await workshop.make(item, "n")
    assert f"the {kind} of a namespace" in caught.value.message
    # Somebody else's, what is of the whole cluster, and what the operator lends, go on.
    lent = ServedKinds(Sources(Surroundings(api, clock, around, ("n",)), Random(1)))
    name = f"{kind[0].lower()}{kind[1:]}Spec"
    whole = {
        "kind": "ClusterGenerator", "metadata": {"name": "g"},
        "spec": {"kind": kind, "generator": {name: spec}},
    }  # fmt: skip
    absent = {"name": "absent", "key": "k"}
    own: dict[str, Any] = {"secretRef": {"secretAccessKeySecretRef": absent}}
    if kind == "STSSessionToken":
        own["secretRef"]["accessKeyIDSecretRef"] = absent
    for makes, what in (
        (lent, item),
        (workshop, whole),
        (workshop, item | {"spec": {**spec, "auth": own}}),
    ):
        with pytest.raises(Refusal) as caught:
            await makes.make(what, "n")
        assert caught.value.code != "own-identity"


HOSTS = ["evil.example/", "x@evil.example", "evil.example#", "evil.example?", "a.b", "eu\\x", "EU"]


@pytest.mark.parametrize("where", HOSTS)
@pytest.mark.parametrize("kind", ["SecretsManager", "ParameterStore", "gcpsm", "vault"])
async def test_a_region_is_a_part_of_a_hosts_name_and_no_host(
    api, clock, kind: str, where: str
) -> None:
    provider = {
        "gcpsm": {"gcpsm": {"projectID": "p", "location": where}},
        "vault": {
            "vault": {**VAULT, "auth": {"iam": {"vaultRole": "r", "region": where, "jwt": {}}}}
        },
    }.get(kind, {"aws": {"service": kind, "region": where}})
    store = {"metadata": {"name": "s"}, "spec": {"provider": provider}}

    async def asked() -> None:
        await (await Providers(Surroundings(api, clock))(store, "n")).validate()

    with pytest.raises(Invalid, match=r"bad-region|location"):
        await asked()


async def reads_file(api, clock, file: str) -> None:
    said = {"type": "external_account", "audience": "a", "credential_source": {"file": file}}
    body = {"metadata": {"name": "cred", "namespace": "n"}, "data": {"c": json.dumps(said)}}
    await api.create(CONFIG_MAPS, body)
    federation = {"credConfig": {"name": "cred", "key": "c"}}
    provider = {"gcpsm": {"projectID": "p", "auth": {"workloadIdentityFederation": federation}}}
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": provider}}
    found = await Providers(Surroundings(api, clock))(store, "n")
    try:
        await found.validate()
    finally:
        await found.close()


@pytest.mark.parametrize("file", ["/dev/zero", "/proc/self/environ", "/", "pipe", "large", "empty"])
async def test_a_configuration_names_no_file_without_an_end(
    api, clock, tmp_path: Path, file: str
) -> None:
    """One namespace's ConfigMap would have every namespace's operator read for ever."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"x" * 100_000)
    (tmp_path / "empty").touch()
    with pytest.raises(Invalid, match="no file that holds a token"):
        await reads_file(api, clock, file if file[0] == "/" else str(tmp_path / file))


@pytest.mark.parametrize(
    "file",
    [
        "/var/run/secrets/kubernetes.io/serviceaccount/../serviceaccount/token",
        "//var/run/./secrets/kubernetes.io/serviceaccount/token",
        "/proc/self/root/var/run/secrets/kubernetes.io/serviceaccount/token",
    ],
)
async def test_the_operators_own_token_is_not_borrowed_by_another_way_of_writing_it(
    api, clock, file: str
) -> None:
    with pytest.raises(Invalid, match="operator's own"):
        await reads_file(api, clock, file)


@pytest.mark.parametrize("key", ["../sys/policies", "a/../../other/data/x", "./x", "x/.."])
def test_a_remote_key_stays_in_the_mount_of_its_store(key: str) -> None:
    with pytest.raises(Invalid, match="relative"):
        split_key(key, VaultSettings("https://v", "team"))
    assert split_key("a/..b/c", VaultSettings("https://v", "team")) == ("team", "a/..b/c")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("169.254.169.254", True), ("169.254.170.23", True), ("::ffff:169.254.169.254", True),
        ("fe80::1%eth0", True), ("fd00:ec2::254", True), ("FD20:CE:0::254", True),
        ("168.63.129.16", True), ("64:ff9b::a9fe:a9fe", True), ("64:ff9b::808:808", False), ("10.0.0.1", False), ("127.0.0.1", False), ("::1", False),
        ("fd00::1", False), ("no address", False),
    ],
)  # fmt: skip
def test_where_clouds_tell_who_a_machine_is(address: str, told: bool) -> None:
    assert is_metadata(address) is told


# Link-local, and nobody's.
NOWHERE = ["169.254.255.254:9", "[::ffff:169.254.255.254]:9", "0xa9fefffe:9"]


@pytest.mark.parametrize("host", NOWHERE)
@pytest.mark.parametrize("kind", ["webhook", "vault"])
async def test_a_namespaces_store_does_not_ask_the_machine_who_it_is(
    api, clock, kind: str, host: str
) -> None:
    address = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    headers = {"Metadata-Flavor": "Google"}
    provider = {
        "webhook": {"url": address, "headers": headers, "result": {"jsonPath": "$"}},
        "vault": {"server": f"{address}?x=", "path": "secret", "headers": headers},
    }[kind]
    store = {"metadata": {"name": "s", "namespace": "n"}, "spec": {"provider": {kind: provider}}}
    found = await Providers(Surroundings(api, clock))(store, "n")
    with pytest.raises(Unavailable) as caught:
        await found.fetch(RemoteRef("db"))
    await found.close()
    said = caught.value.__cause__ or caught.value
    assert "that address is not asked" in str(said)


async def test_a_name_that_leads_to_a_shunned_address_is_not_asked(plain) -> None:
    asked: list[str] = []

    def answer(request, exchange) -> None:
        asked.append(request.target)
        exchange.reply(Response(200, b"{}"))

    async with plain(answer) as address:
        named = address.replace("127.0.0.1", "localhost")
        async with HttpClient(route=Route(shuns=lambda each: each == "127.0.0.1")) as http:
            with pytest.raises(Unavailable):
                await http.request("GET", named)
        assert not asked
        async with HttpClient(route=Route(shuns=is_metadata)) as http:
            assert (await http.request("GET", named)).status == 200


def dynamic(address: str, **provider: Any) -> dict[str, Any]:
    token = {"tokenSecretRef": {"name": "admin", "namespace": "kube-system", "key": "token"}}
    return {"path": "db/creds/r", "provider": {"server": address, "auth": token, **provider}}


@pytest.mark.parametrize("metadata", [{}, {"namespace": "kube-system"}, {"name": "g"}])
@pytest.mark.parametrize("kind", ["VaultDynamicSecret", "ClusterGenerator"])
async def test_a_state_that_somebody_wrote_reads_in_no_other_namespace(
    api, clock, plain, kind: str, metadata: dict
) -> None:
    """With a generator of its own in a GeneratorState a namespace would have any Secret sent."""
    heard: list[str] = []

    def server(request, exchange) -> None:
        heard.append(request.headers.get("x-vault-token", ""))
        exchange.reply(Response(200, b"{}"))

    secret = {"metadata": {"name": "admin", "namespace": "kube-system"}, "data": {"token": "czNj"}}
    await api.create(SECRETS, secret)
    workshop = ServedKinds(Sources(Surroundings(api, clock), Random(1)))
    async with plain(server) as address:
        spec = dynamic(address)
        whole = {"kind": "VaultDynamicSecret", "generator": {"vaultDynamicSecretSpec": spec}}
        item = {"kind": kind, "metadata": metadata, "spec": spec}
        if kind == "ClusterGenerator":
            item["spec"] = whole
            # One of that name that asks somebody else is no reason to believe it.
            other = {**whole, "generator": {"vaultDynamicSecretSpec": dynamic("https://vault")}}
            await api.create(CLUSTER_GENERATORS, {"metadata": {"name": "g"}, "spec": other})
        state = {"leaseID": "x", "leaseDuration": 60, "leaseRenewable": True}
        with pytest.raises(Invalid, match="namespace must be n"):
            await workshop.release(item, "n", state)
        # A lease that is to be renewed asks too, and is refused for the same reason.
        assert (await workshop.sustain(item, "n", state, 59.0)).ends is not None
        assert not heard
        if kind == "ClusterGenerator":
            held = await api.get(CLUSTER_GENERATORS, "g")
            await api.replace(CLUSTER_GENERATORS, {**held, "spec": whole})
            if metadata.get("name") == "g":
                await workshop.release(item, "n", state)
                assert heard == ["s3c"]
