"""Events as the real API server takes them."""

import pytest

from strongroom.kube.api import Scope
from strongroom.kube.client import KubeClient
from strongroom.kube.events import EventRecorder
from strongroom.kube.resource import CONFIG_MAPS, EVENTS
from strongroom.model.clock import SystemClock

CLOCK = SystemClock()


@pytest.mark.cluster
@pytest.mark.timeout(600)
async def test_an_event_is_taken_and_counted_up(cluster, caplog) -> None:
    async with KubeClient(cluster.config(), CLOCK) as api:
        about = await api.create(
            CONFIG_MAPS, {"metadata": {"name": "about", "namespace": "default"}}
        )
        recorder = EventRecorder(api, "external-secrets", "test-1", CLOCK)
        for _ in range(3):
            await recorder.emit(about, "Warning", "DriftRepaired", "somebody changed it")
        assert not caplog.records
        scope = Scope(namespace="default")
        (event,) = [
            each
            for each in (await api.list(EVENTS, scope)).items
            if each["regarding"]["name"] == "about"
        ]
        assert (event["reason"], event["series"]["count"]) == ("DriftRepaired", 3)
        shown = cluster.kubectl("events", "-n", "default", "--for", "configmap/about")
        assert "somebody changed it" in shown
