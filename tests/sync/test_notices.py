"""Notices of clouds, and the page that takes them."""

import json

import pytest

from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret
from strongroom.sync.notices import aws_name, means, read_notice
from strongroom.sync.web import OperatorPage
from strongroom.wire.http import Request

ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-a1B2c3"
CLOUDTRAIL = {
    "source": "aws.secretsmanager",
    "detail-type": "AWS API Call via CloudTrail",
    "detail": {"eventName": "PutSecretValue", "requestParameters": {"secretId": ARN}},
}
PARAMETER = {
    "source": "aws.ssm",
    "detail-type": "Parameter Store Change",
    "resources": ["arn:aws:ssm:eu-west-1:123456789012:parameter/prod/db"],
    "detail": {"name": "/prod/db", "operation": "Update"},
}
PUB_SUB = {
    "message": {
        "attributes": {"eventType": "SECRET_VERSION_ADD", "secretId": "projects/1/secrets/db"},
        "data": "e30=",
    },
    "subscription": "projects/p/subscriptions/s",
}
EVENT_GRID = [
    {
        "eventType": "Microsoft.KeyVault.SecretNewVersionCreated",
        "data": {"ObjectName": "db", "ObjectType": "Secret", "VaultName": "v"},
    }
]
VALIDATION = [
    {
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6"},
    }
]


@pytest.mark.parametrize(
    ("notice", "names"),
    [
        (CLOUDTRAIL, ("prod/db",)),
        (PARAMETER, ("/prod/db",)),
        (PUB_SUB, ("projects/1/secrets/db", "db")),
        (EVENT_GRID, ("db", "secret/db")),
        ({"keys": ["a", "b", "a"]}, ("a", "b")),
    ],
)
def test_names_are_read_from_every_form(notice: object, names: tuple) -> None:
    assert read_notice(json.dumps(notice).encode()).names == names


@pytest.mark.parametrize(
    "body",
    [b"", b"no json", b"5", b"{}", b'{"keys": []}', b'{"source": "aws.x"}', b'{"message": 5}', b"[5]", b'{"keys": ["' + b"x" * 300_000 + b'"]}'],
)  # fmt: skip
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        read_notice(body)


def test_names_mean_paths() -> None:
    assert aws_name("arn:aws:kms:x:1:key/2") == ""
    assert means("prod/db", "secret/data/prod/db")
    assert means("/prod/db", "prod/db")
    assert means("projects/1/secrets/db", "db")
    assert not means("b", "prod/db")
    assert not means("", "prod/db")


def page(token: str | None = "t0ken", woken: list | None = None) -> OperatorPage:
    def wake(name: str) -> int:
        (woken if woken is not None else []).append(name)
        return 2

    return OperatorPage(
        lambda: ["no cache"], lambda: ["a 1"], wake, Secret(token.encode()) if token else None
    )


def post(body: object, headers: dict | None = None, query: str = "") -> Request:
    return Request("POST", f"/notices{query}", headers or {}, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"authorization": "Bearer t0ken"}, "", 202),
        ({"x-api-key": "t0ken"}, "", 202),
        ({}, "?token=t0ken", 202),
        ({}, "", 401),
        ({"authorization": "Bearer wrong"}, "", 401),
        ({"authorization": "Basic t0ken"}, "", 401),
        ({"x-api-key": ""}, "?token=", 401),
    ],
)
def test_who_does_not_know_the_token_wakes_nobody(headers: dict, query: str, status: int) -> None:
    woken: list[str] = []
    reply = page(woken=woken).answer(post({"keys": ["prod/db"]}, headers, query))
    assert reply.status == status
    assert woken == (["prod/db"] if status == 202 else [])


def test_without_a_token_no_notice_is_taken() -> None:
    assert page(None).answer(post({"keys": ["a"]}, {"authorization": "Bearer "})).status == 401


def test_a_subscription_is_confirmed() -> None:
    reply = page().answer(post(VALIDATION, {"x-api-key": "t0ken"}))
    assert json.loads(reply.body) == {"validationResponse": "512d38b6"}
    assert page().answer(post({}, {"x-api-key": "t0ken"})).status == 400
    assert page().answer(Request("GET", "/notices", {})).status == 405


def test_probes_and_metrics() -> None:
    def get(path: str):
        return page().answer(Request("GET", path, {}))

    assert get("/healthz").status == 200
    assert (get("/readyz").status, json.loads(get("/readyz").body)) == (
        503,
        {"troubles": ["no cache"]},
    )
    assert get("/metrics").body == b"a 1\n"
    assert get("/other").status == 404
