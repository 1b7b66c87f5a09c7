"""The wanted Secret, what differs in the one that is, whose it is, and when a fight is one."""

import pytest

from strongroom.model.clock import rfc3339
from strongroom.model.errors import Conflict
from strongroom.sync.desired import (
    CREATED_BY,
    DATA_HASH,
    MANAGED,
    Wanted,
    build,
    check_changeable,
    compare,
    created_by,
    data_hash,
    field_manager,
    new_secret,
    owner_reference,
    repair,
    shown_versions,
    synced_version,
)
from strongroom.sync.drift import Contest, actor, check_consent, describe, opponent_of, truce_left
from strongroom.sync.render import Rendered
from strongroom.sync.spec import Spec, parse_spec
from strongroom.sync.target import in_order, place_at

ROW = {"secretKey": "k", "remoteRef": {"key": "prod/db", "property": "p"}}
MANAGER = "externalsecrets.external-secrets.io/db"


def external(**target) -> dict:
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {
            "name": "db",
            "namespace": "n",
            "uid": "u1",
            "generation": 1,
            "labels": {"team": "x"},
        },
        "spec": {"secretStoreRef": {"name": "s"}, "data": [ROW], "target": target},
    }


def wanted(item: dict | None = None, versions: dict | None = None, **data: bytes) -> Wanted:
    item = item or external()
    made = Rendered(data=data or {"k": b"v"}, labels={"team": "x"})
    return build(item, parse_spec(item), made, versions or {}, hashed=True)


def stored(secret: dict, manager: str = MANAGER) -> dict:
    """The Secret as a server has it once the manager has written it."""
    fields = {"f:data": {f"f:{key}": {} for key in secret["data"]}}
    fields["f:metadata"] = {"f:labels": {f"f:{key}": {} for key in secret["metadata"]["labels"]}}
    entry = {"manager": manager, "operation": "Update", "fieldsV1": fields}
    metadata = {**secret["metadata"], "resourceVersion": "7", "uid": "s", "managedFields": [entry]}
    return {**secret, "metadata": metadata}


def test_hashes_are_the_ones_the_other_controller_makes() -> None:
    # The expected value of TestObjectHash, "map also works", in external-secrets' utils_test.go.
    known = "1bed8bcbcb4547ffe19a19cd47d9078e84aa6598266d86b99f992d64"
    assert data_hash({"foo": b"value1", "bar": b"value2"}) == known
    assert len(data_hash({})) == 56
    assert data_hash({"a": b"\x01", "b": b""}) != data_hash({"a": b"", "b": b"\x01"})
    item = external()
    generation, _, digest = synced_version(item).partition("-")
    assert (generation, len(digest)) == ("1", 56)
    item["metadata"]["annotations"] = {"force-sync": "1"}
    assert synced_version(item) != f"1-{digest}"


def test_the_secret_carries_owner_labels_versions_and_hash() -> None:
    made = new_secret(wanted(versions={"secret/data/prod/db": 3}))
    metadata = made["metadata"]
    assert metadata["ownerReferences"][0]["uid"] == "u1"
    assert metadata["ownerReferences"][0]["controller"] is True
    assert metadata["labels"] == {"team": "x", MANAGED: "true", CREATED_BY: created_by("n", "db")}
    assert metadata["annotations"] == {
        "strongroom.dev/source-versions": '{"secret/data/prod/db": 3}',
        DATA_HASH: data_hash({"k": b"v"}),
    }
    assert (made["type"], made["data"]) == ("Opaque", {"k": "dg=="})


def test_a_column_names_three_secrets_and_counts_the_others() -> None:
    many = {f"s{number}": number for number in range(5)}
    made = wanted(versions=many)
    assert shown_versions(made.annotations) == "s0@0, s1@1, s2@2, 2 more"
    assert shown_versions(wanted(versions={"prod/db": "AWSCURRENT"}).annotations) == (
        "prod/db@AWSCURRENT"
    )
    for text in ("[]", "{", "7"):
        assert shown_versions({"strongroom.dev/source-versions": text}) == ""
    assert shown_versions({}) == ""


def test_only_an_owner_leaves_an_owner_reference() -> None:
    for policy, owned in (("Owner", True), ("Orphan", False), ("Merge", False)):
        made = new_secret(wanted(external(creationPolicy=policy)))
        assert ("ownerReferences" in made["metadata"]) is owned
        assert (CREATED_BY in made["metadata"]["labels"]) is owned


def test_long_names_have_a_hashed_manager() -> None:
    assert field_manager("db") == MANAGER
    assert len(field_manager("x" * 60)) == 56


def test_differences_name_keys_and_no_values() -> None:
    want = wanted(k=b"v", l=b"w")
    assert compare(None, want).missing
    current = stored(new_secret(want))
    assert not compare(current, want).any
    current["data"] = {"k": "bWFya2Vk", "extra": "eA=="}
    found = compare(current, want)
    assert (found.changed, found.removed, found.added) == (("k",), ("l",), ("extra",))
    assert "marked" not in describe(found, "db")
    patch = repair(current, want, found)
    assert patch["data"] == {"k": "dg==", "l": "dw==", "extra": None}
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["metadata"]["annotations"][DATA_HASH] == data_hash({"k": b"v", "l": b"w"})


def test_in_a_shared_secret_only_keys_written_before_are_taken_back() -> None:
    item = external(creationPolicy="Merge")
    current = stored(new_secret(wanted(item, old=b"1", k=b"v")))
    current["data"]["theirs"] = "eA=="
    found = compare(current, wanted(item))
    assert found.added == ("old",)
    assert data_hash({"k": b"v", "theirs": b"x"}) in str(repair(current, wanted(item), found))


def test_what_another_controller_left_out_is_no_reason_to_write() -> None:
    current = stored(new_secret(wanted()))
    current["metadata"]["annotations"] = {}
    assert not compare(current, wanted(versions={"p": 1})).any
    current["metadata"]["annotations"] = {DATA_HASH: data_hash({"k": b"v"}), "theirs": "x"}
    current["metadata"]["labels"]["theirs"] = "x"
    assert not compare(current, wanted(versions={"p": 1})).any


def test_labels_and_owner_that_are_wrong_are_written() -> None:
    current = stored(new_secret(wanted()))
    current["metadata"]["labels"] = {"old": "x", MANAGED: "true"}
    current["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"]["f:old"] = {}
    del current["metadata"]["ownerReferences"]
    found = compare(current, wanted())
    assert set(found.labels) == {"team", CREATED_BY, "old"}
    assert found.shape == ("ownerReferences",)
    patch = repair(current, wanted(), found)
    assert patch["metadata"]["labels"]["old"] is None
    assert patch["metadata"]["ownerReferences"][0]["uid"] == "u1"
    assert "data" not in patch


def test_an_immutable_secret_and_a_type_are_never_changed() -> None:
    item = external(immutable=True)
    current = stored({**new_secret(wanted(item)), "immutable": True})
    assert not compare(current, wanted(item)).any
    changed = wanted(item, k=b"new")
    with pytest.raises(Conflict) as error:
        check_changeable(current, changed, compare(current, changed))
    assert error.value.code == "immutable"
    typed = external(template={"type": "example.com/t"})
    made = build(
        typed, parse_spec(typed), Rendered({"k": b"v"}, type="example.com/t"), {}, hashed=True
    )
    with pytest.raises(Conflict) as error:
        check_changeable(current, made, compare(current, made))
    assert error.value.code == "type-immutable"


def spec_of(item: dict) -> Spec:
    return parse_spec(item)


def test_an_owner_of_the_same_name_and_another_kind_is_another() -> None:
    item = external()
    owner = {**owner_reference(item), "uid": "another", "controller": True, "kind": "SealedSecret"}
    current = {"metadata": {"name": "db", "ownerReferences": [owner]}}
    with pytest.raises(Conflict) as error:
        check_consent(item, spec_of(item), current)
    assert error.value.code == "not-ours"


def test_nothing_is_taken_over_without_consent() -> None:
    item = external()
    bare = {"metadata": {"name": "db"}}
    check_consent(item, spec_of(item), None)
    for policy in ("Owner", "Orphan"):
        taking = external(creationPolicy=policy)
        with pytest.raises(Conflict):
            check_consent(taking, spec_of(taking), bare)
    for policy in ("Merge", "CreateOrMerge"):
        merging = external(creationPolicy=policy)
        check_consent(merging, spec_of(merging), bare)
    adopting = external()
    adopting["metadata"]["annotations"] = {"strongroom.dev/adopt": "true"}
    check_consent(adopting, spec_of(adopting), bare)
    others = {
        "metadata": {
            "ownerReferences": [{"controller": True, "uid": "other", "kind": "X", "name": "y"}]
        }
    }
    for refused in (others, {"metadata": {"labels": {CREATED_BY: created_by("n", "another")}}}):
        with pytest.raises(Conflict):
            check_consent(item, spec_of(item), refused)
    written = {"metadata": {"managedFields": [{"manager": MANAGER, "operation": "Update"}]}}
    check_consent(item, spec_of(item), written)
    # Nor does who has merged into another's Secret get it by asking for it whole.
    theirs = {"labels": {CREATED_BY: created_by("n", "another")}, **written["metadata"]}
    with pytest.raises(Conflict):
        check_consent(item, spec_of(item), {"metadata": theirs})
    # Who is named as an owner and controls nothing has no more say than before.
    mentioned = [{"uid": "other", "kind": "X", "name": "y"}]
    check_consent(
        item, spec_of(item), {"metadata": written["metadata"] | {"ownerReferences": mentioned}}
    )


def test_the_actor_is_the_newest_manager_of_data_that_is_not_us() -> None:
    def entry(manager: str, time: str, field: str = "f:data") -> dict:
        return {"manager": manager, "operation": "Update", "time": time, "fieldsV1": {field: {}}}

    entries = [
        entry("us", "3"),
        entry("kubectl-edit", "2"),
        entry("old", "1"),
        entry("x", "9", "f:metadata"),
    ]
    who = actor({"metadata": {"managedFields": entries}}, "us")
    assert who == "kubectl-edit (Update at 2)"
    assert opponent_of(who) == "kubectl-edit"
    assert actor({"metadata": {}}, "us") == ""


def test_five_repairs_in_a_minute_are_a_fight_and_five_in_an_hour_are_not() -> None:
    calm, heated = Contest(), Contest()
    assert not any(calm.repaired(now * 600.0) for now in range(6))
    assert [heated.repaired(now * 2.0) for now in range(5)] == [False] * 4 + [True]
    assert heated.truce(10.0) > 500
    assert heated.truce(8.0 + 601) == 0


def test_a_truce_is_over_after_its_time_however_the_clock_was_set() -> None:
    since = rfc3339(1000.0)
    assert [truce_left(since, now) for now in (1000, 1500, 1600, 9999)] == [600, 100, 0, 0]
    assert truce_left(since, 400.0) == 600  # set back by ten minutes
    assert truce_left(None, 0.0) == truce_left("soon", 0.0) == 0


def test_metadata_alone_shows_that_a_secret_is_right() -> None:
    current = stored(new_secret(wanted()))
    assert in_order(current, wanted())
    assert not in_order(current, wanted(k=b"new"))
    touched = stored(new_secret(wanted()), "kubectl-edit")
    assert not in_order(touched, wanted())


def test_values_are_placed_at_paths_of_a_manifest() -> None:
    item: dict = {"metadata": {}}
    place_at(item, "spec.users[1].name", "ann")
    place_at(item, "spec.users[0].name", "bob")
    assert item["spec"] == {"users": [{"name": "bob"}, {"name": "ann"}]}
    for path in (
        "metadata.name",
        "spec.users[x]",
        "spec.users[²]",
        "spec.users[1000]",
        "spec.users.name",
        "",
        "spec[0]",
    ):
        with pytest.raises(Exception, match="bad-template-target"):
            place_at(item, path, "x")
