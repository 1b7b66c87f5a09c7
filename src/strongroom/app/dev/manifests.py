"""The Kubernetes objects of the tour, as a user would write them.

v1beta1 on purpose for the ExternalSecret: most manifests in the world still say so.
"""

from typing import Any, Final

NAMESPACE: Final = "tour"
STORE_AUDIENCE: Final = "strongroom"
AGENT_CONFIG_KEY: Final = "agent.json"

Manifest = dict[str, Any]


def namespace() -> Manifest:
    """The namespace everything of the tour lives in."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def service_account(name: str) -> Manifest:
    """An identity that a store role is bound to."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "namespace": NAMESPACE},
    }


def secret_store(server: str, ca_bundle: str) -> Manifest:
    """Where ExternalSecrets of the namespace read: the store, by Kubernetes auth."""
    vault: Manifest = {
        "server": server,
        "path": "secret",
        "version": "v2",
        "auth": {
            "kubernetes": {
                "mountPath": "kubernetes",
                "role": "sync",
                "serviceAccountRef": {"name": "sync", "audiences": [STORE_AUDIENCE]},
            }
        },
    }
    if ca_bundle:
        vault["caBundle"] = ca_bundle
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "SecretStore",
        "metadata": {"name": "strongroom", "namespace": NAMESPACE},
        "spec": {"provider": {"vault": vault}},
    }


def external_secret(key: str) -> Manifest:
    """One Secret `db` from one secret of the store."""
    return {
        "apiVersion": "external-secrets.io/v1beta1",
        "kind": "ExternalSecret",
        "metadata": {"name": "db", "namespace": NAMESPACE},
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"name": "strongroom", "kind": "SecretStore"},
            "target": {"name": "db"},
            "data": [
                {"secretKey": "password", "remoteRef": {"key": key, "property": "password"}},
                {"secretKey": "username", "remoteRef": {"key": key, "property": "username"}},
            ],
        },
    }
