"""Lists of a real API server come page by page, and of Secrets the metadata alone."""

import pytest

from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.resource import NAMESPACES, SECRETS
from strongroom.model.clock import SystemClock

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CLOCK = SystemClock()


async def test_a_list_of_more_than_a_page_is_whole_and_followed(cluster) -> None:
    async with KubeClient(cluster.config(), CLOCK, page=2) as api:
        await api.create(NAMESPACES, {"metadata": {"name": "paged"}})
        names = [f"s-{number}" for number in range(5)]
        for name in names:
            metadata = {"name": name, "namespace": "paged"}
            await api.create(SECRETS, {"metadata": metadata, "stringData": {"k": "v"}})
        scope = Scope(namespace="paged", metadata_only=True)
        pages = [page async for page in api.pages(SECRETS, scope)]
        assert [len(page.items) for page in pages] == [2, 2, 1]
        found = [each for page in pages for each in page.items]
        assert [each["metadata"]["name"] for each in found] == names
        assert not [each for each in found if "data" in each]
        # All pages are of one moment, from which a watch goes on.
        assert len({page.resource_version for page in pages}) == 1
        watch = api.watch(SECRETS, pages[-1].resource_version, scope)
        await api.delete(SECRETS, "s-1", "paged")
        event = await anext(watch)
        assert (event.type, event.object["metadata"]["name"]) == ("DELETED", "s-1")
        assert "data" not in event.object
        await watch.aclose()
