"""A restart, edits elsewhere, deletions and edits, under the other program and under ours.

Each has an API server of its own with the other's definitions; what stands there after each step is
compared. Opt-in as in test_the_switch.py.
"""

import asyncio
import base64
import copy
import os
from typing import Any

import pytest
from tests.sync.eso.test_side_by_side import RESOURCES, clustered, of_secret, of_state
from tests.sync.eso.test_the_switch import CLOCK, Bed
from tests.sync.eso.test_the_switch import _object as an_object

from strongroom.app.waiting import until
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import CONFIG_MAPS, NAMESPACES, SECRETS, Object
from strongroom.model.errors import NotFound
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES
from strongroom.sync.desired import synced_version

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not os.environ.get("STRONGROOM_ESO"), reason="STRONGROOM_ESO names no binary"
    ),
]
GENERATORS = "generators.external-secrets.io/v1alpha1"
MADE = [
    {"sourceRef": {"generatorRef": {"apiVersion": GENERATORS, "kind": "Password", "name": "g"}}}
]
ALL = [{"extract": {"key": "all"}}]
ROWS = [{"secretKey": "v", "remoteRef": {"key": "one"}}]

# What no edit of the store changes.
STEADY = [{"secretKey": "v", "remoteRef": {"key": "all", "property": "second"}}]


def texts(key: str) -> Object:
    items = [{"key": key, "templateAs": "Values"}]
    where = {"configMap": {"name": "texts", "items": items}}
    return {"template": {"mergePolicy": "Merge", "templateFrom": [where]}}


# Nothing that changes elsewhere is to reach them.
FROZEN: dict[str, Object] = {
    "once": {"refreshPolicy": "CreatedOnce", "dataFrom": ALL, "target": texts("plain")},
    "on-change": {"refreshPolicy": "OnChange", "dataFrom": ALL, "target": texts("plain")},
    "made-once": {"refreshPolicy": "CreatedOnce", "dataFrom": MADE, "target": texts("made")},
    "made-on-change": {"refreshPolicy": "OnChange", "dataFrom": MADE, "target": texts("made")},
    "made-beside": {"refreshPolicy": "CreatedOnce", "dataFrom": [*MADE, *ALL]},
}
# Due all the time, so that they show when an edit elsewhere has been seen.
QUICK: dict[str, Object] = {
    "quick": {"refreshInterval": "1s", "dataFrom": ALL, "target": texts("plain")}
}
OTHERS: dict[str, Object] = {
    "hourly": {"data": ROWS},
    "nought": {"refreshInterval": "0s", "data": ROWS},
    "to-rename": {"data": ROWS},
    "to-orphan": {"data": ROWS},
    "to-merge": {"dataFrom": ALL},
    "to-none": {"data": STEADY},
    "to-owner": {"data": ROWS, "target": {"creationPolicy": "Orphan"}},
    "to-plain": {"dataFrom": ALL, "target": {"template": {"data": {"z": "{{ .first }}"}}}},
    "owned": {"dataFrom": ALL},
    # Last, for its target's owner has to be there before it.
    "guest": {"data": ROWS, "target": {"name": "owned", "creationPolicy": "Merge"}},
}
DELETED = ("hourly", "nought", "once", "on-change")
EDITS: dict[str, Object] = {
    "to-rename": {"target": {"name": "renamed"}},
    "to-orphan": {"target": {"creationPolicy": "Orphan"}},
    "to-merge": {"target": {"creationPolicy": "Merge"}, "dataFrom": None, "data": ROWS},
    "to-none": {"target": {"creationPolicy": "None"}},
    "to-owner": {"target": {"creationPolicy": "Owner"}},
    "to-plain": {"target": {"template": None}},
}
Step = tuple[dict[str, Object], dict[str, Any]]


def held(first: str, one: str) -> Object:
    values = f'{{"first": "{first}", "second": "2"}}'
    entries = [{"key": "all", "value": values}, {"key": "one", "value": one}]
    return {"provider": {"fake": {"data": entries}}}


def objects() -> list[Object]:
    password = {**an_object("Password", "g", {"length": 20, "noUpper": False, "allowRepeat": True})}
    made = [{**password, "apiVersion": GENERATORS}, an_object("SecretStore", "s", held("1", "v1"))]
    for name, spec in (FROZEN | QUICK | OTHERS).items():
        whole = {"secretStoreRef": {"name": "s"}, "refreshInterval": "1h", **copy.deepcopy(spec)}
        made.append(an_object("ExternalSecret", name, whole))
    return made


async def step(bed: Bed, passwords: dict[str, list[bytes]]) -> Step:
    """Secrets and states, a password by how many there were for its Secret before."""
    secrets = {name: of_secret(each) for name, each in (await bed.all(SECRETS)).items()}
    for name, each in secrets.items():
        if name.startswith("made-"):
            known = passwords.setdefault(name, [])
            if (value := each["data"]["password"]) not in known:
                known.append(value)
            number = b"password %d" % known.index(value)
            each["data"] = {k: v.replace(value, number) for k, v in each["data"].items()}
            each["metadata"]["annotations"].pop("reconcile.external-secrets.io/data-hash")
    states = {name: of_state(each) for name, each in (await bed.all(EXTERNAL_SECRETS)).items()}
    # Theirs names a Secret that it does not write, or no more.
    for name in ("guest", "to-none"):
        del states[name]["binding"]
    return secrets, states


async def said(bed: Bed, *edited: str) -> bool | None:
    """Whether a word of each stands, and of those that were edited about what they are now."""
    items = (await bed.all(EXTERNAL_SECRETS)).values()
    late = [
        each["metadata"]["name"]
        for each in items
        if of_state(each)["ready"] is None
        or (each["metadata"]["name"] in edited and of_state(each)["synced"] != synced_version(each))
    ]
    if late:
        raise NotFound("late", f"nothing yet of {late}")
    return True


async def changed_elsewhere(bed: Bed) -> None:
    store = {"spec": held("one", "v2")}
    await bed.api.merge_patch(SECRET_STORES, "s", "apps", store)
    text = {"data": {"plain": "b {{ .first }}", "made": "b {{ .password }}"}}
    await bed.api.merge_patch(CONFIG_MAPS, "texts", "apps", text)

    async def seen() -> bool | None:
        data = (await bed.all(SECRETS))["quick"]["data"]
        return base64.b64decode(data["plain"]) == b"b one" or None

    await until("an edit elsewhere", seen, CLOCK, seconds=120)


async def deleted(bed: Bed) -> None:
    before = await bed.all(SECRETS)
    for name in DELETED:
        await bed.api.delete(SECRETS, name, "apps")

    async def back() -> bool | None:
        now = await bed.all(SECRETS)
        uids = [(now[each]["metadata"]["uid"] if each in now else "") for each in DELETED]
        old = {before[each]["metadata"]["uid"] for each in DELETED}
        return (all(uids) and not old & set(uids)) or None

    await until("the deleted", back, CLOCK, seconds=120)


async def days(bed: Bed, name: str) -> list[Step]:
    """What stands after each step."""
    start = bed.start_theirs if name == "theirs" else lambda: bed.start_ours("--no-source-versions")
    await bed.api.create(NAMESPACES, {"metadata": {"name": "apps"}})
    data = {"plain": "a {{ .first }}", "made": "a {{ .password }}"}
    await bed.api.create(CONFIG_MAPS, {"metadata": {"name": "texts", "namespace": "apps"}, "data": data})  # fmt: skip
    start()
    *first, guest = objects()
    for items in (first, [guest]):
        for item in items:
            await bed.api.create(RESOURCES[item["kind"]], item)
        await until("a word of each", lambda: said(bed), CLOCK, seconds=240)
    passwords: dict[str, list[bytes]] = {}
    steps = [await step(bed, passwords)]
    bed.processes.stop(name)
    start()
    await bed.looked(len(FROZEN | QUICK | OTHERS) + 5)
    steps.append(await step(bed, passwords))
    await changed_elsewhere(bed)
    frozen, _ = await step(bed, passwords)
    steps.append(({each: frozen[each] for each in FROZEN}, {}))
    await deleted(bed)
    await until("a word of each", lambda: said(bed), CLOCK, seconds=240)
    for each, spec in EDITS.items():
        await bed.api.merge_patch(EXTERNAL_SECRETS, each, "apps", {"spec": spec})
    await until("a word of each edit", lambda: said(bed, *EDITS), CLOCK, seconds=240)
    # Theirs follows what was edited elsewhere when it is due alone, so every object is forced to.
    followers = {*QUICK, *OTHERS} - {"nought", "guest"}
    for each in followers:
        forced = {"metadata": {"annotations": {"force-sync": "1"}}}
        await bed.api.merge_patch(EXTERNAL_SECRETS, each, "apps", forced)
    await until("a word of each", lambda: said(bed, *followers), CLOCK, seconds=240)
    await asyncio.to_thread(bed.processes.stop, name)
    steps.append(await step(bed, passwords))
    return steps


async def lived(background: Any, install: Any, name: str) -> list[Step]:
    async with (
        clustered(background, install) as (control, processes),
        KubeClient(control.config(), CLOCK) as api,
    ):
        return await days(Bed(control, processes, api), name)


async def test_what_both_make_of_a_restart_of_edits_and_deletions(
    background, install_older
) -> None:
    theirs = await lived(background, install_older, "theirs")
    ours = await lived(background, install_older, "ours")
    for before, after in zip(theirs, ours, strict=True):
        for one, other in zip(before, after, strict=True):
            differing = {
                name: (one.get(name), other.get(name))
                for name in one.keys() | other.keys()
                if one.get(name) != other.get(name)
            }
            assert differing == {}
