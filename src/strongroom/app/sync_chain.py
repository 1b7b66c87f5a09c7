"""The operator's parts for commands that look once: no caches, and nothing is written."""

import base64
import os
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import yaml

from strongroom.app.cluster_kinds import any_kind
from strongroom.kube.api import KubeApi
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import Object, Resource
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, NotFound
from strongroom.sync.explain import Chain
from strongroom.sync.providers.kinds import Providers
from strongroom.sync.providers.references import Surroundings
from strongroom.sync.reader import NoGenerators, Reader
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.target import Targets
from strongroom.sync.templates import GoTemplates


@asynccontextmanager
async def sync_chain(
    client: KubeClient,
    clock: Clock,
    controller_class: str = "",
    lends_in: Collection[str] = (),
    applied: Iterable[Object] = (),
) -> AsyncIterator[Chain]:
    """What `explain` and `plan` walk with; `applied` are objects that the cluster is to have."""
    # It has all that the client has; only what is read may be of the file.
    api = cast("KubeApi", WithObjects(client, applied))
    lookup, render = ApiLookup(api), GoTemplates(clock)
    make = Providers(Surroundings(api, clock, dict(os.environ), lends_in))
    stores = Stores(lookup, make, clock, controller_class=controller_class)
    reader = Reader(stores, NoGenerators(), render)
    try:
        targets = Targets(api, any_kind(client))
        yield Chain(api, lookup, stores, reader, targets, render, controller_class, clock)
    finally:
        await stores.close()


class WithObjects:
    """A cluster as it would be with some objects applied; what is written is written to it."""

    def __init__(self, client: KubeClient, objects: Iterable[Object]) -> None:
        self._client = client
        self._objects = {
            (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]): each
            for each in objects
        }

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the client has
        return getattr(self._client, name)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        """One object: of those that are applied, over the one that is there."""
        given = self._given(resource, name, namespace)
        if given is None:
            return await self._client.get(resource, name, namespace)
        try:
            there = await self._client.get(resource, name, namespace)
        except NotFound:
            # Stores are told apart by their uids, which these have not got yet.
            uid = "/".join((resource.plural, namespace, name))
            new = {"generation": 1, "resourceVersion": "0", **_metadata(given, resource)}
            return {**given, "metadata": {**new, "uid": uid}}
        named = {k: v for k, v in _metadata(given, resource).items() if v}
        metadata = {**there["metadata"], **named}
        return {**there, **given, "metadata": metadata}

    def _given(self, resource: Resource, name: str, namespace: str) -> Object | None:
        for (kind, where, own), each in self._objects.items():
            same_group = str(each.get("apiVersion")).rpartition("/")[0] == resource.group
            place = where if resource.namespaced else ""
            if same_group and (kind, place, own) == (resource.kind, namespace, name):
                return each
        return None


def _metadata(given: Object, resource: Resource) -> Object:
    """The metadata of what a file has; in a namespace is only what can be in one."""
    metadata: Object = given["metadata"]
    if resource.namespaced:
        return metadata
    return {key: value for key, value in metadata.items() if key != "namespace"}


def manifests(path: Path, namespace: str) -> list[Object]:
    """The objects in a YAML file, with the namespace where they name none.

    Raises NotFound or Invalid.
    """
    try:
        documents = list(yaml.safe_load_all(path.read_text()))
    except OSError as error:
        raise NotFound("no-manifest", f"cannot read {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise Invalid("bad-manifest", f"{path} is no YAML ({type(error).__name__})") from None
    found: list[Object] = []
    for each in documents:
        listed = (each or {}).get("items") if isinstance(each, dict) else None
        for item in listed or [each]:
            if isinstance(item, dict) and item.get("kind"):
                metadata = item.setdefault("metadata", {})
                metadata.setdefault("namespace", namespace)
                if not metadata.get("name"):
                    raise Invalid("bad-manifest", f"a {item['kind']} in {path} has no name")
                metadata.setdefault("uid", "")
                _encode(item)
                found.append(item)
    return found


def _encode(item: Object) -> None:
    """What the API server makes of `stringData` (a Secret's data as text)."""
    for key, value in (item.pop("stringData", None) or {}).items():
        encoded = base64.b64encode(str(value).encode()).decode()
        item["data"] = {**(item.get("data") or {}), key: encoded}
