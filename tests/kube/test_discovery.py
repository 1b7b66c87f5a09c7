"""What a cluster serves: by what can be done with it, and whichever group does not answer."""

import json

from strongroom.kube.discovery import discover
from strongroom.model.errors import Unavailable


def kind(name: str, *verbs: str) -> dict:
    return {"name": name, "kind": name.title(), "namespaced": True, "verbs": list(verbs)}


# componentstatuses are computed and lie nowhere; so are the objects of metrics.k8s.io.
SERVED = {
    "/api/v1": [
        kind("secrets", "get", "list", "patch"), kind("componentstatuses", "get", "list"),
        kind("bindings", "create"), kind("pods/status", "get", "list", "patch"),
    ],
    "/apis/metrics.k8s.io/v1": [kind("pods", "get", "list")],
}  # fmt: skip


class Server:
    async def raw(self, path: str) -> bytes:
        if path == "/apis":
            groups = [
                {"name": name, "preferredVersion": {"version": "v1", "groupVersion": f"{name}/v1"}}
                for name in ("metrics.k8s.io", "away.example.com")
            ]
            return json.dumps({"groups": groups}).encode()
        if path not in SERVED:
            raise Unavailable("kube-unavailable", "away")
        return json.dumps({"resources": SERVED[path]}).encode()


async def test_what_cannot_be_patched_is_left_out_where_it_is_to_be() -> None:
    assert set(await discover(Server())) == {"secrets", "componentstatuses", "pods.metrics.k8s.io"}
    assert set(await discover(Server(), "patch")) == {"secrets"}
