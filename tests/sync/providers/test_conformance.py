"""What every provider owes sync: one suite for each fake and each real service."""

import asyncio
import json
import re

import pytest

from strongroom.model.errors import Conflict, Denied, Invalid, NotFound
from strongroom.model.secret import Secret
from strongroom.sync.providers.contract import (
    BEGINNING,
    Change,
    Fetched,
    Find,
    History,
    PushTarget,
)
from strongroom.sync.spec import RemoteRef
from strongroom.sync.values import extract, pick

CHEAP = [
    "fake",
    "vault",
    "vault_v1",
    "vault_fake",
    "vault_fake_v1",
    "gcp",
    "gcp_regional",
    "azure",
    "kubernetes",
]
MOTO = ["aws_secrets_manager", "aws_parameter_store"]
PROCESS = ["vault_process", "vault_process_v1"]
REAL = [pytest.param(each, marks=pytest.mark.component) for each in (*MOTO, *PROCESS)]
REAL.append(pytest.param("kubernetes_real", marks=pytest.mark.cluster))


@pytest.fixture(params=[*CHEAP, *REAL])
def given(request: pytest.FixtureRequest):
    return request.getfixturevalue(f"{request.param}_given")


def without(given, lack: str) -> None:
    if lack in given.lacks:
        pytest.skip(f"has no {lack}")


def whole(found: Fetched) -> dict[str, bytes]:
    return extract(found.data, RemoteRef("any"))


async def test_the_newest_and_an_older_version_are_read(given) -> None:
    await given.provider.validate()
    key = given.key("prod/db")
    await given.put(key, {"password": "one"}, None)
    first = await given.provider.fetch(RemoteRef(key))
    await given.put(key, {"password": "two", "user": "u"}, None)
    newest = await given.provider.fetch(RemoteRef(key))
    assert whole(newest) == {"password": b"two", "user": b"u"}
    assert pick(newest.data, RemoteRef(key, "user")) == b"u"
    assert newest.path == first.path
    assert "two" not in repr(newest)
    without(given, "versions")
    assert newest.version != first.version
    older = await given.provider.fetch(RemoteRef(key, version=given.version(first)))
    assert (older.version, whole(older)) == (first.version, {"password": b"one"})


async def test_bytes_that_are_no_text_come_through(given) -> None:
    without(given, "binary")
    key = given.key("prod/key")
    await given.put(key, b"\x00\xff\xfe", None)
    assert (
        pick((await given.provider.fetch(RemoteRef(key))).data, RemoteRef(key)) == b"\x00\xff\xfe"
    )


@pytest.mark.parametrize(("name", "version"), [("prod/absent", ""), ("prod/db", "77")])
async def test_what_is_not_there_is_not_found(given, name: str, version: str) -> None:
    if version:
        without(given, "versions")
    key = given.key(name)
    await given.put(given.key("prod/db"), {"password": "one"}, None)
    with pytest.raises(NotFound) as caught:
        await given.provider.fetch(RemoteRef(key, version=given.absent_version(version)))
    assert key in caught.value.message


async def test_who_is_shut_out_hears_a_refusal(given) -> None:
    key = given.key("prod/db")
    await given.put(key, {"password": "marked-value"}, None)
    await given.shut_out()
    with pytest.raises(Denied) as caught:
        await given.provider.fetch(RemoteRef(key))
    assert "marked-value" not in str(caught.value)
    with pytest.raises(Denied):
        await given.provider.validate()


async def test_many_are_read_together_and_one_that_is_missing_spoils_none(given) -> None:
    names = [given.key(f"many/{number:02}") for number in range(23)]
    for name in names:
        await given.put(name, {"n": name}, None)
    refs = [RemoteRef(name) for name in [*names, given.key("many/absent")]]
    *found, missing = await given.provider.fetch_many(refs)
    assert [whole(each)["n"].decode() for each in found] == names
    assert isinstance(missing, NotFound)


async def test_secrets_are_found_by_path_and_name(given) -> None:
    for name in ("app/db", "app/deep/db", "app/cache", "other/db", "my-app/db"):
        await given.put(given.key(name), {"v": name}, None)
    db = re.compile("db$").search
    found = await given.provider.find(Find(matches=db))
    every = ("app/db", "app/deep/db", "other/db", "my-app/db")
    assert set(found) == {given.key(name) for name in every}
    assert whole(found[given.key("app/deep/db")]) == {"v": b"app/deep/db"}
    assert await given.provider.find(Find(matches=re.compile("zebra").search)) == {}
    without(given, "paths")
    found = await given.provider.find(Find(given.key("app"), db))
    assert set(found) == {given.key("app/db"), given.key("app/deep/db")}


async def test_secrets_are_found_by_tags_and_tags_are_read(given) -> None:
    without(given, "tags")
    both, one = given.key("tagged/both"), given.key("tagged/one")
    await given.put(both, {"v": "1"}, {"team": "blue", "env": "prod"})
    await given.put(one, {"v": "2"}, {"team": "blue"})
    await given.put(given.key("tagged/none"), {"v": "3"}, None)
    assert set(await given.provider.find(Find(tags={"team": "blue"}))) == {both, one}
    wanted = Find(tags={"team": "blue", "env": "prod"})
    assert set(await given.provider.find(wanted)) == {both}
    tags = (await given.provider.fetch(RemoteRef(both, metadata=True))).data
    assert pick(tags, RemoteRef(both, given.tag("env"))) == b"prod"


async def test_a_push_writes_once_and_what_it_wrote_can_be_taken_back(given) -> None:
    without(given, "push")
    target = PushTarget(given.key("pushed/db"))
    assert not await given.provider.exists(target)
    value = Secret(json.dumps({"password": "one"}))
    first = await given.provider.push(target, value)
    assert first.changed
    assert whole(await given.provider.fetch(RemoteRef(target.key))) == {"password": b"one"}
    again = await given.provider.push(target, value)
    assert (again.changed, again.version) == (False, first.version)
    assert await given.provider.exists(target)
    await given.provider.push(target, Secret(json.dumps({"password": "two"})))
    assert whole(await given.provider.fetch(RemoteRef(target.key))) == {"password": b"two"}
    await given.provider.delete(target)
    await given.provider.delete(target)
    assert not await given.provider.exists(target)


async def test_a_pushed_property_leaves_the_others(given) -> None:
    without(given, "properties")
    user, password = (PushTarget(given.key("pushed/p"), name) for name in ("user", "password"))
    await given.provider.push(user, Secret("app"))
    await given.provider.push(password, Secret("one"))
    assert whole(await given.provider.fetch(RemoteRef(user.key))) == {
        "user": b"app",
        "password": b"one",
    }
    assert not (await given.provider.push(password, Secret("one"))).changed
    assert await given.provider.exists(user)
    await given.provider.delete(user)
    assert not await given.provider.exists(user)
    assert whole(await given.provider.fetch(RemoteRef(user.key))) == {"password": b"one"}
    await given.provider.delete(password)
    assert not await given.provider.exists(PushTarget(user.key))


async def test_what_somebody_else_made_is_never_overwritten_or_deleted(given) -> None:
    without(given, "owners")
    key = given.key("mine/db")
    await given.put(key, {"password": "mine"}, None)
    for target in (PushTarget(key), PushTarget(key, "password")):
        with pytest.raises(Conflict) as caught:
            await given.provider.push(target, Secret('{"password": "marked-value"}'))
        assert "marked-value" not in str(caught.value)
        await given.provider.delete(target)
    assert whole(await given.provider.fetch(RemoteRef(key))) == {"password": b"mine"}


async def test_the_feed_names_what_changed_by_the_path_of_a_read(given) -> None:
    if "feed" in given.lacks:
        assert [each async for each in given.provider.changes()] == []
        return
    key = given.key("prod/db")
    await given.put(key, {"password": "one"}, None)
    path = (await given.provider.fetch(RemoteRef(key))).path
    changes = given.provider.changes()
    following = asyncio.ensure_future(anext(changes))
    while not following.done():
        # The subscription is open at some turn; a change after it must come.
        await given.put(key, {"password": "again"}, None)
        await asyncio.wait([following], timeout=0.05)
    change = await following
    assert isinstance(change, Change)
    assert change.path == path
    await changes.aclose()


async def test_a_feed_begins_with_what_changed_since_a_position_and_goes_on(given) -> None:
    if "feed" in given.lacks:
        return
    one, two = given.key("prod/one"), given.key("prod/two")
    for key in (one, two, two):
        await given.put(key, {"password": "x"}, None)
    read = {each: await given.provider.fetch(RemoteRef(each)) for each in (one, two)}
    changes = given.provider.changes(BEGINNING)
    past = await anext(changes)
    assert isinstance(past, History)
    assert past.whole
    # A service without versions tells that it changed.
    wanted = {each.path: each.version or "" for each in read.values()}
    assert {path: past.versions[path] for path in wanted} == wanted
    await given.put(one, {"password": "y"}, None)
    change = await anext(changes)
    assert isinstance(change, Change)
    assert change.path == read[one].path
    await changes.aclose()
    changes = given.provider.changes(past.position)
    again = await anext(changes)
    assert isinstance(again, History)
    assert (again.whole, list(again.versions)) == (True, [read[one].path])
    assert again.position == change.position
    await changes.aclose()
    # A position of another store's feed is none of this one.
    changes = given.provider.changes("99999")
    other = await anext(changes)
    assert isinstance(other, History)
    assert not other.whole
    await changes.aclose()


async def test_a_value_that_is_no_object_is_refused_with_what_to_do(given) -> None:
    """Vault and Kubernetes keep named values; the others keep the value as it is."""
    try:
        await given.provider.push(PushTarget(given.key("plain")), Secret(b"marked-value"))
    except Invalid as refusal:
        assert refusal.code == "not-an-object"
        assert "remoteRef.property" in refusal.hint
        assert "marked-value" not in str(refusal)
