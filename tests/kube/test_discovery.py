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
    "/apis/gateway.example.com/v1": [kind("gateways", "list", "patch")],
    "/apis/gateway.example.com/v1beta1": [
        kind("gateways", "list", "patch"), kind("grants", "list", "patch"),
    ],
}  # fmt: skip


class Server:
    async def raw(self, path: str) -> bytes:
        if path == "/apis":
            groups = []
            for name in ("metrics.k8s.io", "away.example.com", "gateway.example.com"):
                first, second = (
                    {"version": each, "groupVersion": f"{name}/{each}"}
                    for each in ("v1beta1", "v1")
                )
                versions = [first, second] if name.startswith("gateway") else [second]
                groups.append({"name": name, "versions": versions, "preferredVersion": second})
            return json.dumps({"groups": groups}).encode()
        if path not in SERVED:
            raise Unavailable("kube-unavailable", "away")
        return json.dumps({"resources": SERVED[path]}).encode()


async def test_what_cannot_be_patched_is_left_out_where_it_is_to_be() -> None:
    ours = {"secrets", "gateways.gateway.example.com", "grants.gateway.example.com"}
    everything = {*ours, "componentstatuses", "pods.metrics.k8s.io"}
    assert set(await discover(Server())) == everything
    assert set(await discover(Server(), "patch")) == ours


async def test_a_kind_that_the_preferred_version_does_not_have_is_found_in_another() -> None:
    """`referencegrants` are v1beta1 where `gateways` are v1: a migration left them as they were."""
    served = await discover(Server())
    assert served["gateways.gateway.example.com"].version == "v1"
    assert served["grants.gateway.example.com"].version == "v1beta1"
