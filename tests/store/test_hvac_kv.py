"""Every method that hvac has for KV, by hvac's own list: one without a case here fails."""

import inspect

import pytest
from hvac.api.secrets_engines import KvV1, KvV2
from hvac.exceptions import InvalidPath, InvalidRequest

pytestmark = pytest.mark.filterwarnings("ignore:The raise_on_deleted_version:DeprecationWarning")


def methods(kind: type) -> list[str]:
    return [
        name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")
    ]


def written(kv, path: str = "a/b", **secret) -> dict:
    return kv.create_or_update_secret(path=path, secret=secret or {"k": "v"})["data"]


# version 2


def create_or_update_secret(kv) -> None:
    assert written(kv)["version"] == 1
    assert kv.create_or_update_secret("a/b", {"k": "w"}, cas=1)["data"]["version"] == 2
    with pytest.raises(InvalidRequest, match="did not match the current version"):
        kv.create_or_update_secret("a/b", {"k": "w"}, cas=1)


def read_secret(kv) -> None:
    written(kv)
    assert kv.read_secret("a/b")["data"]["data"] == {"k": "v"}


def read_secret_version(kv) -> None:
    written(kv, k=1)
    written(kv, k=2)
    assert kv.read_secret_version("a/b", version=1)["data"]["data"] == {"k": 1}
    kv.delete_secret_versions("a/b", [1])
    with pytest.raises(InvalidPath):
        kv.read_secret_version("a/b", version=1, raise_on_deleted_version=True)
    gone = kv.read_secret_version("a/b", version=1, raise_on_deleted_version=False)
    assert gone["data"]["data"] is None


def delete_latest_version_of_secret(kv) -> None:
    written(kv)
    kv.delete_latest_version_of_secret("a/b")
    with pytest.raises(InvalidPath):
        kv.read_secret_version("a/b", raise_on_deleted_version=True)


def delete_secret_versions(kv) -> None:
    read_secret_version(kv)
    assert kv.read_secret_metadata("a/b")["data"]["versions"]["1"]["deletion_time"]


def undelete_secret_versions(kv) -> None:
    delete_latest_version_of_secret(kv)
    kv.undelete_secret_versions("a/b", [1])
    assert kv.read_secret_version("a/b")["data"]["data"] == {"k": "v"}


def destroy_secret_versions(kv) -> None:
    written(kv)
    kv.destroy_secret_versions("a/b", [1])
    kv.undelete_secret_versions("a/b", [1])
    assert kv.read_secret_metadata("a/b")["data"]["versions"]["1"]["destroyed"] is True


def patch(kv) -> None:
    written(kv, a="1", b="2")
    kv.patch("a/b", {"b": "3"})
    assert kv.read_secret_version("a/b")["data"]["data"] == {"a": "1", "b": "3"}
    with pytest.raises(InvalidPath):
        kv.patch("absent", {"b": "3"})


def list_secrets(kv) -> None:
    written(kv)
    written(kv, "a")
    assert kv.list_secrets("")["data"]["keys"] == ["a", "a/"]
    with pytest.raises(InvalidPath):
        kv.list_secrets("nothing")


def update_metadata(kv) -> None:
    kv.update_metadata("a/b", max_versions=3, cas_required=True, custom_metadata={"o": "t"})
    with pytest.raises(InvalidRequest, match="check-and-set parameter required"):
        written(kv)


def read_secret_metadata(kv) -> None:
    update_metadata(kv)
    data = kv.read_secret_metadata("a/b")["data"]
    assert (data["max_versions"], data["custom_metadata"]) == (3, {"o": "t"})
    assert (data["current_version"], data["versions"]) == (0, {})


def delete_metadata_and_all_versions(kv) -> None:
    written(kv)
    kv.delete_metadata_and_all_versions("a/b")
    with pytest.raises(InvalidPath):
        kv.read_secret_metadata("a/b")


def configure(kv) -> None:
    kv.configure(max_versions=2, cas_required=False, delete_version_after="3h25m19s")
    for number in range(3):
        written(kv, k=number)
    data = kv.read_secret_metadata("a/b")["data"]
    assert sorted(data["versions"]) == ["2", "3"]
    assert data["oldest_version"] == 2


def read_configuration(kv) -> None:
    configure(kv)
    assert kv.read_configuration()["data"] == {
        "max_versions": 2,
        "cas_required": False,
        "delete_version_after": "3h25m19s",
    }


V2 = {name: each for name, each in globals().items() if name in methods(KvV2)}


@pytest.mark.parametrize("method", methods(KvV2))
async def test_hvac_kv_version_2(store, method) -> None:
    assert method in V2, "a method of hvac without a case"
    await store.run(V2[method], store.hvac().secrets.kv.v2)


# version 1


def one_create_or_update_secret(kv) -> None:
    for method in ("POST", "PUT", None):
        kv.create_or_update_secret("a", {"k": str(method)}, method=method, mount_point="old")
        assert kv.read_secret("a", mount_point="old")["data"] == {"k": str(method)}


def one_read_secret(kv) -> None:
    kv.create_or_update_secret("a", {"k": "v", "ttl": "1h"}, mount_point="old")
    said = kv.read_secret("a", mount_point="old")
    assert said["lease_duration"] == 3600
    with pytest.raises(InvalidPath):
        kv.read_secret("b", mount_point="old")


def one_list_secrets(kv) -> None:
    kv.create_or_update_secret("a/b", {"k": "v"}, mount_point="old")
    assert kv.list_secrets("", mount_point="old")["data"]["keys"] == ["a/"]


def one_delete_secret(kv) -> None:
    one_list_secrets(kv)
    kv.delete_secret("a/b", mount_point="old")
    with pytest.raises(InvalidPath):
        kv.list_secrets("", mount_point="old")


V1 = {name: globals().get(f"one_{name}") for name in methods(KvV1)}


@pytest.mark.parametrize("method", methods(KvV1))
async def test_hvac_kv_version_1(store, method) -> None:
    assert V1[method], "a method of hvac without a case"
    await store.ask("POST", "sys/mounts/old", {"type": "kv", "options": {"version": "1"}})
    await store.run(V1[method], store.hvac().secrets.kv.v1)
