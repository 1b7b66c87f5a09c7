"""Who can read: every way has the binding or rule that grants it."""

import pytest

from strongroom.access.grants import Holder, role_holder, who_can_read
from strongroom.access.nodes import nodes_that_read
from strongroom.access.rbac import RbacObjects, who_holds
from strongroom.access.rbac import who_can_read as who_can_read_secret


def role(name, namespace="", **rule) -> dict:
    rule.setdefault("apiGroups", [""])
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"metadata": metadata, "rules": [rule]}


def binding(name, ref, *subjects, namespace="") -> dict:
    kind, _, role_name = ref.partition("/")
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {
        "metadata": metadata,
        "roleRef": {"kind": kind, "name": role_name},
        "subjects": list(subjects),
    }


SA = {"kind": "ServiceAccount", "namespace": "shop", "name": "app"}


@pytest.mark.parametrize(
    ("rule", "how", "direct"),
    [
        ({"resources": ["secrets"], "verbs": ["get"]}, "get", True),
        ({"resources": ["secrets"], "verbs": ["list", "watch"]}, "list watch", True),
        ({"resources": ["secrets"], "verbs": ["patch"]}, "patch", True),
        ({"resources": ["secrets"], "verbs": ["deletecollection"]}, "deletecollection", True),
        ({"resources": ["secrets"], "verbs": ["delete"], "resourceNames": ["db"]}, "delete", True),
        ({"resources": ["secrets"], "verbs": ["*"], "resourceNames": ["db"]}, "get list watch patch delete", True),
        ({"resources": ["*"], "verbs": ["*"], "apiGroups": ["*"]}, "get list watch patch delete deletecollection", True),
        ({"resources": ["secrets"], "verbs": ["get"], "resourceNames": ["db"]}, "get", True),
        ({"resources": ["pods"], "verbs": ["create"]}, "a pod of its own", False),
        ({"resources": ["pods/exec"], "verbs": ["create"]}, "exec into a pod that holds it", False),
        ({"resources": ["*/exec"], "verbs": ["get"]}, "exec into a pod that holds it", False),
        ({"resources": ["pods/exec"], "verbs": ["create"], "resourceNames": ["app"]}, "exec into a pod that holds it", False),
        ({"resources": ["deployments"], "verbs": ["patch"], "apiGroups": ["apps"], "resourceNames": ["app"]}, "a pod of its own", False),
        ({"resources": ["pushsecrets"], "verbs": ["create"], "apiGroups": ["external-secrets.io"]}, "a PushSecret that copies it to a store", False),
        ({"resources": ["clusterroles"], "verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"]}, "rights it grants itself", False),
        ({"resources": ["serviceaccounts/token"], "verbs": ["create"]}, "a token of a service account that may read", False),
    ],
)  # fmt: skip
def test_a_way_is_found_with_its_binding(rule, how, direct) -> None:
    objects = RbacObjects(
        roles=(role("r", "shop", **rule),),
        role_bindings=(binding("b", "Role/r", SA, namespace="shop"),),
    )
    found = [
        each for each in who_can_read_secret(objects, "shop", "db") if each.subject == "shop/app"
    ]
    assert (how, direct) in [(each.how, each.direct) for each in found]
    assert found[0].rule == "RoleBinding shop/b -> Role r"


@pytest.mark.parametrize(
    "rule",
    [
        {"resources": ["secrets"], "verbs": ["create", "update"]},
        {"resources": ["secrets"], "verbs": ["deletecollection"], "resourceNames": ["db"]},
        {"resources": ["secrets"], "verbs": ["get"], "resourceNames": ["other"]},
        {"resources": ["secrets"], "verbs": ["get"], "apiGroups": ["example.com"]},
        {"resources": ["configmaps"], "verbs": ["*"]},
        {"resources": ["secrets/status"], "verbs": ["get"]},
        {"resources": ["pods/*"], "verbs": ["*"]},
        {"resources": ["pods"], "verbs": ["create"], "resourceNames": ["app"]},
    ],
)
def test_what_is_no_way_is_not_found(rule) -> None:
    objects = RbacObjects(
        cluster_roles=(role("r", **rule),),
        cluster_role_bindings=(binding("b", "ClusterRole/r", SA),),
    )
    assert [each.subject for each in who_can_read_secret(objects, "shop", "db")] == [
        "system:masters"
    ]


@pytest.mark.parametrize(
    ("group", "resource", "verb", "how"),
    [
        ("", "nodes/proxy", "get", "the kubelet of a node that holds it"),
        ("", "users", "impersonate", "impersonation"),
        ("", "groups", "impersonate", "impersonation"),
        ("rbac.authorization.k8s.io", "clusterroles", "escalate", "rights it grants itself"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "patch", "a webhook that is shown it"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "create", "a webhook that is shown it"),
        ("certificates.k8s.io", "certificatesigningrequests/approval", "update", "a certificate that it approves itself"),
    ],
)  # fmt: skip
def test_what_is_in_no_namespace_is_given_by_a_cluster_binding_alone(
    group, resource, verb, how
) -> None:
    rule = role("r", apiGroups=[group], resources=[resource], verbs=[verb])
    found = [
        [each.how for each in who_can_read_secret(objects, "shop", "db")[1:]]
        for objects in (
            RbacObjects(
                cluster_roles=(rule,), cluster_role_bindings=(binding("b", "ClusterRole/r", SA),)
            ),
            RbacObjects(
                cluster_roles=(rule,),
                role_bindings=(binding("b", "ClusterRole/r", SA, namespace="shop"),),
            ),
        )
    ]
    assert found == [[how], []]


def test_a_service_account_without_a_namespace_is_one_of_the_binding() -> None:
    objects = RbacObjects(
        roles=(role("r", "shop", resources=["secrets"], verbs=["get"]),),
        role_bindings=(
            binding("b", "Role/r", {"kind": "ServiceAccount", "name": "app"}, namespace="shop"),
        ),
    )
    assert who_can_read_secret(objects, "shop", "db")[-1].subject == "shop/app"
    assert who_holds(objects, "", "secrets", "get", "shop")[-1] == "ServiceAccount shop/app"


def test_a_role_has_the_policies_of_either_name_and_the_accounts_it_names() -> None:
    """The tokens of a role of today have `token_policies`; `policies` is the name of before."""
    named = {"bound_service_account_names": ["a", "b"], "token_policies": ["reader"]}
    role = role_holder("kubernetes", "app", named)
    assert role.policies == ("reader",)
    assert role.name.endswith("(ServiceAccount a,b of namespace *)")


def test_a_binding_without_subjects_is_one_to_nobody() -> None:
    bound = binding("b", "Role/r", namespace="shop")
    del bound["subjects"]
    reads = role("r", "shop", resources=["secrets"], verbs=["get"])
    objects = RbacObjects(roles=(reads,), role_bindings=(bound,))
    assert len(who_can_read_secret(objects, "shop", "db")) == 1
    assert who_holds(objects, "", "secrets", "get", "shop") == ["Group system:masters"]


def test_a_binding_of_another_namespace_or_to_a_missing_role_grants_nothing() -> None:
    objects = RbacObjects(
        cluster_roles=(role("r", resources=["secrets"], verbs=["get"]),),
        role_bindings=(
            binding("b", "ClusterRole/r", SA, namespace="other"),
            binding("b", "ClusterRole/gone", SA, namespace="shop"),
        ),
    )
    assert len(who_can_read_secret(objects, "shop", "db")) == 1


READER = {"kind": "ServiceAccount", "namespace": "ops", "name": "reader"}
DEV = {"kind": "User", "name": "dev"}


@pytest.mark.parametrize("reader", [
    READER,
    {"kind": "User", "name": "system:serviceaccount:ops:reader"},
    {"kind": "Group", "name": "system:serviceaccounts:ops"},
    {"kind": "Group", "name": "system:serviceaccounts"},
])  # fmt: skip
@pytest.mark.parametrize(
    "rule",
    [
        {"resources": ["serviceaccounts/token"], "verbs": ["create"]},
        {"resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": ["reader"]},
        {"resources": ["serviceaccounts"], "verbs": ["impersonate"]},
        {"resources": ["pods"], "verbs": ["create"]},
        {"resources": ["pods/exec"], "verbs": ["get"]},
        {"resources": ["jobs"], "verbs": ["create"], "apiGroups": ["batch"]},
    ],
)
def test_who_may_act_as_a_reader_of_another_namespace_is_one_step_away(reader, rule) -> None:
    objects = RbacObjects(
        roles=(role("r", "ops", **rule),),
        cluster_roles=(role("reads", resources=["secrets"], verbs=["get"]),),
        role_bindings=(binding("b", "Role/r", DEV, namespace="ops"),),
        cluster_role_bindings=(binding("c", "ClusterRole/reads", reader),),
    )
    (found,) = [each for each in who_can_read_secret(objects, "shop", "db") if not each.direct]
    assert (found.subject, found.how, found.rule) == (
        "dev", "as a service account of ops that can read it", "RoleBinding ops/b -> Role r"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("home", "rule"),
    [
        ("ops", {"resources": ["serviceaccounts/token"], "verbs": ["create"], "resourceNames": ["other"]}),
        ("ops", {"resources": ["pods"], "verbs": ["get"]}),
        ("ops", {"resources": ["secrets"], "verbs": ["get"]}),
        ("elsewhere", {"resources": ["pods"], "verbs": ["create"]}),
    ],
)  # fmt: skip
def test_who_may_act_as_nobody_who_reads_is_not_found(home, rule) -> None:
    objects = RbacObjects(
        roles=(role("r", home, **rule),),
        cluster_roles=(role("reads", resources=["secrets"], verbs=["get"]),),
        role_bindings=(binding("b", "Role/r", DEV, namespace=home),),
        cluster_role_bindings=(binding("c", "ClusterRole/reads", READER, DEV | {"name": "x"}),),
    )
    assert all(each.direct for each in who_can_read_secret(objects, "shop", "db"))


class Counted(tuple):
    """Bindings, and how often they were gone through."""

    times = 0

    def __iter__(self):
        type(self).times += 1
        return super().__iter__()


def test_many_namespaces_are_not_looked_through_for_each_of_them() -> None:
    """The square of their number: half a minute for 1,500."""
    homes = [f"home-{number}" for number in range(50)]
    bindings = Counted(binding("b", "Role/r", DEV, namespace=home) for home in homes)
    everybody = {"kind": "Group", "name": "system:serviceaccounts"}
    objects = RbacObjects(
        roles=tuple(role("r", home, resources=["pods"], verbs=["create"]) for home in homes),
        cluster_roles=(role("reads", resources=["secrets"], verbs=["get"]),),
        role_bindings=bindings,
        cluster_role_bindings=(binding("c", "ClusterRole/reads", everybody),),
    )
    found = who_can_read_secret(objects, "shop", "db")
    assert sum(not each.direct for each in found) == len(homes)
    assert Counted.times <= 2


def a_pod(name, node="n1", namespace="shop", **spec) -> dict:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"nodeName": node, **spec}}


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "v", "secret": {"secretName": "db"}}]},
        {"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "db"}}]}}]},
        {"volumes": [{"name": "v", "csi": {"nodePublishSecretRef": {"name": "db"}}}]},
        {"volumes": [{"name": "v", "azureFile": {"secretName": "db"}}]},
        {"volumes": [{"name": "v", "iscsi": {"secretRef": {"name": "db"}}}]},
        {"imagePullSecrets": [{"name": "other"}, {"name": "db"}]},
        {"containers": [{"envFrom": [{"secretRef": {"name": "db"}}]}]},
        {"initContainers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "db"}}}]}]},
    ],
)
def test_a_node_reads_what_its_pods_name(spec) -> None:
    pods = [
        a_pod("b", **spec), a_pod("a", **spec), a_pod("elsewhere", "n2", "other", **spec),
        a_pod("waits", "", **spec), a_pod("no", "n3", volumes=[{"configMap": {"name": "db"}}]),
    ]  # fmt: skip
    (found,) = nodes_that_read(pods, "shop", "db")
    assert (found.kind, found.subject, found.direct) == ("User", "system:node:n1", True)
    assert found.rule == "Node authorizer: pod shop/a and 1 more names it"


POLICIES = {
    "reader": 'path "secret/data/prod/*" { capabilities = ["read"] }',
    "denied": 'path "secret/data/prod/db" { capabilities = ["deny"] }',
    "broken": "path {",
}


def test_store_holders_are_decided_by_the_engine_itself() -> None:
    holders = [
        Holder("token", "root", ("root",)),
        Holder("token", "a", ("reader",)),
        Holder("token", "b", ("reader", "denied")),
        Holder("token", "c", ("unknown",)),
        role_holder(
            "kubernetes",
            "app",
            {
                "bound_service_account_names": ["app"],
                "bound_service_account_namespaces": ["shop"],
                "policies": ["reader"],
            },
        ),
    ]
    found, unreadable, undecided = who_can_read("secret/data/prod/db", POLICIES, holders)
    assert undecided == []
    assert unreadable == ["broken"]
    assert {(each.kind, each.subject.split(" ")[0]) for each in found} == {
        ("token", "root"),
        ("token", "a"),
        ("role", "auth/kubernetes/role/app"),
    }
    assert any("reader" in each.rule for each in found)


@pytest.mark.parametrize(
    ("rule", "to_some"),
    [
        ("secret/data/{{identity.entity.metadata.team}}/*", True),
        ("secret/data/{{identity.entity.metadata.team}}/db", True),
        ("secret/data/+/{{identity.entity.name}}", True),
        ("secret/data/p{{identity.entity.name}}/d*", True),
        ("secret/data/{{identity.entity.name}}", False),
        ("secret/data/{{identity.entity.name}}/other", False),
        ("other/{{identity.entity.name}}/*", False),
    ],
)
def test_a_policy_with_templates_is_told_where_it_was_not_decided(rule, to_some) -> None:
    text = f'path "{rule}" {{ capabilities = ["read"] }}'
    role = role_holder("kubernetes", "app", {"policies": ["t"]})
    found, _, undecided = who_can_read("secret/data/prod/db", {"t": text}, [role])
    assert (found, undecided) == ([], ["t"] if to_some else [])
    # Of a token the store says it, and its word is what counts.
    held = [Holder("token", "a", ("t",), reads=True), Holder("token", "b", ("t",), reads=False)]
    found, _, undecided = who_can_read("secret/data/prod/db", {"t": text}, held)
    assert [each.subject for each in found] == ["a"]
    assert "t" in found[0].rule
    assert undecided == []


@pytest.mark.parametrize(
    ("rule", "how"),
    [
        ('path "sys/policies/acl/*" { capabilities = ["update"] }', "a policy of its own that it writes anew"),
        ('path "sys/policy/ci" { capabilities = ["create", "update"] }', "a policy of its own that it writes anew"),
        ('path "sys/policies/acl/default" { capabilities = ["update"] }', "a policy of its own that it writes anew"),
        ('path "auth/token/create" { capabilities = ["update", "sudo"] }', "a token with any policy"),
        ('path "auth/token/create-orphan" { capabilities = ["update", "sudo"] }', "a token with any policy"),
        ('path "auth/token/create-orphan" { capabilities = ["sudo"] }', ""),
        ('path "auth/token/create" { capabilities = ["update"] }', ""),
        ('path "sys/policies/acl/other" { capabilities = ["update"] }', ""),
        ('path "sys/policies/acl/*" { capabilities = ["read", "list"] }', ""),
    ],
)  # fmt: skip
def test_who_can_give_itself_the_right_is_one_step_away(rule, how) -> None:
    for holder in (Holder("token", "t", ("ci",), reads=False), Holder("role", "r", ("ci",))):
        found, _, _ = who_can_read("secret/data/prod/db", {"ci": rule}, [holder])
        assert [(each.how, each.direct) for each in found] == ([(how, False)] if how else [])


def test_a_rule_of_several_policies_is_cited_in_their_order() -> None:
    names = [f"p{number}" for number in range(9)]
    texts = dict.fromkeys(names, 'path "secret/data/prod/db" { capabilities = ["read"] }')
    (found,), _, _ = who_can_read(
        "secret/data/prod/db", texts, [Holder("token", "t", tuple(names))]
    )
    assert found.rule.endswith(f" of {', '.join(names)}")
