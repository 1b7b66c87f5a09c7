"""Whatever happens in whatever order: nobody else's Secret is touched, and all comes to rest.

Each seed is a story of edits, outages, restarts and drift. Between two events little time passes
or much; then all is quiet, and what is there is what the plan would make of it.
"""

import base64
from random import Random
from typing import Any

import pytest

from strongroom.kube.resource import SECRETS
from strongroom.model.errors import Denied, NotFound, Throttled, Unavailable
from strongroom.sync.crds import EXTERNAL_SECRETS, SECRET_STORES
from strongroom.sync.explain import Chain, plan
from strongroom.sync.reader import NoGenerators, Reader
from strongroom.sync.stores import ApiLookup, Stores
from strongroom.sync.target import Targets
from strongroom.sync.templates import GoTemplates

NAMES = ("a", "b")
# Targets of ours, and one that somebody else has made.
TARGETS = ("a", "b", "shared", "theirs")
KEYS = ("prod/db", "prod/other")
CREATION = ("Owner", "Merge", "Orphan", "None", "CreateOrMerge")
DELETION = ("Retain", "Delete", "Merge")
TROUBLE = (
    Unavailable("unreachable", "no answer"),
    Denied("store-denied", "permission denied"),
    Throttled("store-throttled", "slow down", retry_after=20.0),
)
THEIRS = {"theirs": "kept"}


class Story:
    """One operator's life. `told` is what happened, for whoever reads a failure."""

    def __init__(self, bench: Any, seed: int) -> None:
        self.bench = bench
        self.random = Random(seed)
        self.told: list[str] = []
        # Targets whose Secret somebody, or a policy, may have deleted since it was looked at.
        self.may_go: set[str] = set()

    async def begin(self) -> None:
        await self.bench.secret_of_somebody("theirs", **THEIRS)
        self.bench.provider.put("prod/other", password="x", extra="e")
        await self.bench.start()
        for name in NAMES:
            await self.bench.external(name, data=self._rows(), refreshInterval="1m")

    def _rows(self) -> list[dict[str, Any]]:
        count = self.random.randint(1, 2)
        return [
            {
                "secretKey": f"k{self.random.randint(1, 2)}" if count == 1 else f"k{number}",
                "remoteRef": {"key": self.random.choice(KEYS), "property": "password"},
            }
            for number in range(count)
        ]

    async def _patch(self, name: str, spec: dict[str, Any]) -> None:
        try:
            await self.bench.api.merge_patch(EXTERNAL_SECRETS, name, "n", {"spec": spec})
        except NotFound:
            if spec.get("data"):
                await self.bench.external(name, **spec)

    async def edit_rows(self) -> None:
        await self._patch(self.random.choice(NAMES), {"data": self._rows()})

    async def edit_target(self) -> None:
        target = self.random.choice(TARGETS)
        await self._patch(self.random.choice(NAMES), {"target": {"name": target}})

    async def edit_policy(self) -> None:
        creation = self.random.choice(CREATION)
        deletion = self.random.choice(
            DELETION if creation in ("Owner", "CreateOrMerge") else ("Retain",)
        )
        target = {"creationPolicy": creation, "deletionPolicy": deletion}
        await self._patch(self.random.choice(NAMES), {"target": target})

    async def change_value(self) -> None:
        self.bench.provider.put(self.random.choice(KEYS), password=f"v{self.random.random()}")

    async def lose_value(self) -> None:
        self.bench.provider.secrets.pop(self.random.choice(KEYS), None)

    async def trouble(self) -> None:
        self.bench.provider.broken = self.random.choice((*TROUBLE, None))

    async def drift(self) -> None:
        await self._edit_secret({f"k{self.random.randint(1, 3)}": "ZHJpZnQ="})

    async def _edit_secret(self, data: dict[str, Any]) -> None:
        name = self.random.choice(TARGETS[:3])
        try:
            await self.bench.api.merge_patch(
                SECRETS, name, "n", {"data": data}, manager="kubectl-edit"
            )
        except NotFound:
            return

    async def delete_target(self) -> None:
        name = self.random.choice(TARGETS[:3])
        self.may_go.add(name)
        try:
            await self.bench.api.delete(SECRETS, name, "n")
        except NotFound:
            return

    async def delete_object(self) -> None:
        try:
            await self.bench.api.delete(EXTERNAL_SECRETS, self.random.choice(NAMES), "n")
        except NotFound:
            return

    async def restart(self) -> None:
        await self.bench.start()

    async def edit_store(self) -> None:
        note = {"spec": {"refreshInterval": self.random.randint(60, 300)}}
        await self.bench.api.merge_patch(SECRET_STORES, "s", "n", note)

    async def step(self) -> None:
        events = (
            self.edit_rows, self.edit_target, self.edit_policy, self.change_value,
            self.lose_value, self.trouble, self.drift, self.delete_target, self.delete_object,
            self.restart, self.edit_store,
        )  # fmt: skip
        event = self.random.choice(events)
        before = await self.secrets()
        policies = await self.policies()
        await event()
        after = policies | await self.policies()
        self.told.append(event.__name__)
        await self.bench.clock.advance(self.random.choice((0.0, 0.3, 5.0, 90.0)))
        await self.check(before, after | await self.policies())

    async def policies(self) -> set[str]:
        items = (await self.bench.api.list(EXTERNAL_SECRETS)).items
        return {str((each["spec"].get("target") or {}).get("deletionPolicy")) for each in items}

    async def secrets(self) -> dict[str, dict[str, Any]]:
        items = (await self.bench.api.list(SECRETS)).items
        return {each["metadata"]["name"]: each for each in items}

    async def check(self, before: dict[str, Any], policies: set[str]) -> None:
        now = await self.secrets()
        assert "theirs" in now, self.told
        held = now["theirs"].get("data") or {}
        assert held.get("theirs") == base64.b64encode(b"kept").decode(), self.told
        assert not now["theirs"]["metadata"].get("ownerReferences"), self.told
        for name, secret in before.items():
            if name not in now and await self._is_orphan(secret):
                continue
            if name not in now:
                asked = self.told[-1] in ("delete_target", "edit_target") or "Delete" in policies
                assert asked or name in self.may_go, (self.told, name)
            elif secret.get("data") and not now[name].get("data"):
                assert {"Merge", "Delete"} & policies, (self.told, name)

    async def _is_orphan(self, secret: dict[str, Any]) -> bool:
        """Whether its owner has another target by now."""
        for owner in secret["metadata"].get("ownerReferences") or []:
            try:
                item = await self.bench.item(owner["name"])
            except NotFound:
                continue
            target = item["spec"].get("target") or {}
            if target.get("name", owner["name"]) != secret["metadata"]["name"]:
                return True
        return False

    async def quiet(self) -> None:
        """All troubles end; after a while nothing is written any more, and the plan agrees."""
        bench = self.bench
        bench.provider.broken = None
        for key in KEYS:
            bench.provider.put(key, password="last")
        for _ in range(80):
            await bench.clock.advance(10)
        for restarted in (False, True):
            writes = bench.api.writes
            if restarted:
                await bench.start()
            for _ in range(30):
                await bench.clock.advance(10)
            assert bench.api.writes == writes, (self.told, restarted)
        reader = Stores(ApiLookup(bench.api), self._provider, bench.clock)
        render = GoTemplates(bench.clock)
        chain = Chain(
            bench.api,
            ApiLookup(bench.api),
            reader,
            Reader(reader, NoGenerators(), render),
            Targets(bench.api),
            render,
        )
        for item in (await bench.api.list(EXTERNAL_SECRETS)).items:
            found = await plan(chain, item)
            said = (item["status"]["conditions"][0]["status"], found.action, found.said)
            ready = said[0] == "True"
            assert ready == (found.action == "nothing"), (
                self.told,
                item["spec"],
                item["status"],
                said,
            )

    async def _provider(self, store: Any, namespace: str) -> Any:
        return self.bench.provider


@pytest.mark.parametrize("seed", [0, 1, 104, 174, 181, 1009, 1032])
@pytest.mark.long
async def test_a_story(idle, seed: int) -> None:
    story = Story(idle, seed)
    await story.begin()
    for _ in range(40):
        await story.step()
    await story.quiet()
