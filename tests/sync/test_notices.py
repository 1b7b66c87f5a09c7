"""Notices of clouds, and the page that takes them."""

import base64
import json

import pytest

from strongroom.model.clock import SimulatedClock
from strongroom.model.errors import Invalid, Throttled
from strongroom.model.secret import Secret
from strongroom.sync.notices import NOTICE_BYTES, aws_name, means, read_notice
from strongroom.sync.senders import ADDRESSES, Gatekeeper, Senders
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
CLOUD_EVENT = {
    "specversion": "1.0",
    "type": "Microsoft.KeyVault.CertificateNewVersionCreated",
    "data": {"ObjectName": "db", "ObjectType": "Certificate", "VaultName": "v"},
}
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
        (CLOUD_EVENT, ("db", "cert/db")),
        ([CLOUD_EVENT], ("db", "cert/db")),
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


def page(token: str | None = "t0ken", woken: list | None = None, **gate: float) -> OperatorPage:
    def wake(name: str) -> int:
        (woken if woken is not None else []).append(name)
        return 2

    doors = Gatekeeper(SimulatedClock(), **gate), Senders(Secret(token) if token else None)
    return OperatorPage(lambda: ["no cache"], lambda: ["a 1"], wake, doors)


def post(body: object, headers: dict | None = None, query: str = "", peer: str = "a") -> Request:
    return Request("POST", f"/notices{query}", headers or {}, json.dumps(body).encode(), peer)


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"authorization": "Bearer t0ken"}, "", 202),
        ({"x-api-key": "t0ken"}, "", 202),
        (basic("anybody:t0ken"), "", 202),
        ({}, "?token=t0ken", 202),
        ({}, "", 401),
        ({"authorization": "Bearer wrong"}, "", 401),
        ({"authorization": "Basic t0ken"}, "", 401),
        (basic("t0ken"), "", 401),
        (basic("t0ken:"), "", 401),
        ({"x-api-key": ""}, "?token=", 401),
        ({"authorization": "Bearer a.b.c"}, "", 401),
    ],
)
async def test_who_does_not_know_the_token_wakes_nobody(
    headers: dict, query: str, status: int
) -> None:
    woken: list[str] = []
    reply = await page(woken=woken).notice(post({"keys": ["prod/db"]}, headers, query))
    assert reply.status == status
    assert woken == (["prod/db"] if status == 202 else [])


async def test_an_empty_token_lets_nobody_in() -> None:
    """It is what a file that somebody forgot to fill holds, and what strangers send."""
    doors = Gatekeeper(SimulatedClock()), Senders(Secret(""))
    empty = OperatorPage(list, list, lambda _name: 1, doors)
    for headers in ({}, {"x-api-key": ""}, {"authorization": "Bearer "}, basic("anybody:")):
        assert (await empty.notice(post({"keys": ["a"]}, headers))).status == 401, headers


async def test_without_senders_no_notice_is_taken() -> None:
    reply = await page(None).notice(post({"keys": ["a"]}, {"authorization": "Bearer "}))
    assert reply.status == 401
    assert b"no-senders" in reply.body


async def test_a_notice_of_sns_is_refused_by_name() -> None:
    head = {"x-amz-sns-message-type": "SubscriptionConfirmation"}
    reply = await page().notice(post({"Type": "SubscriptionConfirmation"}, head))
    assert (reply.status, b"sns-not-served" in reply.body) == (401, True)


async def test_a_subscription_is_confirmed() -> None:
    reply = await page().notice(post(VALIDATION, {"x-api-key": "t0ken"}))
    assert json.loads(reply.body) == {"validationResponse": "512d38b6"}
    assert (await page().notice(post(VALIDATION))).status == 401
    assert (await page().notice(post({}, {"x-api-key": "t0ken"}))).status == 400
    assert (await page().notice(Request("GET", "/notices", {}))).status == 405


async def test_the_handshake_of_cloud_events_is_answered_to_those_who_may_send() -> None:
    head = {"webhook-request-origin": "eventgrid.azure.net", "x-api-key": "t0ken"}
    reply = await page().notice(Request("OPTIONS", "/notices", head))
    assert reply.status == 200
    assert reply.headers == (("WebHook-Allowed-Origin", "eventgrid.azure.net"),)
    assert (await page().notice(Request("OPTIONS", "/notices", {}))).status == 401
    head["webhook-request-origin"] = "a\r\nSet-Cookie: b"
    reply = await page().notice(Request("OPTIONS", "/notices", head))
    assert reply.headers == (("WebHook-Allowed-Origin", "aSet-Cookie: b"),)


async def test_sizes_and_rates_are_looked_at_before_anybody_is_asked_who_he_is() -> None:
    door = page(per_second=1.0, burst=3.0)
    large = Request("POST", "/notices", {}, b"x" * (NOTICE_BYTES + 1))
    assert (await door.notice(large)).status == 413
    told = [(await door.notice(post({"keys": ["a"]}))).status for _ in range(5)]
    assert told == [401, 401, 401, 429, 429]
    reply = await door.notice(post({"keys": ["a"]}, {"x-api-key": "t0ken"}))
    assert (reply.status, reply.headers) == (429, (("Retry-After", "2"),))
    # Others are not held up by that.
    reply = await door.notice(post({"keys": ["a"]}, {"x-api-key": "t0ken"}, peer="b"))
    assert reply.status == 202


async def test_a_bucket_fills_again_and_strangers_push_nobody_out_of_memory() -> None:
    clock = SimulatedClock()
    gate = Gatekeeper(clock, 1.0, 1.0)
    gate.check(post({}))
    with pytest.raises(Throttled):
        gate.check(post({}))
    await clock.advance(1)
    gate.check(post({}))
    for number in range(ADDRESSES + 10):
        gate.check(post({}, peer=str(number)))
    assert len(gate._buckets) == ADDRESSES


async def test_probes_and_metrics() -> None:
    def get(path: str):
        return page().answer(Request("GET", path, {}))

    assert get("/healthz").status == 200
    assert (get("/readyz").status, json.loads(get("/readyz").body)) == (
        503,
        {"troubles": ["no cache"]},
    )
    assert (await page().metrics()).body == b"a 1\n"
    assert get("/other").status == 404
