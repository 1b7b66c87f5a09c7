"""The examples of `agent`, `rotate` and `audit`, run as they stand beside a real API server."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from tests.app.test_process_examples import CLOCK, Place, examples, place
from tests.app.transcript import BLOCK

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.command_tree import tree
from strongroom.app.waiting import until
from strongroom.deliver.agent.config import load_config

__all__ = ["place"]  # the fixture
pytestmark = [pytest.mark.component, pytest.mark.timeout(600)]

# What docs/store-auth.md explains, for the role that the agent's example logs in with.
LOGIN = """
strongroom policy write app - <<'END'
path "secret/data/prod/db" { capabilities = ["read"] }
END
strongroom auth enable kubernetes
kubectl create namespace prod && kubectl create serviceaccount app -n prod
kubectl create clusterrolebinding agents --clusterrole=system:auth-delegator --serviceaccount=prod:app
of_cluster() { kubectl config view --raw --minify --flatten -o "jsonpath={.clusters[0].cluster.$1}"; }
of_cluster certificate-authority-data | base64 --decode > cluster-ca.pem
kubectl create token app -n prod > reviewer
strongroom write auth/kubernetes/config kubernetes_host="$(of_cluster server)" \
  kubernetes_ca_cert=@cluster-ca.pem token_reviewer_jwt=@reviewer
strongroom write auth/kubernetes/role/app bound_service_account_names=app \
  bound_service_account_namespaces=prod audience=strongroom token_policies=app token_ttl=10m
kubectl create token app -n prod --audience=strongroom > token
strongroom kv put secret/prod/db username=app password=first
"""


async def _store(place: Place, cluster) -> str:
    """A store over TLS, and what a command needs to reach both; its address."""
    port = free_port()
    process = place.begin(
        "strongroom server --data /var/lib/strongroom --seal-key-file /etc/strongroom/seal.key"
        f" --tls-self-signed --listen 127.0.0.1:{port}"
    )
    address = f"https://127.0.0.1:{port}"
    authority = place.folder / "lib/ca.pem"

    async def made() -> bool | None:
        return True if authority.exists() or process.poll() is not None else None

    await until("the authority", made, CLOCK, seconds=120)
    await place.answers(process, f"{address}/v1/sys/health", authority)
    place.home |= {
        "VAULT_ADDR": address,
        "VAULT_CACERT": str(authority),
        "VAULT_TOKEN": (place.folder / "lib/root-token").read_text().strip(),
        "KUBECONFIG": str(cluster.kubeconfig),
        "PATH": f"{cluster.binaries.path('kubectl').parent}:{place.home['PATH']}",
    }
    return address


def _agent_json(place: Place, address: str) -> None:
    """The configuration of the example, with this place's paths."""
    text = next(node for node in tree() if node.words[0] == "agent").parser.epilog or ""
    given = json.loads(text.partition("with agent.json:\n")[2].partition("\n\n")[0])
    assert given["address"].startswith("https://")
    given |= {
        "address": address,
        "ca_file": str(place.folder / "lib/ca.pem"),
        "output": str(place.folder / "secrets"),
    }
    given["auth"]["token_file"] = str(place.folder / "token")
    (place.folder / "etc/agent.json").write_text(json.dumps(given))


async def _holds(file: Path, wanted: str) -> None:
    async def there() -> bool | None:
        found = await asyncio.to_thread(lambda: file.read_text() if file.exists() else "")
        return True if re.fullmatch(wanted, found) else None

    await until(str(file.name), there, CLOCK, seconds=120)


async def test_a_secret_is_delivered_rotated_and_looked_into(place: Place, cluster) -> None:
    address = await _store(place, cluster)
    await place.run("set -e; " + LOGIN)
    _agent_json(place, address)
    process = place.begin(*examples("agent"))
    file = place.folder / "secrets/db-password"
    try:
        await _holds(file, "first")
        planned, rotate = examples("rotate")
        assert "wait until the one consumer shows version 2" in await place.run(planned)
        assert "every consumer moved; deleted version 1" in await place.run(rotate)
        await _holds(file, r"\S{32}")
        await place.run("strongroom kv patch secret/prod/db username=other")
        (place.folder / "audit.log").symlink_to(place.folder / "lib/audit.log")
        (place.folder / "kube-audit.log").symlink_to(cluster.folder / "kube-audit.log")
        timeline, exposure, *_ = examples("audit")
        assert "prod/app" in await place.run(timeline)
        shown = await place.run(exposure)
        assert "version 3" in shown
        assert "role auth/kubernetes/role/app" in shown
        await place.end(process)
    finally:
        cluster.kubectl("delete", "namespace", "prod", "--wait=false")
        cluster.kubectl("delete", "clusterrolebinding", "agents", check=False)


PAGE = Path(__file__).resolve().parents[2] / "docs/day-to-day.md"
PATH = "      path: secret\n"
AUTHORITY = '      caBundle: $(base64 -w0 "$VAULT_CACERT")\n'
SHOP = """
kubectl create secret generic db -n shop --from-literal=username=app --from-literal=password=old
cat > secret.yaml <<END
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
data: {username: $(printf app | base64)}
stringData: {password: old}
END
ln -s lib/audit.log audit.log
cp etc/seal.key seal.key
"""


async def test_the_page_of_each_day_does_what_it_says(place: Place, cluster) -> None:
    await _store(place, cluster)
    port = free_port()
    listen = f"--no-leader-election --listen 127.0.0.1:{port}"
    (place.folder / ".kube").mkdir()
    (place.folder / ".kube/config").symlink_to(cluster.kubeconfig)
    operator = place.begin(examples("operator")[0], listen)
    try:
        await place.answers(operator, f"http://127.0.0.1:{port}/readyz", None)
        (place.folder / "kube-audit.log").symlink_to(cluster.folder / "kube-audit.log")
        text = PAGE.read_text()
        store = re.findall(r"^```\n(.*?)^```$", text, re.M | re.S)[0]
        assert "kind: SecretStore" in store
        await place.run("set -e; " + store.replace(PATH, PATH + AUTHORITY) + SHOP)
        blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
        taken, rotated, looked, restored = [await place.run(f"set -e\n{each}") for each in blocks]
        assert "take over  shop/db" in taken
        assert "target      Secret db is as it should be" in taken
        assert "every consumer moved; deleted version 1" in rotated
        assert "Who could read it" in looked
        assert "create Secret shop/db" in looked
        assert "Success! The store is as it was" in restored
    finally:
        cluster.kubectl("delete", "namespace", "shop", "--wait=false")


PODS = PAGE.with_name("in-the-cluster.md")
MANIFESTS = re.compile(r"^```yaml\n(.*?)^```$", re.M | re.S)


async def test_the_page_about_pods_is_taken_as_it_stands(place: Place, cluster) -> None:
    """The rights are applied; the API server takes every field of what is to run by them."""
    place.home["KUBECONFIG"] = str(cluster.kubeconfig)
    place.home["PATH"] = f"{cluster.binaries.path('kubectl').parent}:{place.home['PATH']}"
    text = PODS.read_text()
    # Namespaces of its own: other tests have theirs deleted meanwhile.
    for name, here in (("namespace strongroom", "namespace pods"), (": strongroom}", ": pods}")):
        assert name in text
        text = text.replace(name, here)
    text = re.sub(r"\bshop\b", "pods-shop", text)
    (rights,) = BLOCK.findall(text)
    operator, agent, store = MANIFESTS.findall(text)
    try:
        await place.run(f"set -eo pipefail\n{rights}")
        for manifest in (operator, agent, store):
            words = ("create", "--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
            assert cluster.kubectl(*words, stdin=manifest)
        (place.folder / "agent.json").write_text(
            re.findall(r"^    ({.*?}]})$", agent, re.M | re.S)[0]
        )
        assert load_config(place.folder / "agent.json").role == "pods-shop"
    finally:
        cluster.kubectl("delete", "namespace", "pods", "pods-shop", "--wait=false")
        for kind in ("clusterrole", "clusterrolebinding"):
            cluster.kubectl("delete", kind, "strongroom-operator", check=False)
