"""What a cluster serves, by the name people write: `secrets`, `things.example.com`.

API: https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import orjson

from strongroom.kube.resource import Resource
from strongroom.model.errors import Refusal


class Readable(Protocol):
    """The part of a client that is needed."""

    async def raw(self, path: str) -> bytes:
        """GET a path that is no object."""


async def discover(api: Readable, *verbs: str) -> dict[str, Resource]:
    """All resources that can be listed, and `verbs`, in their group's preferred version, or in the
    first that has them: a group's kinds need not all have come to its newest.

    A version whose server does not answer is left out, as kubectl does.
    """
    wanted = {"list", *verbs}
    found = dict(_resources("", "v1", orjson.loads(await api.raw("/api/v1")), wanted))
    for group in orjson.loads(await api.raw("/apis"))["groups"]:
        preferred = group["preferredVersion"]
        for each in [preferred, *(one for one in group["versions"] if one != preferred)]:
            try:
                listing = orjson.loads(await api.raw(f"/apis/{each['groupVersion']}"))
            except Refusal:
                continue
            found = dict(_resources(group["name"], each["version"], listing, wanted)) | found
    return found


def _resources(
    group: str, version: str, listing: Mapping[str, Any], wanted: set[str]
) -> Iterator[tuple[str, Resource]]:
    for each in listing.get("resources") or []:
        plural = each["name"]
        if "/" in plural or not wanted <= set(each.get("verbs", [])):
            continue
        name = f"{plural}.{group}" if group else plural
        yield name, Resource(group, version, plural, each["kind"], namespaced=each["namespaced"])
