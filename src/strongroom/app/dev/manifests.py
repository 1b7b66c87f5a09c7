"""The Kubernetes objects of the tour, as a user would write them.

v1beta1 on purpose for the ExternalSecret: most manifests in the world still say so.
"""

import json
from typing import Any, Final

from strongroom.app.cluster.node import PYTHON_IMAGE, SHELL_IMAGE
from strongroom.sync.crds import crds
from strongroom.sync.rbac import Rights, rbac

NAMESPACE: Final = "tour"
SYSTEM: Final = "strongroom"
STORE_AUDIENCE: Final = "strongroom"
TOKEN_SECONDS: Final = 600
NOBODY: Final = 65532

Manifest = dict[str, Any]


def _named(api_version: str, kind: str, name: str, namespace: str = NAMESPACE) -> Manifest:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def identities() -> list[Manifest]:
    """Namespaces and service accounts: the reviewer's, and two that read."""
    return [
        _named("v1", "Namespace", NAMESPACE, ""),
        _named("v1", "Namespace", SYSTEM, ""),
        _named("v1", "ServiceAccount", "reviewer", SYSTEM),
        _named("v1", "ServiceAccount", "sync"),
        _named("v1", "ServiceAccount", "app"),
    ]


def operator_parts() -> list[Manifest]:
    """What `strongroom install` prints: the definitions, the operator's account and least rights.

    The tour's one store asks for tokens of `sync`. ConfigMaps are the targets that need no flag.
    """
    accounts = (f"{NAMESPACE}/sync",)
    return [*crds(), *rbac(Rights(SYSTEM, accounts=accounts, manifests=("configmaps",)))]


def reviewer_rights() -> list[Manifest]:
    """That the store may review tokens."""
    return [_cluster_binding("strongroom-reviewer", "system:auth-delegator", "reviewer")]


def _cluster_binding(name: str, role: str, account: str) -> Manifest:
    group = "rbac.authorization.k8s.io"
    return _named(f"{group}/v1", "ClusterRoleBinding", name, "") | {
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
    }


def secret_store(server: str) -> Manifest:
    """Where ExternalSecrets of the namespace read: the store, by Kubernetes auth."""
    account = {"name": "sync", "audiences": [STORE_AUDIENCE]}
    login = {"mountPath": "kubernetes", "role": "sync", "serviceAccountRef": account}
    vault = {"server": server, "path": "secret", "version": "v2", "auth": {"kubernetes": login}}
    return _named("external-secrets.io/v1", "SecretStore", "strongroom") | {
        "spec": {"provider": {"vault": vault}}
    }


def external_secret(key: str) -> Manifest:
    """One Secret `db` from one secret of the store."""
    return _named("external-secrets.io/v1beta1", "ExternalSecret", "db") | {
        "spec": {
            "refreshInterval": "1h",
            "secretStoreRef": {"name": "strongroom", "kind": "SecretStore"},
            "target": {"name": "db"},
            "data": [
                {"secretKey": "password", "remoteRef": {"key": key, "property": "password"}},
                {"secretKey": "username", "remoteRef": {"key": key, "property": "username"}},
            ],
        }
    }


def agent_config(address: str, ca: str, path: str) -> Manifest:
    """The agent's configuration and the store's certificate authority."""
    config = {
        "address": address,
        "ca_file": "/etc/strongroom/ca.pem",
        "auth": {"role": "app", "token_file": "/var/run/strongroom/token"},
        "output": "/secrets",
        "secrets": [{"path": path, "files": {"password": "password", "username": "username"}}],
    }
    return _named("v1", "ConfigMap", "agent") | {
        "data": {"agent.json": json.dumps(config, indent=2), "ca.pem": ca}
    }


# Reads the file anew each time and never restarts; prints a hash, never the value.
APPLICATION: Final = """
last=
while true; do
  now=$(sha256sum < /secrets/password | cut -c1-12)
  [ "$now" = "$last" ] || echo "password in use: sha256 $now"
  last=$now
  sleep 0.2
done
"""


def application_pod() -> Manifest:
    """An application with the agent as a native sidecar; files on tmpfs, read-only for it."""
    token = {
        "path": "token",
        "audience": STORE_AUDIENCE,
        "expirationSeconds": TOKEN_SECONDS,
    }
    agent = {
        "name": "agent",
        "image": PYTHON_IMAGE,
        "imagePullPolicy": "Never",
        "restartPolicy": "Always",
        "command": ["/usr/bin/python3", "-m", "strongroom.deliver.agent"],
        "args": ["--config", "/etc/strongroom/agent.json"],
        "env": [{"name": "PYTHONPATH", "value": "/opt/strongroom"}],
        "startupProbe": {
            "exec": {"command": ["cat", "/secrets/password"]},
            "periodSeconds": 1,
            "failureThreshold": 60,
        },
        "securityContext": _LOCKED,
        "volumeMounts": [
            {"name": "secrets", "mountPath": "/secrets"},
            {"name": "config", "mountPath": "/etc/strongroom", "readOnly": True},
            {"name": "token", "mountPath": "/var/run/strongroom", "readOnly": True},
        ],
    }
    application = {
        "name": "app",
        "image": SHELL_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/bin/sh", "-c", APPLICATION],
        "securityContext": _LOCKED,
        "volumeMounts": [{"name": "secrets", "mountPath": "/secrets", "readOnly": True}],
    }
    return _named("v1", "Pod", "app") | {
        "spec": {
            "serviceAccountName": "app",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": NOBODY, "runAsGroup": NOBODY, "fsGroup": NOBODY},
            "initContainers": [agent],
            "containers": [application],
            "volumes": [
                {"name": "secrets", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "config", "configMap": {"name": "agent"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}},
            ],
        }
    }


_LOCKED: Final = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
