"""What the store's benchmark makes of what it has measured."""

import json
from pathlib import Path

import pytest
from store_http import SCENARIOS, arguments, plot, summary, table
from store_lab import Store, policy, spread
from store_mixed import SHARES, Load, requests_of

from strongroom.access.policy import parse_policy


def row(rate: float) -> dict:
    return {"rate": rate, "p50_ms": 1.0, "p75_ms": 2.0, "p90_ms": 3.0, "p99_ms": rate / 1000}


ROUNDS = [
    {"nginx": row(1000), "reads": row(500), "tls_reads": row(300), "writes": row(100)},
    {"nginx": row(2000), "reads": row(900), "tls_reads": row(500), "writes": row(180)},
    {"nginx": row(100), "reads": row(90), "tls_reads": row(60), "writes": row(20)},
]


def test_ratios_are_taken_within_a_round_and_the_median_is_shown() -> None:
    found = summary(ROUNDS)
    assert found["reads"]["ratio"] == 0.5
    assert found["writes"]["ratio"] == 0.1
    assert found["reads"]["rate"] == 500
    assert "ratio" not in found["nginx"]


def test_the_table_has_a_line_for_each_kind_and_each_figure() -> None:
    said = table("load", {**summary(ROUNDS), "idle_mb": [50.0], "busy_mb": [55.0]})
    assert "writes" in said
    assert "0.1000" in said
    said = table("restart", {"leases": 7, "with": {"p50_ms": 1.5}})
    assert [line.split() for line in said.splitlines()] == [
        ["restart:"], ["leases", "7"], ["with", "p50_ms", "1.5"]
    ]  # fmt: skip


def test_the_plots_show_what_was_measured(tmp_path: Path) -> None:
    kinds = {kind: spread([1.0, 2.0]) for kind in SHARES}
    plot({"load": summary(ROUNDS), "mixed": {"kinds": kinds}}, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["store-latency.svg", "store-mixed.svg", "store-throughput.svg"]
    assert "TLS reads" in (tmp_path / "store-throughput.svg").read_text()


def test_scenarios_are_chosen_by_name() -> None:
    assert arguments(["--only", "mixed,ends"]).only == ["mixed", "ends"]
    assert SCENARIOS[0] == "load"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "mixed,nothing"], "no scenario 'nothing'; scenarios are load, mixed"),
        (["--only", "ends,ends"], "named twice"),
        (["--seconds", "0"], "0 is less than 1"),
        (["--rounds", "three"], "invalid whole number value: 'three'"),
        (["--folder", "/no/such"], "'/no/such' is no folder"),
        (["--only", "list", "--entries", "100"], "more than a page of 100"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
    assert said in capsys.readouterr().err


def test_the_policy_has_as_many_rules_as_it_says_and_allows_what_is_asked() -> None:
    assert len(parse_policy("bench", policy()).rules) == 44


def test_a_spread_is_median_99th_and_most() -> None:
    assert spread([float(n) for n in range(1, 101)]) == {
        "p50_ms": 50.5, "p99_ms": 100.0, "most_ms": 100.0
    }  # fmt: skip


def test_requests_are_whole_and_their_length_is_right(tmp_path: Path) -> None:
    store = Store(tmp_path, 1, token="t", address="http://127.0.0.1:1")
    requests = requests_of(store, {"role_id": "r"})
    assert set(requests) == set(SHARES)
    head, _, body = requests["login"][0].partition(b"\r\n\r\n")
    assert head.endswith(b"Content-Length: %d" % len(body))
    assert json.loads(body) == {"role_id": "r"}
    load = Load(store, requests, SHARES)
    load.done_at = [1.0, 1.5, 4.0]
    assert load.found(3)["longest_gap_ms"] == 2500
