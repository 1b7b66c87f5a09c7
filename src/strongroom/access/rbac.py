"""Who can read a Kubernetes Secret by RBAC, directly or in one more step. Pure over objects.

`patch` and `deletecollection` return what they touch, and so does `delete` for whoever asks for
another propagationPolicy than Background, in a dry run as well: they count as reads.
Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/ and
https://kubernetes.io/docs/concepts/security/rbac-good-practices/.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.model.reach import Reach

READ_VERBS: Final = ("get", "list", "watch", "patch", "delete", "deletecollection")
EVERYWHERE: Final = "*"
_WRITES: Final = ("create", "update", "patch")
_WORKLOADS: Final = (
    ("", "pods"), ("", "replicationcontrollers"), ("apps", "deployments"), ("apps", "daemonsets"),
    ("apps", "statefulsets"), ("apps", "replicasets"), ("batch", "jobs"), ("batch", "cronjobs"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """A permission that leads to Secrets of a namespace; `how` says by what way.

    `of_cluster`: the resource is in no namespace, so that a RoleBinding gives nothing of it.
    `becomes`: whoever has it can act as a service account of the namespace.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    how: str
    of_cluster: bool = False
    becomes: bool = False


INDIRECT: Final = (
    *(
        Step(group, resource, _WRITES, "a pod of its own", becomes=True)
        for group, resource in _WORKLOADS
    ),
    Step("", "pods/exec", ("create", "get"), "exec into a pod that holds it", becomes=True),
    Step("", "pods/attach", ("create", "get"), "attach to a pod that holds it", becomes=True),
    Step(
        "", "pods/ephemeralcontainers", ("update", "patch"), "a debug container beside it",
        becomes=True,
    ),
    Step(
        "", "serviceaccounts/token", ("create",), "a token of a service account that may read",
        becomes=True,
    ),
    Step("", "nodes/proxy", ("get", "create"), "the kubelet of a node that holds it", True),
    Step("", "users", ("impersonate",), "impersonation", True),
    Step("", "groups", ("impersonate",), "impersonation", True),
    Step("", "serviceaccounts", ("impersonate",), "impersonation", becomes=True),
    Step("rbac.authorization.k8s.io", "roles", ("escalate", "bind"), "rights it grants itself"),
    Step("rbac.authorization.k8s.io", "clusterroles", ("bind",), "rights it grants itself"),
    # A cluster role is written in no namespace, and given in one by who may bind it.
    Step(
        "rbac.authorization.k8s.io", "clusterroles", ("escalate",), "rights it grants itself", True
    ),
    Step("external-secrets.io", "pushsecrets", _WRITES, "a PushSecret that copies it to a store"),
    *(
        Step("admissionregistration.k8s.io", resource, _WRITES, "a webhook that is shown it", True)
        for resource in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
    ),
    Step(
        "certificates.k8s.io", "certificatesigningrequests/approval", ("update", "patch"),
        "a certificate that it approves itself", True,
    ),
)  # fmt: skip

Manifest = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RbacObjects:
    """Roles and bindings as listed from the API."""

    roles: tuple[Manifest, ...] = ()
    cluster_roles: tuple[Manifest, ...] = ()
    role_bindings: tuple[Manifest, ...] = ()
    cluster_role_bindings: tuple[Manifest, ...] = ()


def who_can_read(objects: RbacObjects, namespace: str, name: str) -> list[Reach]:
    """Every subject with a way to the Secret, direct ways first."""
    found: set[Reach] = {
        Reach("Group", "system:masters", "get list watch", "built into the API server")
    }
    for binding, cite, rules in _bound_rules(objects, namespace):
        ways = list(_ways(rules, name, of_cluster=not binding["metadata"].get("namespace")))
        for subject in binding.get("subjects") or []:
            kind, text = _subject(subject, binding)
            found.update(Reach(kind, text, how, cite, direct) for how, direct in ways)
    found.update(_borrowed(objects, namespace, [each for each in found if each.direct]))
    return sorted(found, key=lambda each: (not each.direct, each))


def _borrowed(objects: RbacObjects, namespace: str, readers: Iterable[Reach]) -> Iterator[Reach]:
    """Who may act in another namespace as a service account of there that can read it.

    What is given in all namespaces is given in the Secret's own as well, and found there.
    """
    accounts: dict[str, set[str]] = {}
    for each in readers:
        home, account = _accounts_of(each)
        accounts.setdefault(home, set()).add(account)
    # Each namespace's by itself: there may be thousands of them, and of bindings more.
    roles, bindings = _by_namespace(objects.roles), _by_namespace(objects.role_bindings)
    for home, bound in bindings.items():
        borrowed = (accounts.get(home, set()) | accounts.get(EVERYWHERE, set())) - {""}
        if home == namespace or not borrowed:
            continue
        there = RbacObjects(tuple(roles.get(home, ())), objects.cluster_roles, tuple(bound))
        for binding, cite, rules in _bound_rules(there, home):
            if any(_becomes(rule, borrowed) for rule in rules):
                how = f"as a service account of {home} that can read it"
                for subject in binding.get("subjects") or []:
                    yield Reach(*_subject(subject, binding), how, cite, False)


def _by_namespace(objects: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = {}
    for each in objects:
        found.setdefault(each["metadata"]["namespace"], []).append(each)
    return found


def _accounts_of(reader: Reach) -> tuple[str, str]:
    """The namespace and name of the service accounts that a reader is, "*" for all of them."""
    kind, subject = reader.kind, reader.subject
    if kind == "Group" and subject == "system:serviceaccounts":
        return EVERYWHERE, "*"
    if kind == "Group" and subject.startswith("system:serviceaccounts:"):
        return subject.rpartition(":")[2], "*"
    if kind == "User" and subject.startswith("system:serviceaccount:"):
        subject = subject.removeprefix("system:serviceaccount:").replace(":", "/")
    elif kind != "ServiceAccount":
        return "", ""
    home, _, name = subject.partition("/")
    return home, name


def _becomes(rule: Manifest, accounts: set[str]) -> bool:
    """Whether a rule lets its holder act as one of these service accounts of its namespace."""
    names = set(rule.get("resourceNames") or [])
    for step in INDIRECT:
        if step.becomes and _takes(rule, step):
            by_name = step.resource.startswith("serviceaccounts") and names
            if not by_name or "*" in accounts or accounts & names:
                return True
    return False


def who_holds(
    objects: RbacObjects, group: str, resource: str, verb: str, namespace: str = ""
) -> list[str]:
    """Every subject that has a verb on a resource, as `Kind name`: in all namespaces, or in one."""
    found = {"Group system:masters"}
    for binding, _, rules in _bound_rules(objects, namespace):
        if any(_covers(rule, group, resource) and _has(rule, verb) for rule in rules):
            subjects = binding.get("subjects") or []
            found.update(" ".join(_subject(each, binding)) for each in subjects)
    return sorted(found)


def _bound_rules(
    objects: RbacObjects, namespace: str
) -> Iterator[tuple[Manifest, str, list[Manifest]]]:
    cluster = {role["metadata"]["name"]: role for role in objects.cluster_roles}
    local = {
        role["metadata"]["name"]: role
        for role in objects.roles
        if role["metadata"]["namespace"] == namespace
    }
    for binding in objects.cluster_role_bindings:
        yield _one(binding, "ClusterRoleBinding", cluster, local)
    for binding in objects.role_bindings:
        if binding["metadata"]["namespace"] == namespace:
            yield _one(binding, f"RoleBinding {namespace}/", cluster, local)


def _one(
    binding: Manifest, kind: str, cluster: Mapping[str, Manifest], local: Mapping[str, Manifest]
) -> tuple[Manifest, str, list[Manifest]]:
    ref = binding["roleRef"]
    role = (cluster if ref["kind"] == "ClusterRole" else local).get(ref["name"]) or {}
    cite = f"{kind}{'' if kind.endswith('/') else ' '}{binding['metadata']['name']}"
    return binding, f"{cite} -> {ref['kind']} {ref['name']}", list(role.get("rules") or [])


def _ways(rules: Iterable[Manifest], name: str, *, of_cluster: bool) -> Iterator[tuple[str, bool]]:
    direct: set[str] = set()
    for rule in rules:
        names = rule.get("resourceNames") or []
        if _covers(rule, "", "secrets") and (not names or name in names):
            # By a name a collection is listed and watched (metadata.name), and not deleted.
            direct |= {
                verb
                for verb in READ_VERBS
                if _has(rule, verb) and not (names and verb == "deletecollection")
            }
        for step in INDIRECT:
            if (of_cluster or not step.of_cluster) and _takes(rule, step):
                yield step.how, False
    if direct:
        yield " ".join(verb for verb in READ_VERBS if verb in direct), True


def _takes(rule: Manifest, step: Step) -> bool:
    # What is created has no name yet when it is decided, so a rule with names does not allow it;
    # a subresource is of something that has one.
    named = bool(rule.get("resourceNames")) and "/" not in step.resource
    verbs = [verb for verb in step.verbs if not (named and verb == "create")]
    return _covers(rule, step.group, step.resource) and any(_has(rule, verb) for verb in verbs)


def _covers(rule: Manifest, group: str, resource: str) -> bool:
    groups, resources = rule.get("apiGroups") or [], rule.get("resources") or []
    subresource = resource.partition("/")[2]
    wanted = {resource, "*"}
    if subresource:
        # `pods/*` is no pattern to the API server, and allows nothing.
        wanted.add(f"*/{subresource}")
    return bool({group, "*"} & set(groups)) and bool(wanted & set(resources))


def _has(rule: Manifest, verb: str) -> bool:
    return bool({verb, "*"} & set(rule.get("verbs") or []))


def _subject(subject: Manifest, binding: Manifest) -> tuple[str, str]:
    if subject["kind"] == "ServiceAccount":
        # A RoleBinding need not name its own namespace once more.
        namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
        return "ServiceAccount", f"{namespace}/{subject['name']}"
    return str(subject["kind"]), str(subject["name"])
