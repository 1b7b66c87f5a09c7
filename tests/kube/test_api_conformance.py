"""One suite for the fake API and a real API server: what controllers may rely on."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest

from strongroom.kube.api import KubeApi, Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.fake import FakeKubeApi
from strongroom.kube.resource import CONFIG_MAPS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS, Object
from strongroom.kube.token_review import request_token, review_token
from strongroom.model.clock import SimulatedClock, SystemClock
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound
from strongroom.model.secret import Secret

NUMBERS = itertools.count(1)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.cluster)])
async def api(request: pytest.FixtureRequest) -> AsyncIterator[KubeApi]:
    if request.param == "fake":
        yield FakeKubeApi(SimulatedClock())
        return
    cluster = request.getfixturevalue("cluster")
    async with KubeClient(cluster.config(), SystemClock()) as client:
        yield client


@pytest.fixture
async def namespace(api: KubeApi) -> str:
    name = f"conformance-{next(NUMBERS)}"
    await api.create(NAMESPACES, {"metadata": {"name": name}})
    return name


def config_map(
    name: str, namespace: str, labels: dict[str, str] | None = None, **data: str
) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "data": data,
    }


async def test_create_get_replace_and_conflict(api: KubeApi, namespace: str) -> None:
    made = await api.create(CONFIG_MAPS, config_map("a", namespace, x="1"))
    assert made["metadata"]["uid"]
    with pytest.raises(Conflict):
        await api.create(CONFIG_MAPS, config_map("a", namespace))
    made["data"]["x"] = "2"
    changed = await api.replace(CONFIG_MAPS, made)
    assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
    with pytest.raises(Conflict):
        await api.replace(CONFIG_MAPS, {**made, "data": {"x": "3"}})
    assert (await api.get(CONFIG_MAPS, "a", namespace))["data"] == {"x": "2"}
    await api.delete(CONFIG_MAPS, "a", namespace)
    for missing in (api.get(CONFIG_MAPS, "a", namespace), api.delete(CONFIG_MAPS, "a", namespace)):
        with pytest.raises(NotFound):
            await missing
    with pytest.raises(Invalid):
        await api.create(CONFIG_MAPS, {"metadata": {"namespace": namespace}})


async def test_lists_select_by_namespace_and_label_and_can_leave_data_out(
    api: KubeApi, namespace: str
) -> None:
    await api.create(CONFIG_MAPS, config_map("a", namespace, {"team": "x"}, k="v"))
    await api.create(CONFIG_MAPS, config_map("b", namespace, {"team": "y"}, k="v"))
    found = await api.list(CONFIG_MAPS, Scope(namespace, label_selector="team=x"))
    assert [each["metadata"]["name"] for each in found.items] == ["a"]
    assert found.items[0]["kind"] == "ConfigMap"
    bare = await api.list(CONFIG_MAPS, Scope(namespace, label_selector="team", metadata_only=True))
    assert len(bare.items) == 2
    assert all("data" not in each for each in bare.items)


async def test_lists_select_by_field(api: KubeApi, namespace: str) -> None:
    for name in "ab":
        await api.create(CONFIG_MAPS, config_map(name, namespace))
    found = await api.list(CONFIG_MAPS, Scope(namespace, field_selector="metadata.name=b"))
    assert [each["metadata"]["name"] for each in found.items] == ["b"]


async def test_a_watch_goes_on_from_a_list(api: KubeApi, namespace: str) -> None:
    await api.create(CONFIG_MAPS, config_map("before", namespace))
    listing = await api.list(CONFIG_MAPS, Scope(namespace))

    async def collect() -> list[tuple[str, str]]:
        seen = []
        async for event in api.watch(CONFIG_MAPS, listing.resource_version, Scope(namespace)):
            # A controller puts the cluster's certificate into every namespace, when it likes.
            name = event.object["metadata"].get("name")
            if event.type != "BOOKMARK" and name != "kube-root-ca.crt":
                seen.append((event.type, name))
            if event.type == "DELETED":
                return seen
        return seen

    watching = asyncio.create_task(collect())
    made = await api.create(CONFIG_MAPS, config_map("new", namespace, k="1"))
    made["data"]["k"] = "2"
    await api.replace(CONFIG_MAPS, made)
    await api.delete(CONFIG_MAPS, "new", namespace)
    assert await asyncio.wait_for(watching, 60) == [
        ("ADDED", "new"),
        ("MODIFIED", "new"),
        ("DELETED", "new"),
    ]


async def test_apply_owns_its_fields_and_takes_back_what_it_leaves_out(
    api: KubeApi, namespace: str
) -> None:
    await api.apply(CONFIG_MAPS, config_map("a", namespace, mine="1", also="1"), "us")
    await api.merge_patch(CONFIG_MAPS, "a", namespace, {"data": {"theirs": "1", "mine": "changed"}})
    done = await api.apply(CONFIG_MAPS, config_map("a", namespace, mine="2"), "us")
    assert done["data"] == {"mine": "2", "theirs": "1"}
    managers = [each["manager"] for each in done["metadata"]["managedFields"]]
    assert "us" in managers
    again = await api.apply(CONFIG_MAPS, config_map("a", namespace, mine="2"), "us")
    assert again["metadata"]["resourceVersion"] == done["metadata"]["resourceVersion"]


async def test_a_null_in_a_patch_takes_out_and_is_never_kept(api: KubeApi, namespace: str) -> None:
    await api.create(CONFIG_MAPS, config_map("a", namespace, k="1"))
    labels = {"labels": {"new": "x", "none": None}}
    await api.merge_patch(CONFIG_MAPS, "a", namespace, {"metadata": labels, "data": {"k": None}})
    held = await api.get(CONFIG_MAPS, "a", namespace)
    assert held["metadata"]["labels"] == {"new": "x"}
    assert not held.get("data")


async def test_finalizers_hold_an_object_back(api: KubeApi, namespace: str) -> None:
    item = config_map("a", namespace)
    item["metadata"]["finalizers"] = ["strongroom.dev/test"]
    await api.create(CONFIG_MAPS, item)
    await api.delete(CONFIG_MAPS, "a", namespace)
    assert (await api.get(CONFIG_MAPS, "a", namespace))["metadata"]["deletionTimestamp"]
    await api.merge_patch(CONFIG_MAPS, "a", namespace, {"metadata": {"finalizers": None}})
    with pytest.raises(NotFound):
        await api.get(CONFIG_MAPS, "a", namespace)


async def test_secrets_take_text_and_give_base64(api: KubeApi, namespace: str) -> None:
    item = {"metadata": {"name": "s", "namespace": namespace}, "stringData": {"k": "v"}}
    assert (await api.create(SECRETS, item))["data"] == {"k": "dg=="}


async def test_tokens_are_requested_and_reviewed(api: KubeApi, namespace: str) -> None:
    await api.create(SERVICE_ACCOUNTS, {"metadata": {"name": "app", "namespace": namespace}})
    token = await request_token(api, namespace, "app", ("strongroom",), 600)
    reviewed = await review_token(api, token, ("strongroom",))
    assert (reviewed.namespace, reviewed.service_account) == (namespace, "app")
    assert reviewed.audiences == ("strongroom",)
    for refused in (
        review_token(api, token, ("other",)),
        review_token(api, Secret("x"), ("strongroom",)),
    ):
        with pytest.raises(Denied):
            await refused


async def test_pages_are_in_the_order_of_names_and_a_touch_changes_nothing(
    api: KubeApi, namespace: str
) -> None:
    other = f"{namespace}-x"
    await api.create(NAMESPACES, {"metadata": {"name": other}})
    for place in (namespace, other):
        for name in ("b", "a-0", "a"):
            await api.create(CONFIG_MAPS, config_map(name, place, {"paged": "yes"}, k="v"))
    scope = Scope(label_selector="paged=yes", metadata_only=True)
    found = [each async for page in api.pages(CONFIG_MAPS, scope) for each in page.items]
    places = [f"{each['metadata']['namespace']}/{each['metadata']['name']}" for each in found]
    ours = [place for place in places if place.startswith(namespace)]
    # As etcd sorts keys: a dash before a slash.
    assert ours == [f"{place}/{name}" for place in (other, namespace) for name in ("a", "a-0", "b")]
    before = found[places.index(f"{namespace}/a")]["metadata"]["resourceVersion"]
    assert await api.touch(CONFIG_MAPS, "a", namespace) == before
    with pytest.raises(NotFound):
        await api.touch(CONFIG_MAPS, "absent", namespace)
