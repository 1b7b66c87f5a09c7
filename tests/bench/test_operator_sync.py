"""What the operator's benchmark reads of metrics and processes, and what it asks to be served."""

import os
from pathlib import Path

from operator_sync import CHANGING, NOT_OURS, WRITES, Operated, manifest, spread

from strongroom.sync.spec import parse_spec

PAGE = """
apiserver_request_total{code="201",component="apiserver",dry_run="",group="",\
resource="secrets",scope="resource",subresource="",verb="POST",version="v1"} 120
apiserver_request_total{code="200",component="apiserver",dry_run="",\
group="external-secrets.io",resource="externalsecrets",scope="resource",subresource="status",\
verb="PATCH",version="v1"} 1.5e+03
apiserver_request_total{code="200",component="apiserver",dry_run="",\
group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",\
version="v1"} 7
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",\
resource="secrets",scope="cluster",subresource="",verb="LIST",version="v1"} 9
"""


def test_requests_are_counted_by_what_they_change() -> None:
    found = [
        (resource, float(count))
        for resource, verb, count in WRITES.findall(PAGE)
        if verb in CHANGING and resource not in NOT_OURS
    ]
    assert found == [("secrets", 120), ("externalsecrets", 1500)]


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
