"""Pages of a feed's history, and what happens to one without an end."""

import math

import pytest

from strongroom.sync.providers.vault_feed import MOST_PATHS, Past, changed_path


def page(first: int, count: int, **said: object) -> dict[str, object]:
    changes = [
        {
            "path": f"secret/data/{number}", "event_type": "kv-v2/data-write",
            "version": 1, "mount_path": "secret/",
        }
        for number in range(first, first + count)
    ]  # fmt: skip
    return {"whole": True, "changes": changes, **said}


def test_pages_add_up_and_the_newest_version_counts() -> None:
    past = Past()
    past.add(page(0, 2))
    newer = page(1, 1)
    newer["changes"][0]["version"] = 7  # type: ignore[index]
    past.add(newer)
    assert past == Past({"secret/data/0": 1, "secret/data/1": 7})


def test_one_page_that_is_not_whole_or_tells_of_a_restore_counts_for_all() -> None:
    past = Past()
    past.add(page(0, 1, whole=False, restored="1970-01-01T00:00:20Z"))
    past.add(page(1, 1, restored="1970-01-01T00:00:10.5Z"))
    past.add(page(2, 1))
    assert (past.whole, past.unsure_before) == (False, 20)


def test_a_history_without_an_end_is_not_kept_and_has_everything_compared() -> None:
    past, size = Past(), 20_000
    for number in range(MOST_PATHS // size):
        past.add(page(number * size, size))
    assert len(past.versions) == MOST_PATHS
    assert past.unsure_before == 0
    past.add(page(MOST_PATHS, 1))
    for again in range(3):
        past.add(page(again, 1))
        assert past == Past({}, whole=False, unsure_before=math.inf)


@pytest.mark.parametrize("folder", ["delete", "undelete", "destroy", "metadata"])
def test_an_event_of_vaults_that_names_no_data_path_is_of_the_values_all_the_same(
    folder: str,
) -> None:
    kind = f"kv-v2/{folder}" if folder != "metadata" else "kv-v2/metadata-delete"
    path = f"kv/{folder}/kv/{folder}/a"
    event = {"event": {"metadata": {"path": path}}, "plugin_info": {"mount_path": "kv/"}}
    assert changed_path({"data": event}, kind) == f"kv/data/kv/{folder}/a"
    event["event"]["metadata"]["data_path"] = f"kv/data/kv/{folder}/a"
    assert changed_path({"data": event}, kind) == f"kv/data/kv/{folder}/a"
