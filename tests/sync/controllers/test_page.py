"""What probes, Prometheus and clouds see of a running operator."""

import asyncio
import json
import re
from pathlib import Path

import pytest
import yaml
from tests.sync.controllers.conftest import DATA

from strongroom.kube.election import Election
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import EVENTS, LEASES, Resource
from strongroom.model.secret import Secret
from strongroom.sync.crds import (
    CLUSTER_EXTERNAL_SECRETS,
    CLUSTER_PUSH_SECRETS,
    CLUSTER_SECRET_STORES,
    EXTERNAL_SECRETS,
    PUSH_SECRETS,
    SECRET_STORES,
)
from strongroom.sync.metrics import FAMILIES
from strongroom.sync.reasons import WORDS
from strongroom.sync.senders import Senders
from strongroom.wire.http import Request

SENDERS = Senders(Secret(b"t"))


def get(operator, path: str):
    return operator.page(SENDERS).answer(Request("GET", path, {}))


def series(operator) -> dict[str, float]:
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in operator.lines()
        if not line.startswith("#")
    }


async def test_metrics_have_the_names_that_dashboards_know(bench) -> None:
    await bench.external()
    await bench.external("broken", data=[{"secretKey": "a", "remoteRef": {"key": "gone"}}])
    found = series(bench.operator)
    calls = 'externalsecret_sync_calls_total{name="db",namespace="n"}'
    assert found[calls] >= 1
    assert found['externalsecret_sync_calls_error{name="broken",namespace="n"}'] >= 1
    ready = (
        'externalsecret_status_condition{{name="{}",namespace="n",condition="Ready",status="{}"}}'
    )
    assert (found[ready.format("db", "True")], found[ready.format("db", "False")]) == (1, 0)
    assert found[ready.format("broken", "False")] == 1
    fetched = 'externalsecret_provider_api_calls_count{provider="SecretStore/s",call="fetch",status="success"}'
    assert found[fetched] == 1
    assert found["strongroom_sync_reconcile_seconds_count"] >= 2
    stores = 'secretstore_status_condition{name="s",namespace="n",condition="Ready",status="True"}'
    assert found[stores] == 1


async def test_every_family_is_on_the_page_and_told(bench) -> None:
    await bench.external()
    text = (await bench.operator.page(SENDERS).metrics()).body.decode()
    for name, (kind, said) in FAMILIES.items():
        assert f"# TYPE {name} {kind}" in text
        assert f"# HELP {name} {said}" in text


async def test_a_long_metrics_page_lets_other_work_in_between(bench) -> None:
    page = bench.operator.page(SENDERS)
    page._metrics = lambda: (f"line {number}" for number in range(1001))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    found = await page.metrics()
    counting.cancel()
    assert turns >= 4
    assert found.body.decode().splitlines() == [f"line {number}" for number in range(1001)]


async def test_ages_start_anew_with_each_check(idle) -> None:
    idle.provider.has_feed = False
    operator = await idle.start()
    await idle.external(refreshInterval="1m")
    age = 'strongroom_sync_age_seconds{name="db",namespace="n"}'
    await idle.clock.advance(30)
    assert 29 <= series(operator)[age] <= 31
    await idle.clock.advance(31)
    assert series(operator)[age] < 10


async def test_series_go_with_their_object(bench) -> None:
    await bench.external()
    await bench.api.delete(EXTERNAL_SECRETS, "db", "n")
    await bench.clock.advance(1)
    assert not [each for each in series(bench.operator) if 'name="db"' in each]


async def test_readiness_comes_with_the_caches_and_goes_with_silence(bench) -> None:
    assert get(bench.operator, "/readyz").status == 200
    # The fake sends no bookmarks, and nothing happens: after six minutes that is suspicious.
    await bench.clock.advance(400)
    reply = get(bench.operator, "/readyz")
    assert reply.status == 503
    assert "nothing was heard of" in json.loads(reply.body)["troubles"][0]


class SilentFor:
    """The fake API, in which writes to one kind never end."""

    def __init__(self, api: FakeKubeApi, resource: Resource) -> None:
        self._api, self._resource = api, resource

    def __getattr__(self, name: str):
        return getattr(self._api, name)

    async def merge_patch(self, resource: Resource, *args, **kwargs):
        if resource == self._resource:
            await asyncio.Event().wait()
        return await self._api.merge_patch(resource, *args, **kwargs)


async def test_readiness_goes_when_any_controller_is_stuck(idle) -> None:
    operator = await idle.start(SilentFor(idle.api, PUSH_SECRETS))
    row = {"match": {"secretKey": "a", "remoteRef": {"remoteKey": "out"}}}
    spec = {
        "secretStoreRefs": [{"name": "s"}],
        "selector": {"secret": {"name": "gone"}},
        "data": [row],
    }
    for number in range(6):
        metadata = {"name": f"p-{number}", "namespace": "n"}
        await idle.api.create(PUSH_SECRETS, {"metadata": metadata, "spec": spec})
    await idle.external()
    assert get(operator, "/readyz").status == 200
    await idle.clock.advance(121)
    (said,) = json.loads(get(operator, "/readyz").body)["troubles"]
    assert said.startswith("pushsecret has had work for")


async def test_the_last_reconcile_of_each_kind_is_told_while_its_object_is_there(bench) -> None:
    name = 'secretstore_reconcile_duration{name="s",namespace="n"}'
    assert name in series(bench.operator)
    await bench.api.delete(SECRET_STORES, "s", "n")
    await bench.clock.advance(1)
    assert name not in series(bench.operator)


async def test_a_notice_wakes_whoever_reads_what_it_means(idle) -> None:
    idle.provider.has_feed = False
    operator = await idle.start()
    idle.provider.put("other", password="x")
    await idle.external()
    row = {"secretKey": "p", "remoteRef": {"key": "other", "property": "password"}}
    await idle.external("unmoved", data=[row])
    idle.provider.put("prod/db", password="two")
    reads = idle.provider.reads
    body = {"source": "aws.ssm", "detail": {"name": "/prod/db", "operation": "Update"}}
    request = Request("POST", "/notices", {"x-api-key": "t"}, json.dumps(body).encode())
    reply = await operator.page(SENDERS).notice(request)
    assert (reply.status, json.loads(reply.body)) == (202, {"woken": 1})
    await idle.clock.advance(0.5)
    assert await idle.secret() == {"password": "two"}
    assert idle.provider.reads == reads + 1
    assert series(operator)['strongroom_sync_notices_total{result="accepted"}'] == 1


NEW_VERSION = "Microsoft.KeyVault.SecretNewVersionCreated"
ARN = "arn:aws:secretsmanager:eu-west-1:1:secret:prod/db-a1B2c3"
BY_CLOUD = {
    # What the provider of each cloud calls a secret, and what the cloud sends of it.
    "prod/db": {
        "source": "aws.secretsmanager",
        "detail": {"eventName": "PutSecretValue", "requestParameters": {"secretId": ARN}},
    },
    "/prod/db": {"source": "aws.ssm", "detail": {"name": "/prod/db", "operation": "Update"}},
    "db": {"message": {"attributes": {"secretId": "projects/1/secrets/db"}, "data": "e30="}},
    "secret/db": [
        {"eventType": NEW_VERSION, "data": {"ObjectName": "db", "ObjectType": "Secret"}},
    ],
}


@pytest.mark.parametrize("path", BY_CLOUD)
@pytest.mark.parametrize("again", [False, True])
async def test_a_clouds_notice_wakes_the_object_and_no_other(idle, path: str, again: bool) -> None:
    idle.provider.has_feed = False
    operator = await idle.start()
    for name, key in (("meant", path), ("other", f"{path}-2")):
        idle.provider.put(key, password="one")
        row = {"secretKey": "password", "remoteRef": {"key": key, "property": "password"}}
        await idle.external(name, data=[row])
    if again:
        # After a start nothing was read, so only the names in the manifests are known.
        operator = await idle.start()
        await idle.clock.advance(1)
    for key in (path, f"{path}-2"):
        idle.provider.put(key, password="two")
    reads = idle.provider.reads
    body = json.dumps(BY_CLOUD[path]).encode()
    request = Request("POST", "/notices", {"x-api-key": "t"}, body)
    assert (await operator.page(SENDERS).notice(request)).status == 202
    await idle.clock.advance(0.5)
    assert await idle.secret("meant") == {"password": "two"}
    assert await idle.secret("other") == {"password": "one"}
    assert idle.provider.reads == reads + 1


async def test_a_replica_that_does_not_lead_is_ready_and_writes_nothing(idle) -> None:
    await idle.api.create(
        LEASES,
        {
            "metadata": {"name": "l", "namespace": "n"},
            "spec": {"holderIdentity": "other", "leaseDurationSeconds": 3600},
        },
    )
    operator = await idle.start()
    await idle.stop()
    election = Election(idle.api, idle.clock, ("n", "l"), "second")
    idle.running = asyncio.create_task(operator.run(election))
    await idle.clock.advance(1)
    writes = idle.api.writes
    await idle.external()
    assert idle.api.writes == writes + 1
    assert get(operator, "/readyz").status == 200
    found = series(operator)
    assert found["strongroom_sync_leader"] == 0
    notice = Request("POST", "/notices", {"x-api-key": "t"}, b'{"keys": ["prod/db"]}')
    reply = await operator.page(SENDERS).notice(notice)
    assert (reply.status, b"not-leading" in reply.body) == (503, True)
    # What it has noted for the day that it leads would look like work that is stuck.
    assert not [each for each in found if each.startswith("strongroom_sync_queue")]


async def test_every_reason_that_is_written_is_in_the_table(bench) -> None:
    await bench.external()
    await bench.external("broken", data=[{"secretKey": "a", "remoteRef": {"key": "gone"}}])
    await bench.edit(password="x")
    events = {each["reason"] for each in (await bench.api.list(EVENTS)).items}
    reasons = {
        each["reason"]
        for name in ("db", "broken")
        for each in (await bench.item(name))["status"]["conditions"]
    }
    assert events | reasons <= WORDS
    assert {"Created", "DriftRepaired", "UpdateFailed", "SecretSynced"} <= events | reasons


ROOT = Path(__file__).resolve().parents[3]
# What Prometheus adds, and what its functions make.
OF_PROMETHEUS = {"job", "instance", "le"}
USED = re.compile(r"(\w+)(?:\{([^}]*)\})?")
SHARED = {"secretStoreRefs": [{"name": "s", "kind": "SecretStore"}]}


def queries() -> list[tuple[str, str]]:
    """Each query, and what a person reads with it."""
    dashboard = json.loads((ROOT / "deploy/grafana/strongroom-sync.json").read_text())
    found = [
        (each["expr"], each.get("legendFormat", "").replace("{{", "$labels."))
        for panel in dashboard["panels"]
        for each in panel["targets"]
    ]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/strongroom-sync-rules.yaml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"]]
    return found + [(each["expr"], str(each["annotations"])) for each in alerts]


async def test_queries_and_their_texts_name_labels_that_exist(bench) -> None:
    """A label that no series has gives an alert that never fires, or one that names nobody."""
    every = {"selector": {"matchLabels": {"team": "x"}}}
    of_source = {"selector": {"secret": {"name": "db"}}, **SHARED}
    rows = {"data": [{"match": {"secretKey": "password", "remoteRef": {"remoteKey": "out"}}}]}
    push = {**of_source, **rows}
    spec = {"secretStoreRef": {"name": "s"}, "data": DATA}
    shared = {"metadata": {"name": "c"}, "spec": {"provider": {"fake": {}}}}
    await bench.external()
    await bench.external("broken", data=[{"secretKey": "a", "remoteRef": {"key": "gone"}}])
    await bench.api.create(CLUSTER_SECRET_STORES, shared)
    metadata = {"name": "p", "namespace": "n"}
    await bench.api.create(PUSH_SECRETS, {"metadata": metadata, "spec": push})
    for resource, inner in (
        (CLUSTER_EXTERNAL_SECRETS, {"externalSecretSpec": spec}),
        (CLUSTER_PUSH_SECRETS, {"pushSecretSpec": push}),
    ):
        among = {"namespaceSelectors": [every["selector"]], **inner}
        await bench.api.create(resource, {"metadata": {"name": "w"}, "spec": among})
    await bench.clock.advance(2)
    bench.operator.metrics.notices["taken"] += 1
    labels: dict[str, set[str]] = {}
    for line in bench.operator.lines():
        if not line.startswith("#"):
            name, inner = USED.match(line).groups()
            labels.setdefault(name, set()).update(re.findall(r'(\w+)="', inner or ""))
    for expression, said in queries():
        used = [(name, inner) for name, inner in USED.findall(expression) if name in labels]
        assert used, expression
        every_label = set.intersection(*(labels[name] for name, _ in used)) | OF_PROMETHEUS
        for name, inner in used:
            assert set(re.findall(r"(\w+)[=!]", inner)) <= labels[name], expression
        grouped = re.findall(r"by \(([^)]*)\)", expression)
        assert {one.strip() for each in grouped for one in each.split(",")} <= every_label
        kept = {one.strip() for each in grouped for one in each.split(",")} or every_label
        shown = set(re.findall(r"\$labels\.\s*(\w+)", said))
        assert shown <= (kept if grouped else every_label), (expression, said)
