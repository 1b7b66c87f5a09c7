"""docs/providers.md: every manifest on it is one that the provider takes."""

import base64
import random
import re
from pathlib import Path

import pytest
import yaml

from strongroom.crypto.x509_dev import issue
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid
from strongroom.sync.providers.kinds import KINDS, Providers
from strongroom.sync.providers.references import Surroundings

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
STORES = [
    each
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for each in yaml.safe_load_all(block)
]
KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: hub
clusters: [{name: hub, cluster: {server: "https://hub.example.com:6443"}}]
contexts: [{name: hub, context: {cluster: hub, user: hub}}]
users: [{name: hub, user: {token: t}}]
"""


@pytest.fixture
async def around(api: FakeKubeApi, clock) -> Surroundings:
    """A namespace that has what the manifests refer to."""
    made = issue(("client",), SystemClock().now())
    certificate, key, ca = (each.decode() for each in (made.certificate, made.key, made.authority))
    secrets = {
        "client": {"tls.crt": certificate, "tls.key": key},
        "hub": {"ca.crt": ca, "token": "t", "config": KUBECONFIG},
    }
    for name, values in secrets.items():
        data = {part: base64.b64encode(each.encode()).decode() for part, each in values.items()}
        await api.create(SECRETS, {"metadata": {"name": name, "namespace": "shop"}, "data": data})
    metadata = {"name": "kube-root-ca.crt", "namespace": "shop"}
    await api.create(CONFIG_MAPS, {"metadata": metadata, "data": {"ca.crt": ca}})
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "shop", "namespace": "shop"}})
    return Surroundings(api, clock)


@pytest.mark.parametrize("store", STORES, ids=[each["metadata"]["name"] for each in STORES])
async def test_a_manifest_is_taken(store: dict, around: Surroundings) -> None:
    provider = await Providers(around)(store, "shop")
    await provider.close()


def test_every_provider_is_shown() -> None:
    shown = {name for each in STORES for name in each["spec"]["provider"]}
    assert shown | {"openBao"} == set(KINDS)


@pytest.mark.parametrize("store", STORES, ids=[each["metadata"]["name"] for each in STORES])
async def test_a_field_of_the_wrong_kind_is_named(store: dict, around: Surroundings) -> None:
    """The manifests above are read, not waved through."""
    name, spec = next(iter(store["spec"]["provider"].items()))
    field = random.Random(name).choice(sorted(spec))
    broken = {**store, "spec": {"provider": {name: {**spec, field: [object()]}}}}
    with pytest.raises(Invalid):
        await Providers(around)(broken, "shop")
