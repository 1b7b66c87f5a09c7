"""What keeps an object in the cluster until what has to go with it is gone."""

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import Object, Resource, key_of
from strongroom.model.errors import NotFound


def is_held(item: Object, finalizer: str) -> bool:
    """Whether an object has a finalizer."""
    return finalizer in _finalizers(item)


async def hold(api: KubeApi, resource: Resource, item: Object, finalizer: str) -> None:
    """Add a finalizer, unless it is there."""
    if not is_held(item, finalizer):
        await _put(api, resource, item, [*_finalizers(item), finalizer])


async def let_go(api: KubeApi, resource: Resource, item: Object, finalizer: str) -> None:
    """Take a finalizer off, if it is there."""
    if is_held(item, finalizer):
        await _put(api, resource, item, [each for each in _finalizers(item) if each != finalizer])


def _finalizers(item: Object) -> list[str]:
    return item["metadata"].get("finalizers") or []


async def _put(api: KubeApi, resource: Resource, item: Object, finalizers: list[str]) -> None:
    # On the version that was looked at: what another has added since must not go with it.
    version = item["metadata"]["resourceVersion"]
    patch = {"metadata": {"finalizers": finalizers or None, "resourceVersion": version}}
    namespace, name = key_of(item)
    try:
        await api.merge_patch(resource, name, namespace, patch)
    except NotFound:
        return
