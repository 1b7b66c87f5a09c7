"""Remedies name what is at hand."""

import pytest

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Denied, Invalid, Unavailable
from strongroom.sync.remedies import (
    for_conditions,
    for_identity,
    for_missing_store,
    for_operator,
    for_reader,
    for_refused,
    plain,
    worded,
)
from strongroom.sync.spec import StoreRef


def test_a_request_to_the_api_server_is_no_part_of_a_sentence() -> None:
    message = (
        'x points to nothing: /api/v1/namespaces/n/secrets/a: secrets "a" not found (status 404)'
    )
    assert plain(message) == 'x points to nothing: secrets "a" not found'
    assert plain("secret/data/db: permission denied (status 403)").endswith("(status 403)")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vualt", "did you mean vault?"),
        ("wide", "set secretStoreRef.kind to ClusterSecretStore"),
        ("zzz", "of this kind there are aws, vault"),
    ],
)
def test_a_store_that_is_not_there(name: str, said: str) -> None:
    assert said in for_missing_store(StoreRef(name), ["vault", "aws"], ["wide"])
    assert "none of this kind" in for_missing_store(StoreRef(name), [], [])


def test_whom_a_cluster_store_admits() -> None:
    conditions = [
        {"namespaces": ["prod"]},
        {"namespaceRegexes": ["^team-"]},
        {"namespaceSelector": {"matchLabels": {"env": "prod"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}]}},
    ]  # fmt: skip
    said = for_conditions({"spec": {"conditions": conditions}}, "n", {"env": "test"})
    for part in (
        "namespaces prod",
        "names like ^team-",
        "env=prod and tier In a,b",
        "n has env=test",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ({"tokenSecretRef": {"name": "tok"}}, "the token in the Secret tok"),
        (
            {"kubernetes": {"mountPath": "k8s", "role": "r", "serviceAccountRef": {"name": "app"}}},
            "the role r of the auth mount k8s is bound to the service account app",
        ),
        ({"appRole": {}}, "secret id"),
        ({"jwt": {}}, "check the role"),
    ],
)
def test_a_login_that_fails(auth: dict, said: str) -> None:
    store = {"spec": {"provider": {"vault": {"auth": auth}}}}
    assert said in for_identity(Denied("store-denied", "no"), store)
    assert "create what" in for_identity(Invalid("credential-missing", "no"), store)
    assert "network policies" in for_identity(Unavailable("unreachable", "no"), store)


def lease(**spec: object) -> dict:
    return {"metadata": {"name": "l", "namespace": "n"}, "spec": spec}


def test_who_should_have_done_it() -> None:
    held = {"holderIdentity": "a", "leaseDurationSeconds": 15}
    assert "no operator has led" in for_operator([], 100.0)
    assert "nobody holds the Lease n/l" in for_operator([lease()], 100.0)
    fresh = lease(**held, renewTime=rfc3339(100.0))
    assert for_operator([fresh], 105.0).startswith("a leads")
    assert "a held the Lease n/l last" in for_operator([fresh], 200.0)


def test_a_refusal_of_the_api_server_is_told_without_its_path() -> None:
    message = '/apis/g/v1/namespaces/n/things/a: things "a" is forbidden (status 403)'
    told = worded(Denied("kube-forbidden", message, hint="ask for it"))
    assert told == 'things "a" is forbidden [kube-forbidden]; ask for it'
    assert worded(Invalid("bad-field", "spec is wrong")) == "spec is wrong [bad-field]"
    written = f"{message} [kube-forbidden]".replace(" (status 403)", "")
    assert for_refused(written).startswith('the operator was refused: things "a" is forbidden [')
    reader = for_reader(Denied("kube-forbidden", message), "things")
    assert reader.message == 'things "a" is forbidden'
    assert "things" in reader.hint
    assert "kubeconfig" in reader.hint
