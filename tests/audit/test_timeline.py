"""Two logs, one timeline: joined exactly where they can be, honest where they cannot."""

import asyncio
import gzip
import json

import pytest

from strongroom.app.audit_sources import (
    cluster_reach,
    pods_beside,
    pods_that_name,
    read_logs,
    secrets_made_of,
)
from strongroom.app.commands.audit import reach_sheet, readers_sheet, since_of, timeline_sheet
from strongroom.app.main import main
from strongroom.audit.exposure import LogCoverage, Window, blind_spots, readers
from strongroom.audit.kubernetes_log import parse_line
from strongroom.audit.log_files import lines_of
from strongroom.audit.store_log import parse_record, records_of
from strongroom.audit.timeline import Subject, fold, service_account_of, timeline
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import PODS, SECRETS
from strongroom.model.clock import SimulatedClock, parse_rfc3339
from strongroom.model.errors import Denied, Invalid, NotFound
from strongroom.model.reach import Reach
from strongroom.model.reference import SecretRef
from strongroom.rotate.evidence import EXTERNAL_SECRETS, external_secrets

REF = SecretRef("secret", "prod/db")
SUBJECT = Subject(REF, frozenset({("shop", "db")}), {1: 100.0, 2: 200.0})


def at(second: int) -> str:
    return f"1970-01-01T00:{second // 60:02}:{second % 60:02}Z"


def store_line(
    second: int, operation="read", path="secret/data/prod/db", kind="response", **changes
) -> bytes:
    entry = {
        "time": at(second),
        "type": kind,
        "auth": {
            "display_name": "kubernetes-shop-app",
            "accessor": "hmac-sha256:1",
            "metadata": {"service_account_name": "app", "service_account_namespace": "shop", "pod_name": "app-1", "pod_uid": "u1", "node_name": "n1", "token_id": "JTI=7"},
        },
        "request": {"id": f"r{second}", "operation": operation, "path": path, "remote_address": "10.0.0.9"},
        "response": {"data": {"data": {"password": "hmac-sha256:2"}, "metadata": {"version": 1}}},
        **changes,
    }  # fmt: skip
    return json.dumps(entry).encode() + b"\n"


def kube_line(
    second: int, verb="get", resource="secrets", name="db", namespace="shop", **changes
) -> bytes:
    event = {
        "stage": "ResponseComplete",
        "requestReceivedTimestamp": at(second),
        "verb": verb,
        "user": {
            "username": "system:serviceaccount:shop:debug",
            "extra": {"authentication.kubernetes.io/pod-name": ["debug-1"]},
        },
        "objectRef": {"resource": resource, "namespace": namespace, "name": name},
        "responseStatus": {"code": 200},
        **changes,
    }
    return json.dumps(event).encode() + b"\n"


def issued(second: int, token: str) -> bytes:
    line = json.loads(kube_line(second, "create", "serviceaccounts", "app"))
    line["objectRef"]["subresource"] = "token"
    line["user"] = {"username": "system:node:n1"}
    line["annotations"] = {"authentication.kubernetes.io/issued-credential-id": token}
    return json.dumps(line).encode()


def entries(store=(), kube=()):
    records = [each for each in records_of(iter(store), "secret", "prod/db") if each]
    return timeline(SUBJECT, records, [event for event in map(parse_line, kube) if event])


def test_both_logs_stand_in_order_and_join_by_the_token() -> None:
    found = entries(
        [store_line(150)],
        [
            issued(140, "JTI=7"),
            issued(141, "JTI=other"),
            kube_line(250),
            kube_line(260, name="other"),
        ],
    )
    assert [(each.action, each.joined_by) for each in found] == [
        ("issue token", "token id"),
        ("read", "token id"),
        ("get", ""),
    ]
    read, get = found[1], found[2]
    assert (
        read.actor.name,
        read.actor.pod,
        read.actor.node,
        read.version,
        read.keys,
        read.inferred,
    ) == ("shop/app", "app-1", "n1", 1, ("password",), False)
    assert (get.actor.service_account, get.actor.pod, get.version, get.inferred) == (
        "shop/debug",
        "debug-1",
        2,
        True,
    )


@pytest.mark.parametrize(
    ("metadata", "joined"),
    [
        ({"service_account_name": "app", "pod_uid": "u", "token_id": "JTI=8"}, "pod uid"),
        ({"service_account_name": "app"}, "service account"),
        ({}, ""),
        ({"service_account_name": 7, "token_id": [], "pod_name": {"a": 1}}, "service account"),
    ],
)
def test_a_weaker_join_says_so(metadata, joined) -> None:
    auth = {"display_name": "kubernetes-app", "metadata": metadata}
    (read,) = entries([store_line(1, auth=auth)], [])
    assert read.joined_by == joined


@pytest.mark.parametrize(
    ("name", "more", "shown"),
    [
        ("root", {}, "root"), ("token", {}, "token"), ("token-ci", {}, "token-ci"),
        ("approle", {"role_name": "ci"}, "approle (ci)"),
    ],
)  # fmt: skip
def test_nobody_reads_in_the_name_of_a_pod_that_they_wrote_into_a_token(name, more, shown) -> None:
    """As the ledger of rotation: who makes a token or a secret id says in it what they like."""
    pod = {"service_account_name": "app", "service_account_namespace": "shop", "pod_name": "app-1"}
    metadata = {**pod, "pod_uid": "u1", "node_name": "n1", "token_id": "JTI=7", **more}
    auth = {"display_name": name, "metadata": metadata}
    touched = entries([store_line(110, auth=auth)], [issued(100, "JTI=7"), session(120)])
    assert [(each.actor.name, each.actor.pod, each.joined_by) for each in touched] == [
        (shown, "", "")
    ]


def test_reads_without_a_name_and_reading_writes_count() -> None:
    lines = [
        kube_line(210, "list", name=""),
        kube_line(211, "watch", name="", namespace=""),
        kube_line(212, "patch"),
        kube_line(213, "list", name="", namespace="elsewhere"),
        kube_line(214, "update"),
        kube_line(215, "get", responseStatus={"code": 403}),
        # A deletion is answered with a Status, or with the object where it waits or would wait.
        kube_line(216, "delete", responseStatus={"code": 200, "status": "Success"}),
        kube_line(217, "delete"),
    ]
    assert [(each.action, each.reads) for each in entries([], lines)] == [
        ("list", True),
        ("watch", True),
        ("patch", True),
        ("update", False),
        ("get", False),
        ("delete", False),
        ("delete", True),
    ]


def test_an_exec_into_a_pod_that_read_it_is_on_the_timeline() -> None:
    inside = json.loads(kube_line(160, "create", "pods", "app-1"))
    inside["objectRef"]["subresource"] = "exec"
    other = json.loads(json.dumps(inside))
    other["objectRef"]["name"] = "other"
    found = entries([store_line(150)], [json.dumps(inside).encode(), json.dumps(other).encode()])
    assert [each.action for each in found] == ["read", "exec"]


def test_a_refusal_and_a_request_without_an_answer_are_told_apart() -> None:
    found = entries([
        store_line(1, error="permission denied"),
        store_line(2, kind="request"),
        store_line(3, kind="request"), store_line(3),
    ])  # fmt: skip
    assert [(each.outcome, each.reads, each.version) for each in found] == [
        ("refused", False, 0),
        ("no answer", False, 0),
        ("ok", True, 1),
    ]


def test_writes_and_the_other_paths_of_a_secret_are_there() -> None:
    found = entries([
        store_line(1, "create", response={"data": {"version": 3}}),
        store_line(2, "update", "secret/delete/prod/db", request={"id": "x", "operation": "update", "path": "secret/delete/prod/db", "data": {"versions": [1, 2]}}, response={}),
        store_line(3, "read", "secret/metadata/prod/db", response={"data": {"current_version": 3}}),
        store_line(4, "read", "secret/data/prod/db2"),
    ])  # fmt: skip
    assert [(each.action, each.version, each.reads) for each in found] == [
        ("create", 3, False),
        ("update (delete)", 2, False),
        ("read (metadata)", 0, False),
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"type":"response"}',
        b'{"time":"x","type":"response","request":{"operation":"read","path":"p"}}',
        store_line(1)[:-40],
    ],
)
def test_a_line_that_is_none_is_counted_not_fatal(line) -> None:
    assert parse_record(line) is None
    assert list(records_of(iter([line[:-1] + b"\n"]), "secret", "prod/db")) in ([None], [])


def test_what_stands_in_two_logs_is_one_touch() -> None:
    """Two devices of a store, and both stages of a watch."""
    store = [store_line(110, kind="request"), store_line(110), store_line(120)]
    watch = [
        kube_line(150, "watch", name="", stage=stage, auditID="a")
        for stage in ("RequestReceived", "ResponseStarted", "ResponseComplete")
    ]
    found = entries(store * 2, watch)
    assert [(each.time, each.action) for each in found] == [
        (110, "read"), (120, "read"), (150, "watch"),
    ]  # fmt: skip
    # Others of the same moment stay two, also under an id that the client gave both of them.
    others = [kube_line(150, name="", verb=verb, auditID="a") for verb in ("watch", "list")]
    assert len(entries((), others)) == 2
    assert len(entries((), [kube_line(150, auditID=each) for each in ("a", "b", "a")])) == 2


def test_a_line_of_the_cluster_that_is_none_is_counted(tmp_path) -> None:
    log = tmp_path / "kube.log"
    received = kube_line(109, stage="RequestReceived")
    log.write_bytes(received + kube_line(110) + kube_line(111)[:50] + b"\n" + kube_line(112))
    read = read_logs([], [log], REF)
    assert [each.time for each in read.events] == [110, 112]
    assert [(each.first, each.last, each.unreadable) for each in read.coverage] == [(109, 112, 1)]


def test_a_zipped_log_that_is_damaged_is_refused(tmp_path) -> None:
    whole = gzip.compress(b"".join(store_line(number) for number in range(999)))
    for damaged in (whole[:200], whole[:200] + b"\xff" * 99 + whole[299:], b"text"):
        (tmp_path / "a.gz").write_bytes(damaged)
        with pytest.raises(NotFound, match="not a whole gzip file"):
            list(lines_of([tmp_path / "a.gz"]))


def test_a_torn_line_is_told() -> None:
    torn = store_line(1)[:-30] + b"\n"
    assert next(iter(records_of(iter([torn, store_line(2)]), "secret", "prod/db"))) is None


def test_a_path_is_found_however_its_letters_are_written() -> None:
    """Vault and OpenBao write `&`, `<` and `>` as escapes, for Go's encoder does."""
    line = store_line(1, path="secret/data/r&d/<db>")
    by_go = line
    for letter in b"&<>":
        by_go = by_go.replace(bytes([letter]), b"\\u%04x" % letter)
    assert by_go != line
    found = [each and each.path for each in records_of(iter([line, by_go]), "secret", "r&d/<db>")]
    assert found == ["secret/data/r&d/<db>"] * 2


def test_lists_of_events_are_read_as_a_webhook_sends_them(tmp_path) -> None:
    """What could not be read before the first event is no beginning of the log."""
    lines = [kube_line(150), kube_line(160), kube_line(170)]
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    sent = {"kind": "EventList", "items": [json.loads(each) for each in lines]}
    (tmp_path / "b").write_text(
        json.dumps(sent) + "\n" + json.dumps({**sent, "items": ["secrets"]}) + "\n"
    )
    for name, first, events in (("a", 160, 2), ("b", 150, 3)):
        read = read_logs([], [tmp_path / name], REF)
        assert len(read.events) == events
        (covered,) = read.coverage
        assert (covered.first, covered.last, covered.unreadable) == (first, 170, 1)


async def test_the_secrets_made_of_a_path_are_those_that_name_it() -> None:
    api = FakeKubeApi(SimulatedClock())
    labels = {"reconcile.external-secrets.io/managed": "true"}
    for name, path in (("ours", "secret/data/größe"), ("other", "secret/data/größe/a")):
        said = {"strongroom.dev/source-versions": json.dumps({path: 3})}
        metadata = {"name": name, "namespace": "shop", "labels": labels, "annotations": said}
        await api.create(SECRETS, {"metadata": metadata})
    ref = SecretRef("secret", "größe")
    assert await secrets_made_of(api, ref) == ({("shop", "ours")}, [])
    # Of one that several are merged into, and of what is no Secret, their objects tell.
    for name, target in (
        ("a", {"name": "shared", "creationPolicy": "Merge"}),
        ("b", {"name": "map", "manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}),
    ):
        metadata = {"name": name, "namespace": "shop"}
        item = {"metadata": metadata, "spec": {"target": target}}
        status = {"sourceVersions": "secret/data/größe@3"}
        await api.create(EXTERNAL_SECRETS, {**item, "status": status})
    secrets, (said,) = await secrets_made_of(api, ref)
    assert secrets == {("shop", "ours"), ("shop", "shared")}
    assert said.startswith("ConfigMap shop/map is made of it as well")


def session(second: int, name="app", end: int = 0, stage="ResponseComplete", **changes) -> bytes:
    ref = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": name}
    event = {
        "stage": stage, "verb": "get", "user": {"username": "eve"}, "objectRef": ref,
        "responseStatus": {"code": 101}, "requestReceivedTimestamp": at(second),
        "stageTimestamp": at(end or second), "auditID": f"s{second}",
    }  # fmt: skip
    return json.dumps({**event, **changes}).encode() + b"\n"


APP = {"metadata": {
    "service_account_name": "app", "service_account_namespace": "shop", "pod_name": "app",
}}  # fmt: skip


@pytest.mark.parametrize(
    ("event", "held", "first"),
    [
        (session(150), [1], 150),
        (session(250), [2], 250),  # What the pod read last, and not what the store has.
        (session(205), [1], 205),
        (session(150, end=300), [1, 2], 150),
        (session(150, responseStatus={"code": 403}), [], 0),
        (session(150, name="other"), [], 0),
        (session(150, name="mounts"), [1], 150),
        (session(150, name="mounts", end=300), [1, 2], 150),
    ],
)
def test_who_went_into_a_pod_reads_what_it_held(event, held, first) -> None:
    def read(second: int, version: int) -> bytes:
        data = {"data": {"password": "hmac-sha256:x"}, "metadata": {"version": version}}
        return store_line(second, auth=APP, response={"data": data})

    records = [parse_record(read(110, 1)), parse_record(read(210, 2))]
    subject = Subject(REF, SUBJECT.secrets, SUBJECT.created, frozenset({("shop", "mounts")}))
    touched = timeline(subject, [each for each in records if each], [parse_line(event)])
    eves = {
        version: each.first
        for version in (1, 2)
        for each in readers(touched, version)
        if each.actor == "eve" and not each.certain
    }
    assert list(eves) == held
    assert not held or eves[held[0]] == first


def test_a_pod_that_never_got_the_value_shows_none() -> None:
    refused = store_line(110, auth=APP, error="permission denied", response={})
    touched = timeline(SUBJECT, [parse_record(refused)], [parse_line(session(150))])
    assert [each.action for each in touched][-1] == "exec"
    assert readers(touched, 1) == ()


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ({"error": "permission denied", "response": {}}, [2]),
        ({"response": {"data": {"data": {"a": "b"}, "metadata": {"version": 1}}}}, [1, 2]),
    ],
    ids=["never-got-it", "got-an-older-one"],
)
def test_a_pod_that_asked_the_store_shows_the_secret_that_it_mounts_too(asked, held) -> None:
    records = [parse_record(store_line(110, auth=APP, **asked))]
    subject = Subject(REF, SUBJECT.secrets, SUBJECT.created, frozenset({("shop", "app")}))
    touched = timeline(subject, records, [parse_line(session(250))])
    seen = [n for n in (1, 2) for each in readers(touched, n) if each.actor == "eve"]
    assert seen == held


def test_whom_somebody_impersonated_is_told_beside_him() -> None:
    """The rights were those of the other; two that he acted as are two ways."""
    line = json.loads(kube_line(150))
    as_other = {"impersonatedUser": {"username": "system:serviceaccount:shop:app"}}
    lines = [json.dumps({**line, **as_other, "auditID": "1"}).encode(), json.dumps(line).encode()]
    touched = timeline(SUBJECT, [], [parse_line(each) for each in lines])
    assert [each.as_data()["acting_as"] for each in touched] == [
        "system:serviceaccount:shop:app", ""
    ]  # fmt: skip
    assert len(readers(touched, 1)) == 2
    shown = timeline_sheet(REF, touched)
    assert [row[1] for row in shown.rows] == ["shop/debug as shop/app", "shop/debug"]
    did = readers_sheet(readers(touched, 1))
    assert [row[0] for row in did.rows] == ["shop/debug as shop/app", "shop/debug"]


async def test_the_pods_of_now_that_name_a_secret_are_known() -> None:
    api = FakeKubeApi(SimulatedClock())
    for name, secret in (("app", "db"), ("other", "x")):
        spec = {"volumes": [{"name": "v", "secret": {"secretName": secret}}]}
        await api.create(PODS, {"metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    secrets = frozenset({("shop", "db")})
    pods, blind = await pods_beside(api, secrets)
    assert (pods_that_name(pods, secrets), blind) == ({("shop", "app")}, [])


class Counting(FakeKubeApi):
    """The fake API server, and what was listed of it; pods of "closed" are for nobody."""

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self.listed: list[tuple[str, str]] = []

    async def list(self, resource, *args):
        self.listed += [(resource.plural, each.namespace) for each in args]
        if resource == PODS and args[0].namespace == "closed":
            raise Denied("kube-forbidden", "pods is forbidden")
        return await super().list(resource, *args)


async def test_the_pods_of_a_namespace_are_listed_once_and_a_refusal_is_said() -> None:
    api, secrets = Counting(SimulatedClock()), frozenset({("shop", "db"), ("closed", "db")})
    pods, (said,) = await pods_beside(api, secrets)
    await cluster_reach(api, secrets, pods)
    pods_that_name(pods, secrets)
    assert sorted(api.listed) == [("pods", "closed"), ("pods", "shop")]
    assert said.startswith("pods of closed, for who went into them")


class NotForAll(FakeKubeApi):
    """The fake API server for somebody who may read no ExternalSecrets, there or not."""

    async def list(self, resource, *args):
        if resource == EXTERNAL_SECRETS:
            raise Denied("kube-forbidden", "externalsecrets is forbidden")
        return await super().list(resource, *args)


async def test_who_may_not_read_external_secrets_is_told_where_there_are_any() -> None:
    api, ref = NotForAll(SimulatedClock()), SecretRef("secret", "db")
    labels = {"reconcile.external-secrets.io/managed": "true"}
    said = {"strongroom.dev/source-versions": '{"secret/data/db": 3}'}
    metadata = {"name": "db", "namespace": "shop", "labels": labels, "annotations": said}
    await api.create(SECRETS, {"metadata": metadata})
    # A cluster that does not know the kind refuses it all the same.
    assert await secrets_made_of(api, ref) == ({("shop", "db")}, [])
    assert await external_secrets(api) == ()
    await api.create(EXTERNAL_SECRETS, {"metadata": {"name": "db", "namespace": "shop"}})
    found, (line,) = await secrets_made_of(api, ref)
    assert found == {("shop", "db")}
    assert "could not be read: kube-forbidden" in line
    # Rotation goes by them, and ends nothing where it may not see.
    with pytest.raises(Denied):
        await external_secrets(api)


async def test_the_nodes_of_pods_that_name_a_secret_can_read_it() -> None:
    api = FakeKubeApi(SimulatedClock())
    spec = {"nodeName": "n1", "imagePullSecrets": [{"name": "db"}], "containers": []}
    await api.create(PODS, {"metadata": {"name": "app", "namespace": "shop"}, "spec": spec})
    secrets = frozenset({("shop", "db"), ("shop", "x")})
    pods, _ = await pods_beside(api, secrets)
    found, blind = await cluster_reach(api, secrets, pods)
    named = [(each.how, each.rule) for each in found if each.subject == "system:node:n1"]
    assert named == [
        ("get list watch (Secret shop/db)", "Node authorizer: pod shop/app names it")
    ]  # fmt: skip
    assert blind == []


def test_exposure_counts_one_actor_and_way_once() -> None:
    found = readers(
        entries(
            [store_line(110), store_line(120), store_line(130)], [kube_line(150), kube_line(250)]
        ),
        1,
    )
    assert [(each.actor, each.first, each.last, each.count, each.certain) for each in found] == [
        ("shop/app", 110, 130, 3, True),
        ("system:serviceaccount:shop:debug", 150, 150, 1, False),
    ]


@pytest.mark.parametrize("name", ["token", "token-ci", "root"])
def test_tokens_that_share_a_name_are_told_apart_by_their_accessors(name) -> None:
    def read(second: int, accessor: str) -> bytes:
        return store_line(second, auth={"display_name": name, "accessor": accessor})

    touched = entries([read(110, "hmac-sha256:a"), read(120, "B"), read(130, "hmac-sha256:a")], [])
    assert [(each.actor, each.accessor, each.count) for each in readers(touched, 1)] == [
        (name, "hmac-sha256:a", 2),
        (name, "B", 1),
    ]
    assert len(fold(touched)) == 3
    shown = timeline_sheet(REF, touched)
    assert [row[shown.columns.index("accessor")] for row in shown.rows] == ["a", "B", "a"]


def test_logins_of_one_identity_are_one_reader_and_roles_of_a_mount_are_several() -> None:
    def read(second: int, role: str) -> bytes:
        auth = {"display_name": "approle", "metadata": {"role_name": role}}
        return store_line(second, auth={**auth, "accessor": f"hmac-sha256:{second}"})

    touched = entries([read(110, "ci"), read(120, "report"), read(130, "ci")], [])
    assert [(each.actor, each.accessor, each.count) for each in readers(touched, 1)] == [
        ("approle (ci)", "", 2),
        ("approle (report)", "", 1),
    ]


def test_a_secret_that_was_not_written_since_a_version_was_made_holds_the_one_before() -> None:
    """Its sync may be late, or may never come, as under CreatedOnce."""
    lines = [
        kube_line(110, "create"),
        kube_line(190),
        kube_line(220),
        kube_line(221, "list", name=""),
        kube_line(230, "patch", responseStatus={"code": 403}),
        kube_line(240),
        kube_line(250, "patch"),
        kube_line(260),
    ]

    def read(version: int) -> list[tuple[str, float, float]]:
        return [(each.way[11:15], each.first, each.last) for each in readers(touched, version)]

    touched = entries([], lines)
    assert read(1) == [("get ", 190, 240), ("list", 221, 221)]
    assert read(2) == [("get ", 220, 260), ("list", 221, 221), ("patc", 250, 250)]


@pytest.mark.parametrize(
    ("began", "ended", "seen"),
    [
        (50, 90, []),  # before there was anything
        (50, 150, [(1, 100)]),
        (150, 190, [(1, 150)]),
        (150, 250, [(1, 150), (2, 200)]),
        (50, None, [(1, 100), (2, 200)]),  # it is still open, or nobody wrote down its end
        (250, None, [(2, 250)]),
    ],
)
def test_who_watches_reads_what_is_made_until_the_watch_ends(began, ended, seen) -> None:
    lines = [kube_line(began, "watch", name="", stage="ResponseStarted", auditID="a")]
    if ended:
        lines.append(kube_line(began, "watch", name="", auditID="a", stageTimestamp=at(ended)))
    touched = entries([], lines)
    assert len(touched) == bool(seen)
    found = [(version, readers(touched, version)) for version in (1, 2)]
    assert [(version, each.first) for version, read in found for each in read] == seen
    assert not any(each.certain for _, read in found for each in read)
    row = dict.fromkeys(str(version) for version, _ in seen)
    shown = timeline_sheet(REF, touched)
    assert [each[shown.columns.index("version")] for each in shown.rows] == (
        [f"~{'-'.join(row)}"] if seen else []
    )


def test_the_addresses_of_a_reader_are_shown_each_once_in_order() -> None:
    """Of the API server's log with the proxies on the way."""

    def read(second: int, address: str) -> bytes:
        request = {"id": f"r{second}", "operation": "read", "path": "secret/data/prod/db"}
        return store_line(second, request={**request, "remote_address": address})

    store = [read(110 + number, f"10.0.0.{9 - number % 5}") for number in range(10)]
    kube = [kube_line(150, sourceIPs=["203.0.113.9", "10.1.0.1"]), kube_line(151)]
    by_pod, by_account = readers(entries(store, kube), 1)
    assert by_pod.addresses == ("10.0.0.9", "10.0.0.8", "10.0.0.7", "10.0.0.6", "10.0.0.5")
    assert by_account.addresses == ("203.0.113.9 via 10.1.0.1",)
    sheet = readers_sheet([by_pod, by_account])
    place = sheet.columns.index("from")
    assert [row[place] for row in sheet.rows] == [
        "10.0.0.9, 10.0.0.8, 10.0.0.7 and 2 more",
        "203.0.113.9 via 10.1.0.1",
    ]
    touches = timeline_sheet(REF, entries(store[:5], kube))
    place = touches.columns.index("from")
    assert [row[place] for row in touches.rows][-3:] == [
        "10.0.0.5", "203.0.113.9 via 10.1.0.1", "",
    ]  # fmt: skip


@pytest.mark.parametrize("others", [0, 1])
def test_a_timeline_shows_accessors_where_a_name_is_that_of_several_tokens(others: int) -> None:
    lines = []
    for number in range(1 + others):
        auth = {"display_name": "token", "accessor": f"hmac-sha256:{number}abc"}
        request = {"id": f"r{number}", "operation": "read", "path": "secret/data/prod/db"}
        lines.append(store_line(110 + number, request=request, auth=auth))
    sheet = timeline_sheet(REF, entries(lines, []))
    place = sheet.columns.index("accessor")
    assert [row[place] for row in sheet.rows] == (["0abc", "1abc"] if others else [""])


def test_a_service_account_has_one_name_in_both_logs() -> None:
    assert service_account_of("system:serviceaccount:shop:app") == "shop/app"
    assert service_account_of("system:node:node1") == ""


def test_blind_spots_name_what_a_log_does_not_cover() -> None:
    window = Window(1, 100.0, None)
    logs = [
        LogCoverage("A", 150.0, 200.0, 2),
        LogCoverage("B", None, None, 0),
        LogCoverage("C", 50.0, 99.0, 0),
    ]
    said = "\n".join(blind_spots(window, logs, cluster=True, now=230.0))
    assert "A begins at" in said
    assert "A has 2 lines" in said
    assert "A ends" not in said
    assert "C ends at 1970-01-01T00:01:39" in said
    assert "B holds no record" in said
    assert "C begins" not in said
    assert "etcd" in said
    assert "no cluster was asked" in "\n".join(blind_spots(window, [], cluster=False, now=230.0))
    # Until the version ended, and not until now.
    ended = blind_spots(Window(1, 100.0, 210.0), logs, cluster=True, now=9000.0)
    assert not any(line.startswith("A ends") for line in ended)


@pytest.fixture
async def used(store, tmp_path):
    """A store in which prod/db was written and read, and its log in a file."""
    await store.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    await store.ask("POST", "secret/data/prod/db", {"data": {"password": "marked-1"}})
    reader = await store.token_with(
        'path "secret/data/prod/*" { capabilities = ["read"] }', display_name="reader"
    )
    await store.ask("GET", "secret/data/prod/db", token=reader)
    await store.clock.advance(60)
    await store.ask("POST", "secret/data/prod/db", {"data": {"password": "marked-2"}})
    await store.ask("GET", "secret/data/prod/db", token=reader)
    await store.ask("GET", "secret/data/prod/db", token="wrong")
    half = len(store.device.lines) // 2
    with gzip.open(tmp_path / "audit.log.1.gz", "wb") as old:
        old.write(b"\n".join(store.device.lines[:half]) + b"\n")
    (tmp_path / "audit.log").write_bytes(b"\n".join(store.device.lines[half:]) + b"\n")
    (tmp_path / "token").write_text(store.root)
    return store


async def run(*words: str) -> int:
    return await asyncio.to_thread(main, ["audit", *words])


def logs(folder) -> list[str]:
    return ["--store-log", str(folder / "audit.log.1.gz"), "--store-log", str(folder / "audit.log")]


async def test_the_timeline_of_a_real_log_offline(used, tmp_path, capsys) -> None:
    assert await run("timeline", "prod/db", "--offline", "--format", "json", *logs(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "marked" not in shown
    found = json.loads(shown)["entries"]
    assert [(each["action"], each["version"], each["outcome"]) for each in found] == [
        ("create", 1, "ok"),
        ("read", 1, "ok"),
        ("update", 2, "ok"),
        ("read", 2, "ok"),
        ("read", None, "refused"),
    ]
    assert found[1]["actor"] == "token-reader"
    assert {each["address"] for each in found} == {"127.0.0.1"}
    assert found[1]["keys"] == ["password"]
    assert await run("timeline", "prod/db", "--offline", *logs(tmp_path)) == 0
    assert "5 touches" in capsys.readouterr().out
    # A line that cannot be read may be a touch.
    with (tmp_path / "audit.log").open("ab") as log:
        log.write(b'{"torn')
    assert await run("timeline", "prod/db", "--offline", *logs(tmp_path)) == 0
    assert "the store's log has 1 line that could not be read" in capsys.readouterr().out
    assert await run("timeline", "prod/db", "--offline", "--format", "json", *logs(tmp_path)) == 0
    assert json.loads(capsys.readouterr().out)["unreadable_lines"] == {"the store's log": 1}


async def test_the_timeline_since_a_time(used, tmp_path, capsys) -> None:
    words = ("timeline", "prod/db", "--offline", *logs(tmp_path))
    assert await run(*words, "--format", "json") == 0
    every = json.loads(capsys.readouterr().out)["entries"]
    assert await run(*words, "--format", "json", "--since", every[2]["time"]) == 0
    # Whose token it was is still known, though it was given before.
    assert json.loads(capsys.readouterr().out)["entries"] == every[2:]
    assert await run(*words, "--since", "2099-01-01T00:00:00Z") == 0
    assert "no touch in these logs since 2099-01-01" in capsys.readouterr().out


def test_since_is_a_time_or_how_long_ago() -> None:
    now = parse_rfc3339("2026-11-27T12:00:00Z")
    assert since_of("", now) == 0
    assert since_of("90m", now) == now - 5400
    assert since_of("2d", now) == now - 2 * 86400
    assert since_of("2026-11-27T10:00:00+01:00", now) == now - 3 * 3600
    # Not a time to come, in which there is no touch.
    for text in ("-1h", "0", "0s"):
        with pytest.raises(Invalid, match="how long ago"):
            since_of(text, now)


async def test_the_timeline_of_a_secret_that_was_removed(used, tmp_path, capsys) -> None:
    where = ["--address", used.address, "--token-file", str(tmp_path / "token"), "--no-cluster"]
    await used.ask("DELETE", "secret/metadata/prod/db")
    assert await run("timeline", "prod/db", *where, *logs(tmp_path)) == 0
    assert "5 touches" in capsys.readouterr().out
    assert await run("exposure", "prod/db", *where, *logs(tmp_path)) == 2


async def test_exposure_of_a_real_store(used, tmp_path, capsys) -> None:
    where = ["--address", used.address, "--token-file", str(tmp_path / "token"), "--no-cluster"]
    assert (
        await run(
            "exposure", "prod/db", "--version", "1", "--format", "json", *where, *logs(tmp_path)
        )
        == 0
    )
    said = json.loads(capsys.readouterr().out)
    assert [(each["actor"], each["count"]) for each in said["did_read"]] == [("token-reader", 1)]
    assert said["did_read"][0]["addresses"] == ["127.0.0.1"]
    could = {each["subject"].split(" ")[0]: each["rule"] for each in said["could_read"]}
    assert could["root"] == "policy root"
    assert "secret/data/prod/*" in could["token-reader"]
    assert any("no cluster" in line for line in said["cannot_see"])
    # The version may stand at the path as well.
    assert await run("exposure", "prod/db@1", *where, *logs(tmp_path)) == 0
    assert "prod/db version 1:" in capsys.readouterr().out
    for words in (("prod/db@1", "--version", "2"), ("prod/db", "--version=-1"), ("prod/db@9",)):
        assert await run("exposure", *words, *where, *logs(tmp_path)) == 2
    assert await run("timeline", "prod/db@1", "--offline", *logs(tmp_path)) == 2
    assert "of all versions" in capsys.readouterr().err
    assert await run("exposure", "prod/db", *where, *logs(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "version 2" in shown
    assert "127.0.0.1" in shown
    assert "still readable" in shown


async def test_exposure_counts_what_entities_and_templates_allow(used, tmp_path, capsys) -> None:
    await used.ask("POST", "sys/auth/userpass", {"type": "userpass"})
    rules = {
        "team": 'path "secret/data/prod/*" { capabilities = ["read"] }',
        "own": 'path "secret/data/{{identity.entity.metadata.team}}/*" { capabilities = ["read"] }',
        "none": 'path "secret/data/other" { capabilities = ["read"] }',
    }
    for name, text in rules.items():
        await used.ask("PUT", f"sys/policies/acl/{name}", {"policy": text})
    people = {
        "anne": ("default", {"policies": ["team"]}),
        "bob": ("own", {"metadata": {"team": "prod"}}),
        "carol": ("own", {"metadata": {"team": "test"}}),
        "dave": ("none", {}),
    }
    for name, (policies, entity) in people.items():
        login = {"password": "marked"}
        await used.ask("POST", f"auth/userpass/users/{name}", {**login, "token_policies": policies})
        _, said = await used.ask("POST", f"auth/userpass/login/{name}", login)
        await used.ask("POST", f"identity/entity/id/{said['auth']['entity_id']}", entity)
    where = ["--address", used.address, "--token-file", str(tmp_path / "token"), "--no-cluster"]
    assert await run("exposure", "prod/db", "--format", "json", *where, *logs(tmp_path)) == 0
    said = json.loads(capsys.readouterr().out)
    could = {each["subject"].split(" ")[0]: each["rule"] for each in said["could_read"]}
    assert {name for name in could if name.startswith("userpass")} == {
        "userpass-anne", "userpass-bob",
    }  # fmt: skip
    assert could["userpass-anne"] == 'path "secret/data/prod/*" of team'
    assert "own" in could["userpass-bob"]
    assert any("entities and groups" in line for line in said["cannot_see"])


def test_the_components_of_kubernetes_are_one_row_until_all_are_asked_for() -> None:
    own = [
        Reach("ServiceAccount", f"kube-system/{name}", "get", f"ClusterRoleBinding system:{name}")
        for name in ("job-controller", "namespace-controller")
    ]
    # A name like theirs does not make a binding theirs.
    reach = [*own, Reach("User", "eve", "get", "ClusterRoleBinding system:eve -> ClusterRole r")]

    def who(table) -> list[str]:
        return [row[0] for row in table.rows]

    assert who(reach_sheet(reach, every=False)) == ["User eve", "2 of Kubernetes' own components"]
    assert len(who(reach_sheet(reach, every=True))) == 3


def test_ways_to_the_same_secret_name_it_once() -> None:
    ways = ("exec (Secret n/a)", "a pod (Secret n/a)", "exec (Secret n/b)", "read")
    (row,) = reach_sheet([Reach("User", "eve", way, "R") for way in ways], every=False).rows
    assert row == ("User eve", "exec; a pod (Secret n/a); exec (Secret n/b); read", "R")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["timeline", "prod/db", "--offline"], "no-log"),
        (["timeline", "prod/db", "--offline", "--store-log", "/absent"], "no-log"),
        (["timeline", "prod/db@x", "--offline", "--store-log", "/absent"], "bad-reference"),
        (
            ["timeline", "prod/db", "--offline", "--secret", "db", "--store-log", "/absent"],
            "bad-secret",
        ),
        (["timeline", "a", "--offline", "--since", "noon", "--store-log", "/absent"], "bad-since"),
        (["timeline", "a", "--offline", "--since", "2026-99", "--store-log", "x"], "bad-since"),
    ],
)
def test_a_bad_question_is_refused(words, code, capsys) -> None:
    assert main(["audit", *words]) == 2
    shown = capsys.readouterr().err
    assert f"[{code}]" in shown
    assert "hint:" in shown
