"""Collects the values of one ExternalSecret from its stores and generators.

Order: all dataFrom entries, later ones win; then all data rows, later ones win. Generators are
asked last all the same.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.kube.resource import Object
from strongroom.model.errors import Invalid, NotFound, Unavailable
from strongroom.sync.patterns import among_many
from strongroom.sync.providers.contract import Fetched, Find, Version
from strongroom.sync.reads import SharedReads
from strongroom.sync.render_aside import rewritten
from strongroom.sync.rewrite import Renderer
from strongroom.sync.spec import FindRef, GeneratorRef, RemoteRef, Row, Source, Spec, StoreRef
from strongroom.sync.stores import Stores
from strongroom.sync.values import decode, extract, finish, pick, whole

# To parse so many bytes takes milliseconds.
LARGE: Final = 16 * 1024


class Unsettled(Unavailable):
    """What was made before and is in use no longer could not be given its end."""

    def __init__(self, what: str) -> None:
        super().__init__("unsettled", f"what was replaced for {what} has no end yet")


class Generators(Protocol):
    """Makes values on demand."""

    def begin(self) -> None:
        """Somebody else may have worked until now, so nothing that was made here is in use."""

    async def managed(self, ref: GeneratorRef, namespace: str) -> bool:
        """Whether a generator is for this controller's class; raises Denied or Unavailable."""

    async def generate(self, ref: GeneratorRef, owner: Object, slot: str) -> Mapping[str, bytes]:
        """Values for a place in an object: fresh, or of a try that failed.

        Raises Invalid, NotFound or Unavailable.
        """

    async def settle(self, owner: Object) -> None:
        """What was made last for an object is in use, so what was made before may end.

        Raises Unsettled when it has to be called again.
        """

    def hold(self, owner: Object) -> None:
        """What was made last for an object may be in use; it stays until the next is settled."""

    async def abandon(self, owner: Object) -> None:
        """What was made since for an object is not in use yet; never raises a Refusal."""

    def forget(self, kind: str, key: tuple[str, str]) -> None:
        """An object is gone."""


# What generators made, by the place in a manifest.
Generated = Mapping[str, Mapping[str, bytes]]
_NOTHING_GOOD: Final[Generated] = {}


class NoGenerators:
    """Where none are served. Implements Generators."""

    def begin(self) -> None:
        pass

    async def managed(self, ref: GeneratorRef, namespace: str) -> bool:  # noqa: ARG002
        return True

    async def generate(self, ref: GeneratorRef, owner: Object, slot: str) -> Mapping[str, bytes]:  # noqa: ARG002
        raise NotFound(
            "no-generator",
            f"the generator {ref.kind} {ref.name} is not served",
            hint="leave this ExternalSecret to the other controller",
        )

    async def settle(self, owner: Object) -> None:
        pass

    def hold(self, owner: Object) -> None:
        pass

    async def abandon(self, owner: Object) -> None:
        pass

    def forget(self, kind: str, key: tuple[str, str]) -> None:
        pass


@dataclass(slots=True)
class Collected:
    """The values, the versions they are of by path, and what was skipped as missing."""

    data: dict[str, bytes] = field(default_factory=dict, repr=False)
    versions: dict[str, Version] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    # The versions by store (uid) and path.
    places: dict[tuple[str, str], Version] = field(default_factory=dict)
    # The stores (by uid) and remote keys of what was skipped.
    absent: set[tuple[str, str]] = field(default_factory=set)
    # What generators made for rows: a user name and its password are of one making.
    made: dict[GeneratorRef, Mapping[str, bytes]] = field(default_factory=dict, repr=False)
    # The same by the place in the manifest, as slots_of has it.
    generated: dict[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)

    def note(self, reads: SharedReads, found: Fetched) -> None:
        """Remember what was read; `places` are compared with what a store's feed says."""
        if found.version != "":
            self.versions[found.path] = found.version
        self.places[reads.uid, found.path] = found.version


class Reader:
    """Reads through the stores; rows of one key cost one read."""

    def __init__(self, stores: Stores, generators: Generators, render: Renderer) -> None:
        self._stores = stores
        self._generators = generators
        self._render = render

    async def collect(self, item: Object, spec: Spec, good: Generated = _NOTHING_GOOD) -> Collected:
        """All values; raises a Refusal when one cannot be had, and then nothing is had.

        A generator is not asked for what is `good` still, by the place in the manifest.
        """
        collected = Collected(generated=dict(good))
        used = await self._stores_of(spec, item["metadata"]["namespace"])
        for each in spec.parts:
            # All reads are on their way before the first is waited for.
            ref = each.extract if isinstance(each, Source) else each.remote
            if each.store is not None and ref is not None:
                used[each.store].begin(ref)
        found: dict[int, dict[str, bytes]] = {}
        for number in _generators_last(spec):
            collected.data = {}
            part = spec.parts[number]
            try:
                if isinstance(part, Source):
                    await self._source(collected, (item, str(number)), part, used)
                else:
                    await self._row(collected, item, part, used)
            except Absent as absent:
                if spec.deletion == "Retain":
                    raise absent.refusal from None
                self._note_missing(collected, spec, number, used)
            found[number] = collected.data
        collected.data = {}
        for number in sorted(found):
            collected.data |= found[number]
        if collected.missing:
            # Only a store that lets us in can be believed about what is not there.
            for reads in used.values():
                await reads.provider.validate()
        return collected

    async def _stores_of(self, spec: Spec, namespace: str) -> dict[StoreRef, SharedReads]:
        """The stores of a spec, which hear how long it waits at most."""
        used = {ref: await self._stores.reads(ref, namespace) for ref in sorted(spec.stores)}
        if spec.refresh_seconds:
            for reads in used.values():
                reads.pace.wanted_within(spec.refresh_seconds)
        return used

    @staticmethod
    def _note_missing(
        collected: Collected, spec: Spec, number: int, used: Mapping[StoreRef, SharedReads]
    ) -> None:
        part = spec.parts[number]
        ref = part.extract if isinstance(part, Source) else part.remote
        if part.store is not None and ref is not None:
            collected.absent.add((used[part.store].uid, ref.key))
        if number < len(spec.sources):
            source = spec.sources[number]
            key = f" (key={source.extract.key})" if source.extract else ""
            collected.missing.append(f"spec.dataFrom[{number}]{key}")
            return
        row = number - len(spec.sources)
        collected.missing.append(f"spec.data[{row}] (key={spec.rows[row].remote.key})")

    async def _row(
        self, collected: Collected, item: Object, row: Row, used: Mapping[StoreRef, SharedReads]
    ) -> None:
        ref = row.remote
        if row.generator is not None:
            if row.generator not in collected.made:
                slot = f"row-{len(collected.made)}"
                made = await self._made(collected, row.generator, item, slot)
                collected.made[row.generator] = made
            made = collected.made[row.generator]
            name = ref.property or ref.key
            if name not in made:
                raise Invalid("no-property", f"{row.generator.kind} makes no {name}")
            collected.data[row.secret_key] = decode(made[name], ref, name)
        elif row.store is not None:
            found = await _fetch(used[row.store], ref)
            collected.data[row.secret_key] = pick(found.data, ref)
            await _turn(found)
            collected.note(used[row.store], found)

    async def _source(
        self, collected: Collected, place: tuple[Object, str], source: Source,
        used: Mapping[StoreRef, SharedReads],
    ) -> None:  # fmt: skip
        anew = bool(source.rewrites)
        if source.generator is not None:
            made = await self._made(collected, source.generator, *place)
            data = await rewritten(source.rewrites, made, self._render)
            plain = RemoteRef(source.generator.name)
            collected.data |= finish(data, plain, plain.key, rewritten=anew)
        elif source.store is not None and source.extract is not None:
            ref = source.extract
            found = await _fetch(used[source.store], ref)
            data = await rewritten(source.rewrites, extract(found.data, ref), self._render)
            collected.data |= finish(data, ref, ref.key, rewritten=anew)
            collected.note(used[source.store], found)
        elif source.store is not None:
            await self._find(collected, source, used[source.store])

    async def _made(
        self, collected: Collected, ref: GeneratorRef, item: Object, slot: str
    ) -> Mapping[str, bytes]:
        if slot not in collected.generated:
            collected.generated[slot] = await self._generators.generate(ref, item, slot)
        return collected.generated[slot]

    async def _find(self, collected: Collected, source: Source, reads: SharedReads) -> None:
        ref = source.find or FindRef()
        matches = among_many(ref.name_pattern) if ref.name_pattern else None
        try:
            found = await reads.find(Find(ref.path, matches, dict(ref.tags)))
        except NotFound as refusal:
            raise Absent(refusal) from None
        raw = {name: whole(each.data) for name, each in found.items()}
        data = await rewritten(source.rewrites, raw, self._render)
        where = ref.path or ref.name_pattern or "find"
        collected.data |= finish(data, ref, where, rewritten=bool(source.rewrites))
        for each in found.values():
            collected.note(reads, each)


def slots_of(spec: Spec) -> set[str]:
    """The places that a manifest has for what generators make, as states name them. Pure."""
    sources = {str(at) for at, each in enumerate(spec.sources) if each.generator is not None}
    rows = {each.generator for each in spec.rows if each.generator is not None}
    return sources | {f"row-{at}" for at in range(len(rows))}


def _generators_last(spec: Spec) -> list[int]:
    """The numbers of the entries: what a store refuses must not have cost a generator's making."""
    return sorted(range(len(spec.parts)), key=lambda each: spec.parts[each].generator is not None)


class Absent(Exception):
    """The store answered that there is no such secret; `refusal` is what it said."""

    def __init__(self, refusal: NotFound) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


async def _turn(found: Fetched) -> None:
    """Let others go on: an object may have thousands of rows of a large value, parsed for each."""
    if isinstance(found.data, bytes) and len(found.data) > LARGE:
        await asyncio.sleep(0)


async def _fetch(reads: SharedReads, ref: RemoteRef) -> Fetched:
    try:
        return await reads.fetch(ref)
    except NotFound as refusal:
        raise Absent(refusal) from None
