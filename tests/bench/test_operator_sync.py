"""What the operator's benchmark reads of logs, watches and processes, and what it reports."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from operator_lab import Mirror, Operated, Requests, changing, definitions, manifest, number_of
from operator_report import plots, ratio_of, table
from operator_steps import Found, spread
from operator_sync import OURS, arguments, name_of

from strongroom.kube.client import KubeClient
from strongroom.kube.config import KubeConfig
from strongroom.model.clock import SystemClock
from strongroom.sync.spec import parse_spec

ACCOUNT = "system:serviceaccount:bench-00:bench-operator"


def event(verb: str, resource: str, part: str = "", user: str = ACCOUNT) -> str:
    what = {"resource": resource} | ({"subresource": part} if part else {})
    return json.dumps({"verb": verb, "objectRef": what, "user": {"username": user}}) + "\n"


def test_the_operators_requests_are_counted_once(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    whole = event("create", "secrets") + event("patch", "externalsecrets", "status")
    torn = event("list", "secrets")
    log.write_text(whole + event("create", "secrets", user="admin") + torn[:20])
    requests = Requests(log)
    assert requests.counts() == {"create secrets": 1, "patch externalsecrets/status": 1}
    log.write_text(log.read_text() + torn[20:])
    assert requests.counts().total() == 3


def test_requests_that_change_nothing_of_an_object_are_told_apart() -> None:
    counts = Counter(
        {
            "create secrets": 3,
            "patch externalsecrets/status": 2,
            "update leases": 9,
            "get secrets": 7,
            "create tokenreviews": 5,
        }
    )
    assert changing(counts) == 5


def test_percentiles_are_in_milliseconds() -> None:
    found = spread("x", [each / 1000 for each in range(1, 101)])
    assert found == {"x p50, ms": 50.5, "x p95, ms": 96}


def test_objects_have_three_properties_and_can_be_served() -> None:
    spec = parse_spec(manifest(7, "10s"))
    assert [row.remote.property for row in spec.rows] == ["user", "password", "host"]
    assert {row.remote.key for row in spec.rows} == {"bench/00007"}


def test_processes_are_read_from_proc(tmp_path: Path) -> None:
    operated = Operated("true", tmp_path / "kubeconfig", tmp_path / "log")

    class Self:
        pid = os.getpid()

    operated.process = Self()  # type: ignore[assignment]
    assert operated.cpu > 0
    assert operated.peak > 1


def secret(number: int, value: str, version: int) -> dict[str, object]:
    metadata = {"name": f"es-{number:05}", "namespace": "bench-01", "resourceVersion": str(version)}
    return {"metadata": metadata, "password": value}


def looked_at(number: int, *true: str) -> dict[str, object]:
    return {**secret(number, "", 1), "true": set(true)}


async def test_an_object_is_right_with_value_and_condition() -> None:
    mirror = Mirror(KubeClient(KubeConfig("http://127.0.0.1:1"), SystemClock()))
    mirror._secret_seen(None, secret(1, "first-1", 5))
    assert not mirror.right_at
    mirror._object_seen(None, looked_at(1, "Ready"))
    mirror._object_seen(None, looked_at(2, "Ready"))
    mirror._secret_seen(None, secret(2, "other", 6))
    assert len(mirror.right_at) == 1


async def test_an_old_value_is_no_repair() -> None:
    mirror = Mirror(KubeClient(KubeConfig("http://127.0.0.1:1"), SystemClock()))
    mirror._secret_seen(None, secret(1, "first-1", 5))
    before = SystemClock().monotonic()
    await mirror.shows(1, "first-1", 5, 0.01)
    assert SystemClock().monotonic() - before >= 0.01
    assert await mirror.shows(1, "first-1", 4, 30) < before + 30


def test_only_numbered_names_are_objects() -> None:
    assert number_of({"metadata": {"name": "es-00012"}}) == 12
    assert number_of({"metadata": {"name": "bench-token"}}) is None


def test_definitions_come_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("---\nkind: CustomResourceDefinition\nmetadata: {name: a}\n")
    (tmp_path / "kustomization.yaml").write_text("resources: [a.yaml]\n")
    assert [each["metadata"]["name"] for each in definitions(tmp_path)] == ["a"]
    assert len(definitions(None)) > 5


def two() -> dict[str, Found]:
    ours = Found({"first sync, s": 5.0, "API writes per Secret": 0.0}, requests={"get x": 1.0})
    theirs = Found({"first sync, s": 20.0, "API writes per Secret": 4.0})
    for found in (ours, theirs):
        found.spread("new object", [0.01, 0.02, 0.03])
        found.progress = [(1.0, 10.0), (2.0, 20.0)]
    return {"strongroom": ours, "other": theirs}


def test_the_table_says_what_the_others_take_of_the_first() -> None:
    rows = {line.split("  ")[0]: line.split() for line in table(two()).splitlines()}
    assert rows["first sync, s"][-3:] == ["5.00", "20.00", "4.00"]
    assert rows["API writes per Secret"][-1] == "-"
    assert ratio_of(0.0, 4.0) is None


def test_plots_are_written_for_what_was_measured(tmp_path: Path) -> None:
    plots(two(), tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {
        "operator-first-sync.svg",
        "operator-new-object.svg",
        "operator-ratio-other.svg",
    }


@pytest.mark.parametrize(
    ("command", "name"),
    [(OURS, "strongroom"), ("/bin/external-secrets --concurrent=10", "external-secrets")],
)
def test_operators_are_named_by_their_program(command: str, name: str) -> None:
    assert name_of(command) == name


def test_several_operators_are_measured_in_one_run() -> None:
    args = arguments().parse_args(["--beside", "a", "--beside", "b --flag"])
    assert [args.operator, *args.beside] == [OURS, "a", "b --flag"]
