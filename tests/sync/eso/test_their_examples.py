"""Every example of External Secrets Operator's documents, in files and in pages, is taken, or refused by name.

The documents' own mistakes and excerpts are listed with what is the matter; a list that no longer
fits fails too. Our definitions take the same examples, each field known to them.
"""

import asyncio
import base64
import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from strongroom.app.cluster.control_plane import ControlPlane
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, Object
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Refusal
from strongroom.sync.crds import GENERATORS, crds
from strongroom.sync.generators.contract import Sources
from strongroom.sync.generators.kinds import KINDS as GENERATOR_KINDS
from strongroom.sync.generators.kinds import ServedKinds
from strongroom.sync.providers.kinds import KINDS, Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.push_spec import parse_push
from strongroom.sync.spec import parse_spec

CLOCK = SystemClock()
RAW = re.compile(r"\{%-?\s*(?:end)?raw\s*-?%\}")
BLOCK = re.compile(r"^([ \t]*)```(?:ya?ml|YAML)[^\n]*\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
GROUP = "external-secrets.io/"
PLACEHOLDER = re.compile(r"\[([A-Z_]+)\]")
STORES = ("SecretStore", "ClusterSecretStore")
SPECS = {
    "ExternalSecret": "",
    "PushSecret": "",
    "ClusterExternalSecret": "externalSecretSpec",
    "ClusterPushSecret": "pushSecretSpec",
}
NO_YAML = {
    "1password-connect-server-deployment.yaml": "an excerpt of a Deployment",
    "conjur-ca-bundle.yaml": "an excerpt of a store",
    "filtercertchain-template-v2-external-secret.yaml": "quotes within quotes",
    "filterpem-template-v2-external-secret.yaml": "quotes within quotes",
    "ibm-container-auth-volume.yaml": "an excerpt of a Deployment",
    "pkcs12-template-v2-external-secret.yaml": "quotes within quotes",
    "kubernetes.md 1": "a tab",
    "yandex-certificate-manager.md 2": "asterisks",
    "yandex-lockbox.md 2": "asterisks",
}
# Refused by us as by the other controller: by code, and why.
REFUSED = {
    "beyondtrust-push-secret.yaml": ("no-remote-key", "a provider that is not served"),
    "full-cluster-external-secret.yaml": ("bad-source", "dataFrom[].key ended with v1alpha1"),
    "jwk-template-v2-external-secret.yaml": ("no-data", "the excerpt has a template alone"),
    "passworddepot-external-secret-json.yaml": ("bad-source", "dataFrom[].key of v1alpha1"),
    "pkcs12-template-v1-external-secret.yaml": ("bad-engine", "the engine v1 is gone there too"),
    "template-v2-push-secret.yaml": ("bad-source", "the excerpt has no selector"),
    # Of the pages: the file, and which of its examples.
    "externalsecret.md 1": ("no-data", "the excerpt has a policy alone"),
    "externalsecret.md 2": ("no-data", "the excerpt has a policy alone"),
    "externalsecret.md 3": ("no-data", "the excerpt has a policy alone"),
    "templating.md 1": ("no-data", "the excerpt has a template alone"),
    "templating.md 2": ("no-data", "the excerpt has a template alone"),
    "delinea.md 2": ("bad-key", "a placeholder in angle brackets is the key"),
    "device42.md 2": ("bad-key", "a placeholder in angle brackets is the key"),
    "fortanix.md 2": ("bad-key", "a placeholder in angle brackets is the key"),
    "pulumi.md 3": ("bad-key", "a placeholder in angle brackets is the key"),
    "scaleway.md 2": ("bad-key", "a placeholder in angle brackets is the key"),
    "google-secrets-manager.md 2": ("bad-source", "the excerpt has no selector"),
    "google-secrets-manager.md 3": ("bad-source", "the excerpt has no selector"),
    "kubernetes.md 10": ("bad-source", "the excerpt has no selector"),
    "kubernetes.md 11": ("bad-source", "the excerpt has no selector"),
}
REFUSED_STORES = {
    "full-cluster-secret-store.yaml": ("bad-field", "five providers side by side"),
    "full-secret-store.yaml": ("bad-field", "three providers side by side"),
    "vault-mtls-store.yaml": ("bad-field", "its caBundle is three dots"),
    "security-best-practices.md 1": ("bad-field", "a store's conditions without its provider"),
    "azure-key-vault.md 1": ("bad-field", "the excerpt has no vaultUrl"),
    "hashicorp-vault.md 10": ("bad-field", "of the auth the namespace alone"),
    "kubernetes.md 3": ("bad-field", "no auth, which they refuse as well"),
    "webhook.md 6": ("bad-field", "its caBundle is a placeholder"),
    "controller-class-store.yaml": ("own-identity", "the operator's token for any server"),
    "vault-iam-store-controller-pod-identity.yaml": ("own-identity", "its AWS identity as well"),
}
# Excerpts without their store, which is put back.
WITHOUT_STORE = {
    "helm-template-v2-escape-sequence.yaml",
    "ibm-es-types.yaml",
    "merge-template-v2-external-secret.yaml",
    "multikey-template-v2-external-secret.yaml",
    "multiline-template-v2-external-secret.yaml",
    "rsadecrypt-template-v2-external-secret.yaml",
    "template-v1-from-secret.yaml",
    "template-v2-from-secret.yaml",
    "template-v2-literal-example.yaml",
    "template-v2-scope-and-target.yaml",
    "hashicorp-vault.md 3",
    "hashicorp-vault.md 4",
    "hashicorp-vault.md 5",
    "hashicorp-vault.md 6",
    "hashicorp-vault.md 7",
}
NOT_SERVED_GENERATORS = {
    "CloudsmithAccessToken",
    "GithubAccessToken",
    "MFA",
    "QuayAccessToken",
}


@dataclass(frozen=True)
class Example:
    """One object of one file."""

    file: str
    item: Object

    @property
    def kind(self) -> str:
        return str(self.item["kind"])

    @property
    def provider(self) -> str:
        return next(iter(self.item["spec"].get("provider") or {}), "")


def documents(folder: Path) -> Iterator[tuple[str, str]]:
    """Each file of examples, and each example that stands in a page, by the name it goes by."""
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        yield path.name, path.read_text()
    for path in sorted(folder.rglob("*.md")):
        blocks = (textwrap.dedent(each[2]) for each in BLOCK.finditer(path.read_text()))
        # A page shows a file's example by naming the file.
        own = [each for each in blocks if GROUP in each and "{% include" not in each]
        yield from ((f"{path.name} {at}", text) for at, text in enumerate(own, 1))


def read(folder: Path) -> tuple[list[Example], set[str]]:
    """All objects of the group, and the examples that are no YAML."""
    found, broken = [], set()
    for name, text in documents(folder):
        try:
            items = list(yaml.safe_load_all(PLACEHOLDER.sub(r"\1", RAW.sub("", text))))
        except yaml.YAMLError:
            broken.add(name)
            continue
        found += [
            Example(name, item)
            for item in items
            if isinstance(item, dict) and GROUP in str(item.get("apiVersion"))
        ]
    return found, broken


@pytest.fixture(scope="session")
def snippets(eso: Path) -> list[Example]:
    return read(eso / "docs")[0]


def test_the_files_that_are_no_yaml_are_the_ones_that_are_known(eso: Path) -> None:
    assert read(eso / "docs")[1] == set(NO_YAML)


def specs(snippets: list[Example]) -> Iterator[tuple[Example, Object]]:
    """What an ExternalSecret or PushSecret of the examples asks for."""
    for each in snippets:
        if each.kind in SPECS:
            inner = SPECS[each.kind]
            spec = each.item["spec"][inner] if inner else each.item["spec"]
            yield each, {"metadata": {"name": "x"}, "spec": spec}


def test_every_external_secret_and_push_secret_is_understood(snippets) -> None:
    refused: dict[str, str] = {}
    completed = set()
    parsed = 0
    for example, item in specs(snippets):
        parse = parse_push if "Push" in example.kind else parse_spec
        try:
            parse(item)
        except Refusal as refusal:
            if refusal.code != "no-store":
                refused[example.file] = refusal.code
                continue
            completed.add(example.file)
            parse({**item, "spec": {"secretStoreRef": {"name": "s"}, **item["spec"]}})
        parsed += 1
    assert refused == {file: code for file, (code, _) in REFUSED.items()}
    assert completed == WITHOUT_STORE
    assert parsed > 160


def selectors(part: Any, place: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Everything that a store points to: kind, namespace, name, key."""
    if isinstance(part, dict):
        namespace, name = part.get("namespace") or "n", part.get("name")
        if isinstance(name, str) and name:
            kind = "ServiceAccount" if place == "serviceAccountRef" else "Secret"
            yield part.get("type", kind), namespace, name, part.get("key", "x")
        for name, each in part.items():
            yield from selectors(each, name)
    elif isinstance(part, list):
        for each in part:
            yield from selectors(each)


def content(item: Object, key: str, pem: str) -> bytes:
    """What stands in a Secret that a store or generator points to."""
    if "gcpsm" in str(item["spec"]) or item["kind"].startswith("GCR"):
        account = {"client_email": "a@p", "private_key": pem, "token_uri": "http://127.0.0.1:9"}
        return json.dumps({"type": "service_account", **account}).encode()
    return b"x"


async def surroundings(item: Object, pem: str) -> Surroundings:
    """A cluster that has all that an object points to."""
    api = FakeKubeApi(CLOCK)
    held: dict[tuple[str, str, str], dict[str, str]] = {}
    for kind, namespace, name, key in selectors(item["spec"]):
        keys = held.setdefault((kind, namespace, name), {})
        keys[key] = base64.b64encode(content(item, key, pem)).decode()
    resources = {
        "Secret": SECRETS,
        "ConfigMap": CONFIG_MAPS,
        "ServiceAccount": SERVICE_ACCOUNTS,
    }
    # A webhook is shown only Secrets that say so.
    labels = {"external-secrets.io/type": "webhook"}
    for (kind, namespace, name), data in held.items():
        annotations = {
            "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r",
            "azure.workload.identity/client-id": "c",
            "azure.workload.identity/tenant-id": "t",
        }
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        made: Object = {"metadata": {**metadata, "annotations": annotations}}
        if kind in resources:
            await api.create(resources[kind], made | {"data": data})
    environment = {
        "AZURE_CLIENT_ID": "c",
        "AZURE_TENANT_ID": "t",
        "AZURE_FEDERATED_TOKEN_FILE": __file__,
    }
    return Surroundings(api, CLOCK, environment)


async def test_every_store_is_made_or_refused_by_name(snippets, rsa_pem: str) -> None:
    refused: dict[str, str] = {}
    made: set[str] = set()
    for example in snippets:
        if example.kind not in STORES:
            continue
        item = {**example.item, "metadata": {"name": "s", "namespace": "n", "uid": "u"}}
        try:
            provider = await Providers(await surroundings(item, rsa_pem))(item, "n")
        except Refusal as refusal:
            if refusal.code == "unsupported-provider":
                assert example.provider not in KINDS
                assert example.provider in refusal.message
                continue
            refused[example.file] = refusal.code
        else:
            made.add(example.provider)
            await provider.close()
    assert refused == {file: code for file, (code, _) in REFUSED_STORES.items()}
    assert made >= {"vault", "aws", "gcpsm", "azurekv", "kubernetes", "webhook", "fake"}


async def test_every_generator_is_asked_or_refused_by_name(snippets, rsa_pem: str) -> None:
    """Those that ask nobody make values; those of a cloud get as far as its answer."""
    not_served, tried = set(), set()
    for example in snippets:
        if "generators." not in example.item["apiVersion"]:
            continue
        item = {**example.item, "metadata": {"name": "g", "namespace": "n"}}
        workshop = ServedKinds(Sources(await surroundings(item, rsa_pem), Random(1)))
        if example.kind not in GENERATOR_KINDS and example.kind != "ClusterGenerator":
            not_served.add(example.kind)
            continue
        tried.add(example.kind)
        if example.kind in ("Password", "UUID", "SSHKey", "Fake", "ClusterGenerator"):
            assert (await workshop.make(item, "n")).values, example.file
    assert not_served == NOT_SERVED_GENERATORS
    assert tried == {each.kind for each in GENERATORS} | {"ClusterGenerator"}


def stored(definition: Object) -> Object:
    return next(each for each in definition["spec"]["versions"] if each["storage"])


def test_names_and_columns_are_the_ones_that_people_know(their_definitions) -> None:
    """What `kubectl get` takes and prints; ours may have more columns, after theirs."""
    theirs = {each["metadata"]["name"]: each for each in their_definitions}
    for ours in crds():
        known = theirs[ours["metadata"]["name"]]
        for part in ("shortNames", "plural", "singular", "kind", "listKind", "categories"):
            assert ours["spec"]["names"].get(part) == known["spec"]["names"].get(part), part
        columns, wanted = (
            [
                (one["name"], one["jsonPath"], one["type"])
                for one in stored(each).get("additionalPrinterColumns") or []
            ]
            for each in (ours, known)
        )
        assert columns[: len(wanted)] == wanted
        fields = stored(known).get("selectableFields") or []
        assert all(each in (stored(ours).get("selectableFields") or []) for each in fields)


# Our definitions and theirs, each on a real API server

# The webhook of the other controller refuses them; here a rule of the definition does.
RULED_OUT = {
    "jwk-template-v2-external-secret.yaml",
    "externalsecret.md 1",
    "externalsecret.md 2",
    "externalsecret.md 3",
}


@pytest.mark.cluster
@pytest.mark.long
@pytest.mark.timeout(900)
async def test_our_definitions_take_what_theirs_take(with_ours, theirs, snippets) -> None:
    given = [each for each in snippets if each.kind not in NOT_SERVED_GENERATORS]
    ours, of_them = await asyncio.gather(
        *(asyncio.to_thread(taken, each, given) for each in (with_ours, theirs.control))
    )
    assert {given[number].file for number in of_them - ours} == RULED_OUT
    assert len(ours) > 250


def taken(control: ControlPlane, given: list[Example]) -> set[int]:
    """Which of the examples an API server takes, each field known to it; nothing is kept."""
    documents = [
        {**each.item, "metadata": {"name": f"example-{number}", "namespace": "default"}}
        for number, each in enumerate(given)
    ]
    how = ("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    said = control.kubectl(*how, stdin=yaml.safe_dump_all(documents), check=False)
    return {int(line.rpartition("-")[2]) for line in said.splitlines()}
