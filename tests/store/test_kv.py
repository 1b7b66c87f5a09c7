"""KV v1 and v2 as clients see them: envelopes, errors and warnings, and what goes beyond Vault."""

import asyncio
from email.utils import parsedate_to_datetime

import pytest
import requests

from strongroom.model.errors import Invalid
from strongroom.store.call import parse_seconds
from strongroom.store.engine.contract import EventRow
from strongroom.store.feed import as_cloud_event, event_type
from strongroom.store.secrets.cubbyhole import MAX_ENTRIES


async def write(store, path: str, **data) -> dict:
    status, said = await store.ask("PUT", f"secret/data/{path}", {"data": data})
    assert status == 200
    return said["data"]


async def test_a_deleted_version_is_a_404_with_the_whole_envelope(store) -> None:
    await write(store, "a", k="v")
    await store.ask("DELETE", "secret/data/a")
    status, said = await store.ask("GET", "secret/data/a")
    assert status == 404
    assert said["data"]["data"] is None
    assert said["data"]["metadata"]["deletion_time"]
    assert set(said) >= {"request_id", "lease_id", "renewable", "lease_duration", "wrap_info"}
    assert await store.ask("GET", "secret/data/nothing") == (404, {"errors": []})
    assert await store.ask("LIST", "secret/metadata/nothing") == (404, {"errors": []})
    merge = {"Content_Type": "application/merge-patch+json"}
    status, said = await store.ask("PATCH", "secret/data/a", {"data": {"x": 1}}, **merge)
    assert (status, said["data"]["version"]) == (404, 1)
    assert (await store.ask("PATCH", "secret/data/b", {"data": {"x": 1}}, **merge))[0] == 404


async def test_patch_merges_and_checks_the_version(store) -> None:
    await write(store, "a", keep=1, drop=2, deep={"x": 1, "y": 2})
    merge = {"Content_Type": "application/merge-patch+json"}
    body = {"data": {"drop": None, "deep": {"y": 3}}, "options": {"cas": 1}}
    assert (await store.ask("PATCH", "secret/data/a", body, **merge))[0] == 200
    _, said = await store.ask("GET", "secret/data/a")
    assert said["data"]["data"] == {"keep": 1, "deep": {"x": 1, "y": 3}}
    status, said = await store.ask("PATCH", "secret/data/a", body, **merge)
    assert status == 400
    assert "check-and-set parameter did not match the current version" in said["errors"][0]
    assert (await store.ask("PATCH", "secret/data/a", body))[0] == 415
    assert (await store.ask("PATCH", "secret/data/a", {}, **merge))[1]["errors"] == [
        "no data provided"
    ]


@pytest.mark.parametrize(
    ("query", "subkeys"),
    [
        ("", {"a": None, "b": {"c": None, "d": {"e": None}}, "f": None, "g": None}),
        ("?depth=1", {"a": None, "b": None, "f": None, "g": None}),
        ("?depth=2", {"a": None, "b": {"c": None, "d": None}, "f": None, "g": None}),
    ],
)
async def test_subkeys_hide_every_leaf(store, query, subkeys) -> None:
    await write(store, "s", a=1, b={"c": [1, {"x": 2}], "d": {"e": "z"}}, f=[], g={})
    _, said = await store.ask("GET", f"secret/subkeys/s{query}")
    assert said["data"]["subkeys"] == subkeys
    assert said["data"]["metadata"]["version"] == 1


@pytest.mark.parametrize(
    ("custom", "words"),
    [
        ({f"k{n}": "v" for n in range(65)}, "payload must contain at most 64 keys, provided 65"),
        ({"k" * 129: "v"}, "but must be 0 < len(key) <= 128"),
        ({"k": "v" * 513}, "but must be 0 < len(value) <= 512"),
        ({"": "v"}, "must be 0 < len(key) <= 128"),
        ({"k": ""}, "must be 0 < len(value) <= 512"),
        ({"k": "a\u0007b"}, "contains unprintable characters"),
        ({"k": {"nested": "v"}}, "expected type 'string'"),
    ],
)
async def test_custom_metadata_has_limits(store, custom, words) -> None:
    status, said = await store.ask("PUT", "secret/metadata/a", {"custom_metadata": custom})
    assert status == 400
    assert said["errors"][0].startswith("custom_metadata validation failed")
    assert words in said["errors"][0]
    assert (await store.ask("GET", "secret/metadata/a"))[0] == 404


async def test_custom_metadata_is_replaced_by_a_write_and_merged_by_a_patch(store) -> None:
    put = {"custom_metadata": {"a": "1", "b": 2, "c": True}}
    assert (await store.ask("PUT", "secret/metadata/x", put))[0] == 204
    merge = {"Content_Type": "application/merge-patch+json"}
    change = {"custom_metadata": {"a": None, "d": "4"}, "max_versions": 3}
    assert (await store.ask("PATCH", "secret/metadata/x", change, **merge))[0] == 204
    _, said = await store.ask("GET", "secret/metadata/x")
    assert said["data"]["custom_metadata"] == {"b": "2", "c": "1", "d": "4"}
    assert said["data"]["max_versions"] == 3
    assert (await store.ask("PATCH", "secret/metadata/y", change, **merge))[0] == 404
    await store.ask("PUT", "secret/config", {"cas_required": True})
    status, said = await store.ask("PUT", "secret/metadata/x", {"cas_required": False})
    assert status == 200
    assert "mandated by backend config" in said["warnings"][0]


@pytest.mark.parametrize(
    ("name", "given", "nothing"),
    [
        ("max_versions", 3, 0),
        ("cas_required", True, False),
        ("delete_version_after", "1h0m0s", "0s"),
        ("custom_metadata", {"a": "b"}, None),
    ],
)
async def test_null_in_a_patch_of_metadata_takes_a_setting_away(
    store, name, given, nothing
) -> None:
    """Two were refused, and two answered 204 and stayed."""
    await store.ask("POST", "secret/metadata/x", {name: given, "custom_metadata": {"a": "b"}})
    _, said = await store.ask("GET", "secret/metadata/x")
    assert said["data"][name] == given
    merge = {"Content_Type": "application/merge-patch+json"}
    assert (await store.ask("PATCH", "secret/metadata/x", {name: None}, **merge))[0] == 204
    _, said = await store.ask("GET", "secret/metadata/x")
    assert said["data"][name] == nothing
    if name != "custom_metadata":
        assert said["data"]["custom_metadata"] == {"a": "b"}


@pytest.mark.long
async def test_a_full_cubbyhole_takes_new_values_of_what_it_has(store) -> None:
    paths = [f"cubbyhole/{number}" for number in range(MAX_ENTRIES)]
    for start in range(0, MAX_ENTRIES, 10):
        await asyncio.gather(
            *(store.ask("POST", path, {"k": "v"}) for path in paths[start : start + 10])
        )
    assert (await store.ask("POST", "cubbyhole/more", {"k": "v"}))[0] == 400
    assert (await store.ask("POST", paths[0], {"k": "w"}))[0] == 204
    assert (await store.ask("GET", paths[0]))[1]["data"] == {"k": "w"}


async def test_versions_delete_themselves_at_the_shorter_of_two_times(store) -> None:
    await store.ask("PUT", "secret/config", {"delete_version_after": "1h"})
    await store.ask("PUT", "secret/metadata/a", {"delete_version_after": "10s"})
    await write(store, "a", k=1)
    await write(store, "b", k=1)
    store.clock.step_wall(11)
    assert (await store.ask("GET", "secret/data/a"))[0] == 404
    assert (await store.ask("GET", "secret/data/b"))[0] == 200
    await store.ask("PUT", "secret/undelete/a", {"versions": [1]})
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    store.clock.step_wall(11)
    assert (await store.ask("GET", "secret/data/a"))[0] == 404
    await store.ask("PUT", "secret/config", {"delete_version_after": "-1s"})
    await write(store, "a", k=1)
    store.clock.step_wall(4000)
    assert (await store.ask("GET", "secret/data/a"))[0] == 200
    _, said = await store.ask("GET", "secret/config")
    assert said["data"]["delete_version_after"] == "-1s"
    status, _ = await store.ask("PUT", "secret/metadata/a", {"delete_version_after": "-1s"})
    assert status == 400


async def test_an_answer_says_which_engine_gave_it_for_vault_proxy_to_keep(store) -> None:
    """Without it, its cache of static secrets kept nothing."""
    await write(store, "a", k="v")
    for _ in range(2):  # The second is an answer that was kept.
        _, said = await store.ask("GET", "secret/data/a")
        assert said["mount_type"] == "kv"
    headers = {"X-Vault-Token": store.root}
    reply = await store.run(requests.get, f"{store.address}/v1/secret/data/a", headers=headers)
    # Vault Proxy and Agent fail at what they have kept when it has none.
    assert parsedate_to_datetime(reply.headers["Date"]).tzinfo is not None
    _, said = await store.ask("GET", "sys/mounts")
    assert said["mount_type"] == "system"
    _, said = await store.ask("POST", "auth/token/create", {})
    assert said["mount_type"] == "token"
    _, said = await store.ask("GET", "secret/data/a", X_Vault_Wrap_TTL="60s")
    assert said["mount_type"] == ""
    _, said = await store.ask("POST", "sys/wrapping/unwrap", {"token": said["wrap_info"]["token"]})
    assert said["mount_type"] == "kv"


async def test_versions_of_nothing_are_changed_without_a_word(store) -> None:
    for verb in ("delete", "undelete", "destroy"):
        assert (await store.ask("PUT", f"secret/{verb}/none", {"versions": [1]}))[0] == 204
        assert await store.ask("PUT", f"secret/{verb}/none", {}) == (
            400,
            {"errors": ["No version number provided"]},
        )


async def test_only_versions_that_change_are_told_of(store) -> None:
    """A number that no version has was told of as destroyed, and one named twice was twice."""
    for _ in range(2):
        await write(store, "a", k="v")
    before = await store.read(lambda view: view.last_event())
    await store.ask("PUT", "secret/destroy/a", {"versions": [1, 1, 99]})
    await store.ask("PUT", "secret/delete/a", {"versions": [1, 2]})
    told = await store.read(lambda view: view.events_after(before, 10))
    assert [(each.operation, each.versions) for each in told] == [
        ("destroy", (1,)), ("delete", (2,)),
    ]  # fmt: skip


async def test_changed_versions_are_told_as_vault_proxy_reads_them(store) -> None:
    """It kept a destroyed version in its cache: it knows these types, paths and lists alone."""
    for _ in range(3):
        await write(store, "data/a", k="v")
    before = await store.read(lambda view: view.last_event())
    for verb, versions in (("delete", [1, 2]), ("undelete", [2]), ("destroy", [1])):
        await store.ask("PUT", f"secret/{verb}/data/a", {"versions": versions})
    await store.ask("DELETE", "secret/data/data/a")
    events = await store.read(lambda view: view.events_after(before, 10))
    told = [as_cloud_event(each)["data"]["event"]["metadata"] for each in events]  # type: ignore[index]
    always = {"current_version": "3", "data_path": "secret/data/data/a", "modified": "true"}
    assert told == [
        always | {"operation": name, "path": f"secret/{name}/data/a", f"{name}{end}": versions}
        for name, end, versions in (
            ("delete", "d_versions", "[1,2]"),
            ("undelete", "d_versions", "[2]"),
            ("destroy", "ed_versions", "[1]"),
        )
    ] + [always | {"operation": "data-delete", "path": "secret/data/data/a"}]
    assert list(map(event_type, events)) == [
        "kv-v2/delete", "kv-v2/undelete", "kv-v2/destroy", "kv-v2/data-delete",
    ]  # fmt: skip


def test_what_an_earlier_program_wrote_of_a_version_is_told_in_the_same_form() -> None:
    row = EventRow(1, 0.0, "secret/data/a", "destroy", 2, "secret/")
    metadata = as_cloud_event(row)["data"]["event"]["metadata"]  # type: ignore[index]
    assert event_type(row) == "kv-v2/destroy"
    assert (metadata["path"], metadata["destroyed_versions"]) == ("secret/destroy/a", "[2]")


async def test_a_path_of_version_one_is_answered_with_the_way_out(store) -> None:
    for method, path, words in (
        ("GET", "secret/app", "vault kv get"),
        ("PUT", "secret/app", "vault kv put"),
        ("LIST", "secret/app", "secret/metadata/app"),
        ("GET", "secret/data", "Non-listing operations"),
    ):
        status, said = await store.ask(method, path, {} if method == "PUT" else None)
        assert status == 404
        assert words in said["warnings"][0]


# listing beyond Vault


async def test_pages_details_and_the_whole_tree(store) -> None:
    paths = ["a", "b", "b/c", "b/d/e", "f/g"]
    for path in paths:
        await write(store, path, k=1)
    _, said = await store.ask("SCAN", "secret/metadata")
    assert sorted(said["data"]["keys"]) == paths
    _, said = await store.ask("GET", "secret/metadata/b?scan=true")
    assert sorted(said["data"]["keys"]) == ["c", "d/e"]
    seen: list[str] = []
    while True:
        _, said = await store.ask(
            "SCAN", f"secret/metadata?limit=2&after={seen[-1] if seen else ''}"
        )
        seen += said["data"]["keys"]
        if not said["warnings"]:
            break
    assert sorted(seen) == paths
    _, said = await store.ask("LIST", "secret/detailed-metadata/")
    assert sorted(said["data"]["keys"]) == ["a", "b", "b/", "f/"]
    assert said["data"]["key_info"]["a"]["current_version"] == 1
    assert set(said["data"]["key_info"]) == {"a", "b"}
    _, said = await store.ask("SCAN", "secret/detailed-metadata/b?limit=1")
    (first,) = said["data"]["keys"]
    assert first in ("c", "d/e")
    assert said["data"]["key_info"][first]["current_version"] == 1
    assert said["warnings"] == [f"there are more; go on with after={first}"]
    assert (await store.ask("LIST", "secret/metadata?scan=true"))[0] == 400
    assert (await store.ask("LIST", "secret/metadata?limit=-1"))[0] == 400


async def test_null_is_a_version_with_nothing_as_vaults_go_client_writes_it(store) -> None:
    """`KVv2("secret").Put(ctx, "a", nil)`; a body without the field is still a mistake."""
    status, said = await store.ask("PUT", "secret/data/a", {"data": None})
    assert (status, said["data"]["version"]) == (200, 1)
    status, said = await store.ask("GET", "secret/data/a")
    assert (status, said["data"]["data"]) == (200, {})
    assert (await store.ask("PUT", "secret/data/a", {}))[0] == 400
    assert (await store.ask("PUT", "secret/data/a", {"data": [1]}))[0] == 400


async def test_scan_needs_a_capability_of_its_own(store) -> None:
    await write(store, "app/x", k=1)
    policy = 'path "secret/metadata/*" { capabilities = ["list", "read"] }'
    token = await store.token_with(policy)
    assert (await store.ask("SCAN", "secret/metadata/app", token=token))[0] == 403
    assert (await store.ask("GET", "secret/metadata/app?scan=true", token=token))[0] == 403
    assert (await store.ask("SCAN", "secret/detailed-metadata/app", token=token))[0] == 403
    token = await store.token_with(policy.replace('"list"', '"scan"'))
    assert (await store.ask("SCAN", "secret/metadata/app", token=token))[0] == 200
    assert (await store.ask("LIST", "secret/metadata/app", token=token))[0] == 403


# copy, move, difference


async def test_copy_writes_the_next_version_of_the_destination(store) -> None:
    await store.ask("PUT", "secret/metadata/a", {"custom_metadata": {"owner": "x"}})
    await write(store, "a", k=1)
    await write(store, "a", k=2)
    body = {"destination": "b/c", "options": {"cas": 0}}
    status, said = await store.ask("PUT", "secret/copy/a", body)
    assert (status, said["data"]["version"]) == (200, 1)
    assert said["data"]["custom_metadata"] == {"owner": "x"}
    assert (await store.ask("PUT", "secret/copy/a", body))[0] == 400
    again = {"destination": "b/c", "version": 1, "options": {"cas": 1}}
    assert (await store.ask("PUT", "secret/copy/a", again))[1]["data"]["version"] == 2
    assert (await store.ask("GET", "secret/data/b/c"))[1]["data"]["data"] == {"k": 1}
    for bad in ("", "../x", "a", "a/../b"):
        assert (await store.ask("PUT", "secret/copy/a", {"destination": bad}))[0] == 400


async def test_move_keeps_every_version_and_refuses_what_is_taken(store) -> None:
    await write(store, "a", k=1)
    await write(store, "a", k=2)
    await write(store, "taken", k=9)
    assert (await store.ask("PUT", "secret/move/a", {"destination": "taken"}))[0] == 400
    stale = {"destination": "z", "options": {"cas": 1}}
    assert (await store.ask("PUT", "secret/move/a", stale))[0] == 400
    fresh = {"destination": "z", "options": {"cas": 2}}
    assert (await store.ask("PUT", "secret/move/a", fresh))[0] == 200
    assert (await store.ask("GET", "secret/data/z?version=1"))[1]["data"]["data"] == {"k": 1}
    assert (await store.ask("GET", "secret/data/a")) == (404, {"errors": []})


async def test_copy_and_move_need_what_doing_it_by_hand_needs(store) -> None:
    await write(store, "from/a", k=1)
    grant = 'path "secret/copy/*" { capabilities = ["update"] } path "secret/move/*" { capabilities = ["update"] }'
    read = ' path "secret/data/from/*" { capabilities = ["read"] }'
    create = ' path "secret/data/to/*" { capabilities = ["create"] }'
    delete = ' path "secret/metadata/from/*" { capabilities = ["delete"] }'
    body = {"destination": "to/a"}
    for policy in (grant, grant + read, grant + create):
        token = await store.token_with(policy)
        assert (await store.ask("PUT", "secret/copy/from/a", body, token=token))[0] == 403
    token = await store.token_with(grant + read + create)
    assert (await store.ask("PUT", "secret/copy/from/a", body, token=token))[0] == 200
    # It is there now, and this caller may not update.
    assert (await store.ask("PUT", "secret/copy/from/a", body, token=token))[0] == 403
    body = {"destination": "to/b"}
    assert (await store.ask("PUT", "secret/move/from/a", body, token=token))[0] == 403
    token = await store.token_with(grant + read + create + delete)
    assert (await store.ask("PUT", "secret/move/from/a", body, token=token))[0] == 200


@pytest.mark.parametrize(
    ("source", "target", "body", "status"),
    [
        ("", "", {}, 200),
        ("min_wrapping_ttl = 60", "", {}, 403),
        ('allowed_parameters = { "version" = ["2"] }', "", {"version": 1}, 403),
        ('allowed_parameters = { "version" = ["2"] }', "", {"version": 2}, 200),
        ('required_parameters = ["version"]', "", {}, 403),
        ("", 'required_parameters = ["options"]', {}, 403),
        ("", 'required_parameters = ["options"]', {"options": {"cas": 0}}, 200),
    ],
)
async def test_a_copy_is_bound_by_what_policies_say_of_parameters_and_wrapping(
    store, source: str, target: str, body: dict, status: int
) -> None:
    for value in (1, 2):
        await write(store, "from", k=value)
    token = await store.token_with(
        'path "secret/copy/*" { capabilities = ["update"] }\n'
        f'path "secret/data/from" {{ capabilities = ["read"]\n{source} }}\n'
        f'path "secret/data/to" {{ capabilities = ["create"]\n{target} }}'
    )
    asked = {"destination": "to", **body}
    assert (await store.ask("PUT", "secret/copy/from", asked, token=token))[0] == status


@pytest.mark.parametrize(
    ("source", "target", "status"),
    [
        ("", "", 200),
        ('denied_parameters = { "version" = ["1"] }', "", 403),
        ("", 'required_parameters = ["options"]', 403),
        ("", 'required_parameters = ["data"]', 200),
    ],
)
async def test_a_move_is_bound_by_what_policies_say_of_each_version(
    store, source: str, target: str, status: int
) -> None:
    """What nobody may read of one secret was read where it had been moved to."""
    for value in (1, 2):
        await write(store, "from", k=value)
    token = await store.token_with(
        'path "secret/move/*" { capabilities = ["update"] }\n'
        'path "secret/metadata/from" { capabilities = ["delete"] }\n'
        f'path "secret/data/from" {{ capabilities = ["read"]\n{source} }}\n'
        f'path "secret/data/to" {{ capabilities = ["create"]\n{target} }}'
    )
    asked = {"destination": "to"}
    assert (await store.ask("PUT", "secret/move/from", asked, token=token))[0] == status
    assert (await store.ask("GET", "secret/data/from"))[0] == (404 if status == 200 else 200)


async def test_what_has_to_be_wrapped_is_not_moved_to_where_it_has_not(store) -> None:
    await write(store, "from", k=1)
    token = await store.token_with(
        'path "secret/*" { capabilities = ["create", "read", "update", "delete"] }\n'
        'path "secret/data/from" { capabilities = ["read"]\nmin_wrapping_ttl = 60 }'
    )
    body = {"destination": "to"}
    assert (await store.ask("PUT", "secret/move/from", body, token=token))[0] == 403


async def test_a_refused_copy_names_the_other_path_and_not_whether_it_is_there(store) -> None:
    await write(store, "from", k=1)
    await write(store, "taken", k=1)
    both = ("copy", "move")
    policy = "".join(f'path "secret/{verb}/*" {{ capabilities = ["update"] }} ' for verb in both)
    token = await store.token_with(policy)
    for verb in both:
        status, said = await store.ask(
            "PUT", f"secret/{verb}/from", {"destination": "taken"}, token=token
        )
        assert status == 403
        assert said["errors"] == ["permission denied; this needs read on secret/data/from too"]
    token = await store.token_with(policy + 'path "secret/data/from" { capabilities = ["read"] }')
    for name in ("taken", "free"):
        _, said = await store.ask("PUT", "secret/copy/from", {"destination": name}, token=token)
        needed = f"create, or update if it is there, on secret/data/{name} too"
        assert said["errors"] == [f"permission denied; this needs {needed}"]
    _, said = await store.ask("PUT", "secret/move/from", {"destination": "free"}, token=token)
    assert said["errors"] == ["permission denied; this needs delete on secret/metadata/from too"]


async def test_a_difference_names_keys_and_shows_no_value(store) -> None:
    await write(store, "a", same="s", changed="before", gone=1, deep={"x~/": 1})
    await write(store, "a", same="s", changed="after", new=1, deep={"x~/": 2})
    _, said = await store.ask("GET", "secret/diff/a?from=1&to=2")
    data = said["data"]
    assert data["unchanged"] == ["/same"]
    assert list(data["added"]) == ["/new"]
    assert list(data["removed"]) == ["/gone"]
    assert list(data["changed"]) == ["/changed", "/deep/x~0~1"]
    assert "before" not in str(said)
    assert "after" not in str(said)
    _, newest = await store.ask("GET", "secret/diff/a")
    assert newest["data"]["changed"] == data["changed"]


# version 1


async def test_version_one_keeps_one_value_and_says_how_long_it_holds(store) -> None:
    await store.ask("POST", "sys/mounts/old", {"type": "kv", "config": {"default_lease_ttl": "2h"}})
    assert await store.ask("POST", "old/a/b", {}) == (400, {"errors": ["missing data fields"]})
    assert (await store.ask("POST", "old/a/b", {"k": "v"}))[0] == 204
    _, said = await store.ask("GET", "old/a/b")
    assert (said["data"], said["lease_duration"], said["lease_id"]) == ({"k": "v"}, 7200, "")
    await store.ask("POST", "old/a/b", {"k": "w", "ttl": "30m"})
    _, said = await store.ask("GET", "old/a/b")
    assert (said["data"]["k"], said["lease_duration"]) == ("w", 1800)
    assert (await store.ask("LIST", "old/"))[1]["data"]["keys"] == ["a/"]
    assert (await store.ask("DELETE", "old/a/b"))[0] == 204
    assert await store.ask("GET", "old/a/b") == (404, {"errors": []})
    assert await store.ask("LIST", "old") == (404, {"errors": []})


async def test_version_one_says_how_long_its_ttl_is(store) -> None:
    """consul-template reads anew when it has passed, and waits a month where it is not understood."""
    await store.ask("POST", "sys/mounts/old", {"type": "kv-v1"})
    for given, shown in (("100ms", 0), ("1h30m", 5400), ("2d", 172800), (7, 7), ("odd", 2764800)):
        await store.ask("POST", "old/a", {"ttl": given})
        assert (await store.ask("GET", "old/a"))[1]["lease_duration"] == shown


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90), ("1.5h", 5400), ("1h0m1s", 3601), ("-1s", -1), ("100ms", 1), ("0.2", 1), (2.9, 2)],
)
def test_durations_are_written_as_in_go(given, seconds) -> None:
    assert parse_seconds(given) == seconds


@pytest.mark.parametrize(
    "given",
    [
        "1h30",
        "h",
        "1w",
        "--1s",
        "1 h",
        "9" * 400,
        "9" * 12,
        10**400,
        1e300,
        "1" * 9_999_999 + "x",
        [],
    ],
)
def test_what_is_no_duration_is_refused(given) -> None:
    with pytest.raises(Invalid):
        parse_seconds(given)


async def test_the_first_name_of_version_one_is_known(store) -> None:
    assert (await store.ask("POST", "sys/mounts/first", {"type": "generic"}))[0] == 204
    _, said = await store.ask("GET", "sys/mounts/first")
    assert (said["type"], said["options"]) == ("kv", {"version": "1"})
    assert (await store.ask("POST", "sys/auth/first", {"type": "generic"}))[0] == 400


async def test_a_mount_without_a_version_shows_none_and_is_of_the_first(store) -> None:
    """Terraform's `vault_mount` of type kv plans to take away what was not asked for."""
    for given in ({}, {"options": {}}, {"options": None}):
        await store.ask("POST", "sys/mounts/plain", {"type": "kv", **given})
        _, said = await store.ask("GET", "sys/mounts/plain")
        assert not said["data"]["options"]
        await store.ask("POST", "plain/a", {"k": "v"})
        assert (await store.ask("POST", "sys/mounts/plain/tune", {"options": {}}))[0] == 204
        assert (await store.ask("GET", "plain/a"))[1]["data"] == {"k": "v"}
        assert (await store.ask("POST", "sys/mounts/plain/tune", {"options": {"version": "2"}}))[
            0
        ] == 200
        assert (await store.ask("GET", "plain/data/a"))[1]["data"]["data"] == {"k": "v"}
        assert (await store.ask("DELETE", "sys/mounts/plain"))[0] == 204


async def test_version_one_turns_into_version_two_and_never_back(store) -> None:
    await store.ask("POST", "sys/mounts/old", {"type": "kv-v1"})
    await store.ask("POST", "old/a", {"k": "v"})
    assert (await store.ask("POST", "sys/mounts/old/tune", {"options": {"version": "2"}}))[0] == 200
    _, said = await store.ask("GET", "old/data/a")
    assert said["data"]["data"] == {"k": "v"}
    status, said = await store.ask("POST", "sys/mounts/old/tune", {"options": {"version": "1"}})
    assert (status, said["errors"]) == (400, ["cannot downgrade mount from version 2"])


async def test_creating_and_updating_are_different_capabilities_in_version_one(store) -> None:
    await store.ask("POST", "sys/mounts/old", {"type": "kv-v1"})
    token = await store.token_with('path "old/*" { capabilities = ["create"] }')
    assert (await store.ask("POST", "old/a", {"k": "v"}, token=token))[0] == 204
    assert (await store.ask("POST", "old/a", {"k": "v"}, token=token))[0] == 403


@pytest.mark.parametrize("word", [True, "true", "T", "1", 1])
async def test_a_setting_of_a_secret_is_true_in_each_of_gos_spellings(store, word) -> None:
    assert (await store.ask("POST", "secret/metadata/a", {"cas_required": word}))[0] == 204
    assert (await store.ask("GET", "secret/metadata/a"))[1]["data"]["cas_required"] is True


async def test_a_copy_onto_what_is_deleted_meanwhile_needs_to_create(store) -> None:
    """`update` alone made a secret of the name anew, which a write cannot."""
    await write(store, "from", k="v")
    paths = {"secret/copy/from": "update", "secret/data/from": "read", "secret/data/to": "update"}
    rules = [f'path "{path}" {{ capabilities = ["{word}"] }}' for path, word in paths.items()]
    token = await store.token_with(" ".join(rules))
    body = {"destination": "to"}
    for _ in range(10):
        await write(store, "to", k="old")
        _, answer = await asyncio.gather(
            store.ask("DELETE", "secret/metadata/to"),
            store.ask("PUT", "secret/copy/from", body, token=token),
        )
        assert answer[0] == 403 or answer[1]["data"]["version"] == 2
