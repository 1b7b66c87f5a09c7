"""A container's share of the machine says how many workers there are."""

import os
from pathlib import Path

import pytest

from strongroom.app.commands.server import default_workers
from strongroom.app.processors import at_most, usable


@pytest.mark.parametrize(
    ("processors", "quotas", "left"),
    [
        (8, [], 8),
        (8, ["max 100000\n"], 8),
        (8, ["100000 100000\n"], 1),
        (8, ["150000 100000\n", "max 100000\n"], 2),
        (8, ["400000 100000", "250000 100000"], 3),
        (2, ["400000 100000"], 2),
        (8, ["10000 100000"], 1),
        (8, ["no number", "", "100000 0", "1"], 8),
        (0, [], 1),
    ],
)
def test_a_quota_leaves_some_of_the_processors(
    processors: int, quotas: list[str], left: int
) -> None:
    assert at_most(processors, quotas) == left


def test_the_quota_of_a_group_and_of_those_around_it_count(tmp_path: Path) -> None:
    inner = tmp_path / "groups/kubepods/pod"
    inner.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/other\n0::/kubepods/pod\n")
    machine = len(os.sched_getaffinity(0))
    assert usable(tmp_path / "groups", own) == machine
    (inner / "cpu.max").write_text("max 100000\n")
    (inner.parent / "cpu.max").write_text("50000 100000\n")
    assert usable(tmp_path / "groups", own) == 1
    # Above the groups is nothing of theirs.
    (inner.parent / "cpu.max").unlink()
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert usable(tmp_path / "groups", own) == machine


def test_without_groups_the_affinity_alone_counts(tmp_path: Path) -> None:
    assert usable(tmp_path, tmp_path / "missing") == len(os.sched_getaffinity(0))


def test_a_server_has_no_more_workers_than_processors_that_it_may_use() -> None:
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        assert default_workers() == 1
    finally:
        os.sched_setaffinity(0, own)
    assert default_workers() == min(usable(), 4)
