"""Kinds of objects as a cluster serves them, for targets that are no Secrets."""

from strongroom.kube.client import KubeClient
from strongroom.kube.discovery import discover
from strongroom.kube.resource import Resource
from strongroom.model.errors import NotFound
from strongroom.sync.spec import Manifest
from strongroom.sync.target import ResolveKind


def any_kind(api: KubeClient) -> ResolveKind:
    """Asked for once, and again for a kind that is not known; raises NotFound(`unknown-kind`)."""
    known: dict[tuple[str, str], Resource] = {}

    async def resolve(manifest: Manifest) -> Resource:
        wanted = (manifest.api_version, manifest.kind)
        if wanted not in known:
            for each in (await discover(api)).values():
                known[each.api_version, each.kind] = each
        if wanted not in known:
            raise NotFound("unknown-kind", f"the cluster does not serve {' '.join(wanted)}")
        return known[wanted]

    return resolve
