"""Step 3: the secret arrives as a Kubernetes Secret, follows changes, and is repaired."""

import json
import secrets

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence
from strongroom.app.dev.manifests import NAMESPACE, external_secret, secret_store
from strongroom.app.dev.steps.store import PATH
from strongroom.app.waiting import until
from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import EVENTS, SECRETS, Object
from strongroom.rotate.consumers import source_version

API_PATH = f"secret/data/{PATH}"
DRIFT = "DriftRepaired"


async def show_sync(bed: Bed) -> Evidence:
    """Apply the manifests people have, change the secret, then damage the Secret."""
    await bed.grant("sync", NAMESPACE, "secret/data/prod/*")
    bed.apply(secret_store(bed.address), external_secret(PATH))
    async with KubeClient(bed.control.config(), bed.clock) as api:

        async def holds(version: int) -> Object | None:
            item = await api.get(SECRETS, "db", NAMESPACE)
            return item if source_version(item["metadata"], API_PATH) == version else None

        await until("the Secret", lambda: holds(1), bed.clock)
        async with bed.store() as store:
            data = {"username": "shop", "password": secrets.token_urlsafe(18)}
            await store.kv2_write("secret", PATH, data)
        written = bed.clock.monotonic()
        before = await until("the change", lambda: holds(2), bed.clock)
        moved = bed.clock.monotonic()
        patch = json.dumps({"data": {"password": "YnkgaGFuZA=="}})
        bed.control.kubectl("patch", "secret", "db", "-n", NAMESPACE, "-p", patch)

        async def repaired() -> str | None:
            item = await api.get(SECRETS, "db", NAMESPACE)
            if item["data"] != before["data"]:
                return None
            for event in (await api.list(EVENTS, Scope(namespace=NAMESPACE))).items:
                if event["reason"] == DRIFT:
                    return str(event["note"])
            return None

        note = await until("the repair", repaired, bed.clock)
        bed.control.kubectl("delete", "secret", "db", "-n", NAMESPACE)

        async def back() -> str | None:
            await api.get(SECRETS, "db", NAMESPACE)
            for event in (await api.list(EVENTS, Scope(namespace=NAMESPACE))).items:
                if event["reason"] == DRIFT and "delete" in event["note"]:
                    return str(event["note"])
            return None

        deleted = await until("the Secret to come back", back, bed.clock)
    columns = bed.control.kubectl("get", "externalsecret", "db", "-n", NAMESPACE)
    return Evidence(
        "Sync: External Secrets' own objects, the change feed, drift repaired",
        "A SecretStore and an ExternalSecret as External Secrets users write them. A new version"
        " in the store reached the Secret by the change feed, not at the refresh interval of an"
        " hour; an edit and a deletion by hand were undone and told with who did it.",
        (
            f"$ kubectl get externalsecret db -n {NAMESPACE}",
            *columns.rstrip().splitlines(),
            f"version 2 stood in the Secret {moved - written:.3f} s after the store had it",
            f"$ kubectl patch secret db -n {NAMESPACE} -p '{{\"data\": ...}}'",
            f"Event {DRIFT}: {note}",
            f"$ kubectl delete secret db -n {NAMESPACE}",
            f"Event {DRIFT}: {deleted}",
        ),
    )
