"""The test bed itself: what later tests rely on is there, and goes away again.

The sidecar in the pod below only waits.  # a process that only waits
"""

import json

import pytest

from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import NAMESPACES, PODS, SECRETS, SERVICE_ACCOUNTS
from strongroom.kube.token_review import request_token, review_token
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Denied, NotFound
from strongroom.model.secret import Secret

CLOCK = SystemClock()


@pytest.mark.cluster
@pytest.mark.timeout(600)
async def test_tokens_secrets_and_namespaces_behave(cluster) -> None:
    async with KubeClient(cluster.config(), CLOCK) as api:
        await api.create(NAMESPACES, {"metadata": {"name": "bed"}})
        await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "app", "namespace": "bed"}})
        token = await request_token(api, "bed", "app", ("strongroom",), 600)
        reviewed = await review_token(api, token, ("strongroom",))
        assert (reviewed.namespace, reviewed.service_account) == ("bed", "app")
        assert reviewed.token_id.startswith("JTI=")
        with pytest.raises(Denied):
            await review_token(api, token, ("another",))
        with pytest.raises(Denied):
            await review_token(api, Secret("no token"))
        await api.create(
            SECRETS, {"metadata": {"name": "s", "namespace": "bed"}, "stringData": {"k": "v"}}
        )
        lines = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
        assert any(
            each["objectRef"].get("name") == "s" and each["verb"] == "create" for each in lines
        )
        await api.delete(NAMESPACES, "bed")

        async def gone() -> bool | None:
            try:
                await api.get(NAMESPACES, "bed")
            except NotFound:
                return True
            return None

        assert await until("the namespace to go", gone, CLOCK, seconds=120)


POD = {
    "metadata": {"name": "bed", "namespace": "default"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "initContainers": [
            {
                "name": "side",
                "image": "strongroom.local/python:dev",
                "imagePullPolicy": "Never",
                "restartPolicy": "Always",
                "command": [
                    "/usr/bin/python3",
                    "-c",
                    "import ssl, time; open('/s/f', 'w').write(open('/t/token').read()[:5]); [time.sleep(60) for _ in iter(int, 1)]",
                ],
                "volumeMounts": [
                    {"name": "s", "mountPath": "/s"},
                    {"name": "t", "mountPath": "/t"},
                ],
            }
        ],
        "containers": [
            {
                "name": "app",
                "image": "strongroom.local/shell:dev",
                "imagePullPolicy": "Never",
                "volumeMounts": [{"name": "s", "mountPath": "/s", "readOnly": True}],
            }
        ],
        "volumes": [
            {"name": "s", "emptyDir": {"medium": "Memory"}},
            {
                "name": "t",
                "projected": {
                    "sources": [
                        {
                            "serviceAccountToken": {
                                "path": "token",
                                "audience": "strongroom",
                                "expirationSeconds": 600,
                            }
                        }
                    ]
                },
            },
        ],
    },
}


@pytest.mark.node
@pytest.mark.timeout(1500)  # another may have the kubelet first
async def test_a_real_pod_with_sidecar_memory_and_token(node_cluster) -> None:
    control = node_cluster.control
    async with KubeClient(control.config(), CLOCK) as api:
        await api.create(PODS, POD)

        async def running() -> bool | None:
            pod = await api.get(PODS, "bed", "default")
            ready = [
                each["status"]
                for each in pod.get("status", {}).get("conditions", [])
                if each["type"] == "Ready"
            ]
            return True if ready == ["True"] else None

        await until("the pod", running, CLOCK, seconds=240)

        async def written() -> str | None:
            return (
                control.kubectl("exec", "bed", "-c", "app", "--", "cat", "/s/f", check=False)
                or None
            )

        assert await until("the file", written, CLOCK, seconds=120)
        mounts = control.kubectl("exec", "bed", "-c", "app", "--", "cat", "/proc/mounts")
        assert any(line.startswith("tmpfs /s ") and " ro," in line for line in mounts.splitlines())
        await api.delete(PODS, "bed", "default")
