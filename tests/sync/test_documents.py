"""Documents, dashboard and alert rules name what there is, all of it where they promise to."""

import json
import re
from pathlib import Path

import pytest
import yaml

from strongroom.sync.metrics import FAMILIES
from strongroom.sync.reasons import REASONS

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path.read_text() for path in sorted((ROOT / "src/strongroom/sync").rglob("*.py"))]
METRIC = re.compile(
    r"\b((?:externalsecret|pushsecret|secretstore|clustersecretstore"
    r"|clusterexternalsecret|clusterpushsecret|strongroom_sync)_\w+)"
)


def families(expression: str) -> set[str]:
    """The families that a query uses; a histogram's parts count as it."""
    return {
        re.sub(r"_(bucket|sum|count)$", "", each) if each not in FAMILIES else each
        for each in METRIC.findall(expression)
    }


def test_the_page_has_every_reason_with_its_meaning() -> None:
    page = (ROOT / "docs/sync.md").read_text()
    for each in REASONS:
        assert f"| `{each.word}` | {each.where} | {each.meaning} | {each.remedy} |" in page


def test_the_page_has_every_metric() -> None:
    page = (ROOT / "docs/sync.md").read_text()
    for name, (kind, said) in FAMILIES.items():
        assert f"| `{name}` | {kind} | {said} |" in page


def test_every_reason_in_the_table_is_written_somewhere() -> None:
    code = "\n".join(each for each in SOURCES if "REASONS: Final" not in each)
    # Some are made: manifests' words from the Secret's, two from what was done.
    made = {"ResourceSynced", "ResourceSyncedError", "ResourceDeleted", "ResourceMissing"}
    for each in REASONS:
        if each.word in made or each.word in ("Created", "Updated"):
            continue
        assert f'"{each.word}"' in code, each.word


def test_the_dashboard_and_the_rules_ask_for_metrics_that_exist() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana/strongroom-sync.json").read_text())
    asked = {
        family
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for family in families(target["expr"])
    }
    assert asked == set(FAMILIES)
    rules = yaml.safe_load((ROOT / "deploy/prometheus/strongroom-sync-rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert families(rule["expr"])
            assert families(rule["expr"]) <= set(FAMILIES), rule["alert"]
            assert rule["annotations"]["summary"]
            assert rule["annotations"]["description"]


def test_an_operator_that_is_gone_or_has_no_cluster_stores_is_seen() -> None:
    """In PromQL a sum of nothing is nothing, and so is whatever is added to it."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/strongroom-sync-rules.yaml").read_text())
    by_name = {rule["alert"]: rule["expr"] for each in rules["groups"] for rule in each["rules"]}
    assert "absent(strongroom_sync_leader)" in by_name["StrongroomSyncNoLeader"]
    dashboard = json.loads((ROOT / "deploy/grafana/strongroom-sync.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert ") + sum" not in target["expr"], panel["title"]


@pytest.mark.parametrize("name", ["sync", "store", "kms"])
def test_panels_do_not_overlap_and_have_numbers_of_their_own(name: str) -> None:
    panels = json.loads((ROOT / f"deploy/grafana/strongroom-{name}.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
