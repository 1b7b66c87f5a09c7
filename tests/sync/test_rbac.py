"""The operator's rights: from what is switched on, and nothing for what is off."""

from strongroom.app.dev.manifests import operator_parts
from strongroom.sync.rbac import Rights, rbac


def kinds(made: list[dict]) -> set[str]:
    return {each["kind"] for each in made}


def allowed(made: list[dict]) -> set[tuple[str, str]]:
    """Resource and verb of every rule."""
    return {
        (resource, verb)
        for each in made
        for rule in each.get("rules", [])
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_no_rule_says_everything() -> None:
    made = rbac(Rights(accounts=("prod/vault",)))
    assert not {verb for _, verb in allowed(made)} & {"*", "escalate", "bind", "impersonate"}
    assert ("secrets", "update") not in allowed(made)
    assert ("configmaps", "create") not in allowed(made)
    resources = {resource for resource, _ in allowed(made)}
    assert not resources & {"customresourcedefinitions", "*"}


def test_namespaced_operators_have_no_cluster_role() -> None:
    made = rbac(Rights(namespaces=("a", "b"), accounts=("a/vault",)))
    assert kinds(made) == {"ServiceAccount", "Role", "RoleBinding"}
    assert {each["metadata"]["namespace"] for each in made} == {"a", "b", "strongroom"}
    resources = {resource for resource, _ in allowed(made)}
    assert not resources & {"namespaces", "clustersecretstores", "clusterexternalsecrets"}


def test_tokens_are_of_named_accounts_alone() -> None:
    assert ("serviceaccounts/token", "create") not in allowed(rbac(Rights()))
    made = rbac(Rights(accounts=("prod/vault", "prod/other")))
    (role,) = [
        each for each in made if each["kind"] == "Role" and "tokens" in each["metadata"]["name"]
    ]
    assert role["metadata"]["namespace"] == "prod"
    assert role["rules"][0]["resourceNames"] == ["other", "vault"]


def test_what_is_off_needs_nothing() -> None:
    made = rbac(Rights(push=False, generators=False, cluster_objects=False, election=False))
    resources = {resource for resource, _ in allowed(made)}
    assert not resources & {"pushsecrets", "clusterpushsecrets", "clusterexternalsecrets", "leases"}
    assert ("namespaces", "patch") not in allowed(made)
    assert not [
        each
        for each in made
        for rule in each.get("rules", [])
        if "generators.external-secrets.io" in rule["apiGroups"]
    ]


def test_generators_are_looked_at_and_their_states_kept() -> None:
    made = allowed(rbac(Rights()))
    assert {verb for resource, verb in made if resource == "passwords"} == {"get"}
    assert {("clustergenerators", "get"), ("generatorstates", "delete")} <= made
    confined = allowed(rbac(Rights(namespaces=("a",))))
    assert ("uuids", "get") in confined
    assert "clustergenerators" not in {resource for resource, _ in confined}


def test_targets_of_other_kinds_are_named() -> None:
    made = allowed(rbac(Rights(manifests=("configmaps", "things.example.com"))))
    assert {("configmaps", "patch"), ("things", "create")} <= made


def test_the_tours_operator_may_write_the_targets_that_need_no_flag() -> None:
    made = allowed([each for each in operator_parts() if each["kind"] == "ClusterRole"])
    assert {("configmaps", "create"), ("configmaps", "patch")} <= made
