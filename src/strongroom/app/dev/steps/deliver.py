"""Step 4: the secret arrives as a file in a pod, and changes there without a restart."""

import secrets

from strongroom.app.dev.bed import Bed
from strongroom.app.dev.evidence import Evidence
from strongroom.app.dev.manifests import NAMESPACE, agent_config, application_pod
from strongroom.app.dev.steps.store import API_PATH, PATH
from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import PODS

IN_USE = "password in use"


async def show_deliver(bed: Bed) -> Evidence:
    """Run the pod, change the secret, and look at the pod again."""
    await bed.grant("app", NAMESPACE, API_PATH)
    bed.apply(agent_config(bed.node_address, bed.ca_file.read_text(), API_PATH), application_pod())
    async with KubeClient(bed.control.config(), bed.clock) as api:

        async def ready() -> bool | None:
            pod = await api.get(PODS, "app", NAMESPACE)
            conditions = (pod.get("status") or {}).get("conditions") or []
            states = {each["type"]: each["status"] for each in conditions}
            return True if states.get("Ready") == "True" else None

        await until("the pod", ready, bed.clock, seconds=240)
        await until("the first value", lambda: _used(bed, 1), bed.clock)
        password = secrets.token_urlsafe(18)
        await bed.cli("kv", "put", f"secret/{PATH}", "username=shop", "password=-", stdin=password)
        lines = await until("the next value", lambda: _used(bed, 2), bed.clock)
        pod = await api.get(PODS, "app", NAMESPACE)
    restarts = sum(
        each["restartCount"]
        for kind in ("containerStatuses", "initContainerStatuses")
        for each in pod["status"][kind]
    )
    mounts = _inside(bed, "cat", "/proc/mounts").splitlines()
    mount = next(line for line in mounts if " /secrets " in line)
    return Evidence(
        "Deliver: files on tmpfs, changed without a restart",
        "The agent runs beside the application, logs in with a token of its own audience and"
        " swaps the whole set of files at once. The application sees the files read-only.",
        (
            f"$ kubectl exec app -n {NAMESPACE} -- cat /proc/mounts | grep /secrets",
            mount,
            f"$ kubectl exec app -n {NAMESPACE} -- cat /secrets/.meta.json",
            _inside(bed, "cat", "/secrets/.meta.json"),
            f"$ kubectl logs app -n {NAMESPACE} -c app",
            *lines,
            f"restarts: {restarts}",
        ),
    )


async def _used(bed: Bed, count: int) -> list[str] | None:
    said = bed.control.kubectl("logs", "app", "-n", NAMESPACE, "-c", "app", check=False)
    lines = [line for line in said.splitlines() if IN_USE in line]
    return lines if len(lines) >= count else None


def _inside(bed: Bed, *words: str) -> str:
    return bed.control.kubectl("exec", "app", "-n", NAMESPACE, "-c", "app", "--", *words)
