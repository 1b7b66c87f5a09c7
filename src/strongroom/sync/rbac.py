"""The operator's own rights, from what is switched on: least, and nothing for what is off. Pure.

API: https://kubernetes.io/docs/reference/access-authn-authz/rbac/.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.kube.resource import Object
from strongroom.sync.crds import (
    CLUSTER_GENERATORS,
    GENERATOR_STATES,
    GENERATORS,
    GENERATORS_GROUP,
    GROUP,
)

NAME: Final = "strongroom-operator"
READ: Final = ("get", "list", "watch")


@dataclass(frozen=True, slots=True)
class Rights:
    """What an operator is to be able to do.

    `namespaces` empty means the whole cluster; otherwise it has Roles there and no ClusterRole.
    `accounts` are the service accounts whose tokens stores ask for, as namespace/name; "*" is
    every one. `manifests` are target kinds other than Secret, as plural or plural.group.
    """

    namespace: str = "strongroom"
    namespaces: tuple[str, ...] = ()
    push: bool = True
    generators: bool = True
    cluster_objects: bool = True
    accounts: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    election: bool = True


def rbac(rights: Rights) -> list[Object]:
    """A service account, its roles and their bindings, to be applied."""
    account: Object = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": NAME, "namespace": rights.namespace},
    }
    made = [account]
    rules = sync_rules(rights)
    if rights.namespaces:
        for namespace in rights.namespaces:
            made += _role(rights, NAME, rules, namespace)
    else:
        made += _role(rights, NAME, [*rules, *_cluster_rules(rights)], "")
    if rights.election:
        lease = _rule("coordination.k8s.io", ("leases",), ("get", "create", "update"))
        made += _role(rights, f"{NAME}-lease", [lease], rights.namespace)
    return made + _token_roles(rights)


def sync_rules(rights: Rights) -> list[Object]:
    """What is needed in each namespace that is served."""
    kinds = ["externalsecrets", "secretstores"] + (["pushsecrets"] if rights.push else [])
    rules = [
        _rule(GROUP, kinds, READ),
        # Finalizers stand in metadata; a status is a resource of its own.
        _rule(GROUP, kinds, ("patch",)),
        _rule(GROUP, [f"{each}/status" for each in kinds], ("patch",)),
        # An owner reference that blocks deletion needs this where the API server enforces it.
        _rule(GROUP, [f"{each}/finalizers" for each in kinds], ("update",)),
        _rule("", ("secrets",), (*READ, "create", "patch", "delete")),
        _rule("", ("configmaps", "serviceaccounts"), READ),
        _rule("events.k8s.io", ("events",), ("create", "patch")),
    ]
    if rights.generators:
        made = [each.plural for each in GENERATORS]
        # They are looked at when they are asked; what was made is watched until it is let go of.
        rules.append(_rule(GENERATORS_GROUP, made, ("get",)))
        states = (*READ, "create", "patch", "delete")
        rules.append(_rule(GENERATORS_GROUP, (GENERATOR_STATES.plural,), states))
    for each in rights.manifests:
        plural, _, group = each.partition(".")
        rules.append(_rule(group, (plural,), (*READ, "create", "patch", "delete")))
    return rules


def _cluster_rules(rights: Rights) -> list[Object]:
    rules = [
        _rule(GROUP, ("clustersecretstores",), (*READ, "patch")),
        _rule(GROUP, ("clustersecretstores/status",), ("patch",)),
        _rule("", ("namespaces",), READ),
    ]
    if rights.generators:
        rules.append(_rule(GENERATORS_GROUP, (CLUSTER_GENERATORS.plural,), ("get",)))
    if rights.cluster_objects:
        spread = ["clusterexternalsecrets"] + (["clusterpushsecrets"] if rights.push else [])
        children = ["externalsecrets"] + (["pushsecrets"] if rights.push else [])
        rules += [
            _rule(GROUP, spread, (*READ, "patch")),
            _rule(GROUP, [f"{each}/status" for each in spread], ("patch",)),
            _rule(GROUP, [f"{each}/finalizers" for each in spread], ("update",)),
            _rule(GROUP, children, ("create", "update", "delete")),
            # The other controller's finalizers on namespaces are let go.
            _rule("", ("namespaces",), ("patch",)),
        ]
    return rules


def _token_roles(rights: Rights) -> list[Object]:
    """Tokens of exactly the service accounts that stores name, each in its namespace."""
    if "*" in rights.accounts:
        every = _rule("", ("serviceaccounts/token",), ("create",))
        if not rights.namespaces:
            return _role(rights, f"{NAME}-tokens", [every], "")
        return [
            each
            for namespace in rights.namespaces
            for each in _role(rights, f"{NAME}-tokens", [every], namespace)
        ]
    by_namespace: dict[str, list[str]] = {}
    for account in rights.accounts:
        namespace, _, name = account.partition("/")
        by_namespace.setdefault(namespace, []).append(name)
    made: list[Object] = []
    for namespace, names in sorted(by_namespace.items()):
        rule = _rule("", ("serviceaccounts/token",), ("create",))
        rule["resourceNames"] = sorted(names)
        made += _role(rights, f"{NAME}-tokens", [rule], namespace)
    return made


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> Object:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _role(rights: Rights, name: str, rules: list[Object], namespace: str) -> list[Object]:
    """A role and its binding: of one namespace, or of the cluster when there is none."""
    kind = "Role" if namespace else "ClusterRole"
    metadata: Object = {"name": name} | ({"namespace": namespace} if namespace else {})
    api = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": rights.namespace}
    return [
        {"apiVersion": f"{api}/v1", "kind": kind, "metadata": metadata, "rules": rules},
        {
            "apiVersion": f"{api}/v1",
            "kind": f"{kind}Binding",
            "metadata": dict(metadata),
            "roleRef": {"apiGroup": api, "kind": kind, "name": name},
            "subjects": [subject],
        },
    ]
