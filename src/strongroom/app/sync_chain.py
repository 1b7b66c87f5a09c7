"""The operator's parts for commands that look once: no caches, and nothing is written."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import yaml

from strongroom.kube.api import KubeApi
from strongroom.kube.resource import Object
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
    api: KubeApi, clock: Clock, controller_class: str = ""
) -> AsyncIterator[Chain]:
    """What `explain` and `plan` walk with."""
    lookup, render = ApiLookup(api), GoTemplates(clock)
    make = Providers(Surroundings(api, clock, dict(os.environ)))
    stores = Stores(lookup, make, clock, controller_class=controller_class)
    reader = Reader(stores, NoGenerators(), render)
    try:
        yield Chain(api, lookup, stores, reader, Targets(api), render, controller_class, clock)
    finally:
        await stores.close()


def manifests(path: Path, kind: str, namespace: str) -> list[Object]:
    """The objects of a kind in a YAML file; raises NotFound or Invalid."""
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
            if isinstance(item, dict) and item.get("kind") == kind:
                metadata = item.setdefault("metadata", {})
                metadata.setdefault("namespace", namespace)
                if not metadata.get("name"):
                    raise Invalid("bad-manifest", f"a {kind} in {path} has no name")
                metadata.setdefault("uid", "")
                found.append(item)
    return found
