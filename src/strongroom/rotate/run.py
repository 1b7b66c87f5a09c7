"""Executes a rotation step by step; every step may be repeated, and the world may end between two.

What is printed is what is done: the dry run and the run share the plan.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from strongroom.model.clock import Clock, parse_rfc3339, rfc3339
from strongroom.model.errors import Conflict, Denied, Invalid, NotFound, Refusal, Unavailable
from strongroom.model.reference import SecretRef
from strongroom.rotate.consumers import Consumer, Ledger
from strongroom.rotate.evidence import Evidence
from strongroom.rotate.generators import MakePassword, PasswordGenerator
from strongroom.rotate.machine import (
    DONE,
    MARK,
    MARK_BYTES,
    VERSIONS_KEPT,
    Observed,
    Rotation,
    Step,
    dropped_by,
    next_step,
    observe,
    retired_by,
)
from strongroom.wire.vault import VaultClient

POLL_SECONDS: Final = 0.5
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will happen, and who holds what now."""

    ref: SecretRef
    rotation: Rotation
    retired: tuple[int, ...]
    ledger: Ledger
    resumed: bool
    # What the write itself ends for good, where only so many versions are kept.
    dropped: tuple[int, ...] = ()

    def lines(self) -> list[str]:
        """In order of execution."""
        old, new = self.rotation.old, self.rotation.new
        fields = ", ".join(self.rotation.fields)
        first = "go on with" if self.resumed else "record the intent of"
        count = len(self.ledger.consumers)
        wait = f"wait until {count} consumers show version {new}"
        if count < 2:
            wait = (
                f"wait until the one consumer shows version {new}"
                if count
                else "wait for nobody: no consumer is known"
            )
        destroyed = f", which destroys {_versions(self.dropped)}" if self.dropped else ""
        return [
            f"{first} the rotation of {self.ref} from version {old} to {new}",
            f"write version {new} with a new {fields}{destroyed}; every other field stays",
            wait,
            f"delete {_versions(self.retired)} (undelete brings {_them(self.retired)} back)",
        ]


def _versions(numbers: tuple[int, ...]) -> str:
    word = "version" if len(numbers) == 1 else "versions"
    return f"{word} {', '.join(map(str, numbers)) or 'none'}"


def _them(numbers: tuple[int, ...]) -> str:
    return "it" if len(numbers) == 1 else "them"


def _check_dropped(
    ref: SecretRef, rotation: Rotation, dropped: tuple[int, ...], ledger: Ledger
) -> None:
    """Raises Invalid(`too-few-versions`) where the write ends what nobody has left yet."""
    held = [each for each in ledger.consumers if each.version in dropped]
    if rotation.old not in dropped and not held:
        return
    who = "; ".join(f"{each.kind} {each.name} holds version {each.version}" for each in held)
    raise Invalid(
        "too-few-versions",
        f"{ref} keeps so few versions that writing {rotation.new} would destroy"
        f" {_versions(dropped)} at once{': ' if who else ''}{who}",
        hint="let it keep more: strongroom kv metadata patch -max-versions=10"
        f" {ref.mount}/{ref.path}",
    )


def _check_still(plan: Plan, seen: Observed) -> None:
    if seen.current != plan.rotation.old:
        raise Conflict(
            "changed-meanwhile",
            f"{plan.ref} has version {seen.current} now, by another rotation or a write,"
            " and nothing was begun",
            hint="look at it, and run rotate again if it is to be rotated once more",
        )


def _check_asked(ref: SecretRef, rotation: Rotation, fields: tuple[str, ...]) -> None:
    """Raises Conflict where what is under way would leave as it is what was asked for."""
    if set(rotation.fields) != set(fields):
        other, asked = ", ".join(rotation.fields), ", ".join(fields)
        raise Conflict(
            "another-rotation",
            f"a rotation of {other} of {ref} is under way, and {asked} was asked for",
            hint="go on with it by " + " ".join(f"--field {each}" for each in rotation.fields)
            + ", or forget it with --abandon",
        )  # fmt: skip


def _check_ours(ref: SecretRef, ours: Rotation | None, seen: Observed) -> None:
    """Raises Conflict where the intent that stands there is somebody else's.

    Two who begin at once overwrite each other's: one of them is to find out, or both would say
    that they are done.
    """
    if seen.rotation is not None and seen.rotation != ours:
        raise Conflict(
            "another-rotation",
            f"somebody else rotates {', '.join(seen.rotation.fields)} of {ref} at the same time",
            hint="wait until that is done, then look whether anything is left to rotate",
        )
    if seen.rotation is None and ours is not None:
        raise Conflict(
            "changed-meanwhile",
            f"the rotation of {ref} was finished or abandoned by somebody else,"
            " and this one goes no further",
            hint="look at it, and run rotate again if it is to be rotated once more",
        )


def _begun_too_late(ref: SecretRef, rotation: Rotation, seen: Observed) -> Conflict:
    return Conflict(
        "another-rotation",
        f"{ref} has version {seen.current} by another rotation that began at the same time;"
        f" {', '.join(rotation.fields)} was not rotated by this one",
        hint="look whether anything is left to rotate, then run it again; where an intent is left,"
        " after --abandon",
    )


def rights_for(ref: SecretRef, *, is_written: bool) -> dict[str, tuple[str, ...]]:
    """The capabilities that a rotation needs by path, all or what is left once it is written."""
    needed = {
        f"{ref.mount}/metadata/{ref.path}": ("read", "patch"),
        f"{ref.mount}/delete/{ref.path}": ("update",),
    }
    return needed if is_written else {ref.api_path: ("read", "update"), **needed}


def missing_rights(needed: Mapping[str, tuple[str, ...]], said: Mapping[str, Any]) -> list[str]:
    """What of them a store's answer about the token's capabilities lacks."""
    return [
        f"{capability} on {path}"
        for path, capabilities in needed.items()
        for capability in capabilities
        if not {capability, "root"} & set(said.get(path) or ())
    ]


class Blocked(Unavailable):
    """Consumers did not move in time; nothing was retired."""

    def __init__(self, ref: SecretRef, behind: tuple[Consumer, ...]) -> None:
        names = "; ".join(
            f"{each.kind} {each.name} holds version {each.version}" for each in behind
        )
        remedies = "; ".join(dict.fromkeys(each.remedy for each in behind if each.remedy))
        super().__init__(
            "consumers-behind", f"{ref}: the old version stays, {names}", hint=remedies
        )
        self.behind = behind


class Runner:
    """One rotation of one secret."""

    def __init__(
        self, store: VaultClient, evidence: Evidence, clock: Clock, make: MakePassword
    ) -> None:
        self._store = store
        self._evidence = evidence
        self._clock = clock
        self._make = make

    async def plan(self, ref: SecretRef, generator: PasswordGenerator) -> Plan:
        """Read everything, change nothing; raises NotFound, Invalid or Conflict."""
        metadata = await self._store.kv2_metadata(ref.mount, ref.path)
        seen = observe(metadata, self._clock.now())
        if seen.current not in seen.live:
            raise NotFound("no-current-version", f"{ref} has no current version to rotate from")
        rotation = seen.rotation
        if rotation is None:
            rotation = Rotation(seen.current, seen.current + 1, generator.fields, self._clock.now())
            if len(rotation.dumps()) > MARK_BYTES:
                raise Invalid(
                    "too-many-fields", "the secret's metadata has no room for so many fields",
                    hint="rotate some of them, then the others",
                )  # fmt: skip
            current = await self._store.kv2_read(ref.mount, ref.path, seen.current)
            generator.next(current.data, self._make)
        else:
            _check_asked(ref, rotation, generator.fields)
            next_step(seen, all_moved=False)
            await self._check_written(ref, seen)
        written = await self._written(ref, rotation)
        ledger = await self._evidence.ledger(ref, written)
        dropped = dropped_by(rotation, seen, await self._kept(ref, metadata))
        _check_dropped(ref, rotation, dropped, ledger)
        retired = tuple(each for each in retired_by(rotation, seen) if each not in dropped)
        return Plan(ref, rotation, retired, ledger, seen.rotation is not None, dropped)

    async def run(
        self,
        ref: SecretRef,
        generator: PasswordGenerator,
        seconds: float,
        tell: Tell,
        plan: Plan | None = None,
    ) -> None:
        """Go on until it is done; raises Blocked when consumers do not move in that time.

        With a plan nothing but that is begun: Conflict when the secret is another meanwhile.
        """
        deadline = self._clock.monotonic() + seconds
        told: tuple[Consumer, ...] = ()
        ended: set[int] = set()
        ours, checked = await self._under_way(ref, plan), False
        await self._check_rights(ref)
        while True:
            seen = await self._observe(ref)
            _check_ours(ref, ours, seen)
            checked = checked or await self._check_written(ref, seen)
            # By a clock behind the store's, what was just deleted has its deletion before it.
            seen = replace(seen, live=tuple(each for each in seen.live if each not in ended))
            began = self._clock.monotonic()
            behind, known = await self._behind(ref, seen)
            took = self._clock.monotonic() - began
            step = next_step(seen, all_moved=not behind)
            if step is Step.INTEND:
                ours = await self._intend(ref, generator, seen, plan, tell)
                continue
            if step is Step.WAIT:
                if behind != told:
                    told = behind
                    names = ", ".join(f"{each.kind} {each.name}" for each in behind)
                    tell(f"waiting for {len(behind)}: {names}")
                if self._clock.monotonic() >= deadline:
                    raise Blocked(ref, behind)
                # A cluster with so much in it that a look takes long has others to serve too.
                await self._clock.sleep(max(POLL_SECONDS, took))
                continue
            if step is Step.RETIRE:
                said = "every consumer moved" if known else "no consumer is known"
                ended.update(await self._retire(ref, seen, said, tell))
            else:
                await self._take(step, ref, generator, seen, tell)
            if step is Step.FINISH:
                return

    async def _check_rights(self, ref: SecretRef) -> None:
        """Raises Denied where the token may not do what is left; nothing has been written then."""
        seen = await self._observe(ref)
        is_written = seen.rotation is not None and seen.current == seen.rotation.new
        needed = rights_for(ref, is_written=is_written)
        try:
            body = {"paths": list(needed)}
            reply = await self._store.request("POST", "sys/capabilities-self", body)
        except (Denied, Invalid, NotFound):
            return  # A token may be kept from asking what it may do.
        missing = missing_rights(needed, reply.get("data") or reply)
        if missing:
            raise Denied(
                "rights-missing",
                f"{ref}: the token may not do all that a rotation does: {', '.join(missing)}",
                hint="nothing was begun or changed; a policy with these is needed",
            )

    async def abandon(self, ref: SecretRef) -> bool:
        """Forget a rotation that was begun; no version is touched. False when there was none."""
        seen = await self._observe(ref)
        if seen.rotation is None:
            return False
        await self._mark(ref, {MARK: None})
        return True

    async def _under_way(self, ref: SecretRef, plan: Plan | None) -> Rotation | None:
        if plan is not None:
            return plan.rotation if plan.resumed else None
        return (await self._observe(ref)).rotation

    async def _behind(self, ref: SecretRef, seen: Observed) -> tuple[tuple[Consumer, ...], int]:
        """Who stays behind the new version, and of how many consumers; nobody before there is."""
        if seen.rotation is None or seen.current != seen.rotation.new:
            return (), 0
        written = await self._written(ref, seen.rotation)
        ledger = await self._evidence.ledger(ref, written)
        return ledger.behind(seen.rotation.new), len(ledger.consumers)

    async def _check_written(self, ref: SecretRef, seen: Observed) -> bool:
        """Whether the new version is there and by the intent that stands; False before there is.

        Raises Conflict where it is another's: an intent may have been overwritten by one for other
        fields after its value was written, and would end without a new value for those.
        """
        rotation = seen.rotation
        if rotation is None or seen.current != rotation.new:
            return False
        if seen.rotated.startswith(f"{rotation.old} to {rotation.new} "):
            raise _begun_too_late(ref, rotation, seen)
        if {rotation.old, rotation.new} <= set(seen.live):
            old = (await self._store.kv2_read(ref.mount, ref.path, rotation.old)).data
            new = (await self._store.kv2_read(ref.mount, ref.path, rotation.new)).data
            if {name for name in {**old, **new} if old.get(name) != new.get(name)} != set(
                rotation.fields
            ):
                raise Conflict(
                    "written-in-between",
                    f"version {rotation.new} does not differ from {rotation.old} in"
                    f" {', '.join(rotation.fields)} alone, so somebody else wrote it",
                    hint="look at both versions, then abandon with --abandon and start again",
                )
        return True

    async def _intend(
        self,
        ref: SecretRef,
        generator: PasswordGenerator,
        seen: Observed,
        plan: Plan | None,
        tell: Tell,
    ) -> Rotation:
        if plan is not None:
            _check_still(plan, seen)
        started = Rotation(seen.current, seen.current + 1, generator.fields, self._clock.now())
        await self._mark(ref, {MARK: started.dumps()})
        seen = await self._observe(ref)
        if seen.current != started.old:
            # It stood here for a moment instead of an intent whose value is written already.
            await self._mark(ref, {MARK: None})
            raise _begun_too_late(ref, started, seen)
        tell(f"intent recorded: version {started.old} to {started.new}")
        return started

    async def _take(
        self, step: Step, ref: SecretRef, generator: PasswordGenerator, seen: Observed, tell: Tell
    ) -> None:
        rotation = seen.rotation
        if rotation is None:
            return
        if step is Step.WRITE:
            old = await self._store.kv2_read(ref.mount, ref.path, rotation.old)
            again = PasswordGenerator(rotation.fields, generator.length, generator.alphabet)
            data = again.next(old.data, self._make)
            version = await self._store.kv2_write(ref.mount, ref.path, data, cas=rotation.old)
            if version != rotation.new:
                raise Conflict(
                    "written-in-between", f"version {version} came instead of {rotation.new}"
                )
            tell(f"version {version} written")
        else:
            said = f"{rotation.old} to {rotation.new} at {rfc3339(self._clock.now())}"
            await self._mark(ref, {MARK: None, DONE: said})
            tell("done")

    async def _retire(
        self, ref: SecretRef, seen: Observed, said: str, tell: Tell
    ) -> tuple[int, ...]:
        retired = retired_by(seen.rotation, seen) if seen.rotation is not None else ()
        await self._store.kv2_delete(ref.mount, ref.path, retired)
        tell(f"{said}; deleted {_versions(retired)}")
        return retired

    async def _observe(self, ref: SecretRef) -> Observed:
        metadata = await self._store.kv2_metadata(ref.mount, ref.path)
        return observe(metadata, self._clock.now())

    async def _kept(self, ref: SecretRef, metadata: Mapping[str, Any]) -> int:
        """How many versions the engine keeps of the secret: the more of what it and the mount say.

        https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2#max_versions
        """
        of_secret, of_mount = int(metadata.get("max_versions") or 0), 0
        try:
            reply = await self._store.request("GET", f"{ref.mount}/config")
            of_mount = int(reply.within("data").get("max_versions") or 0)
        except Refusal:
            pass  # A token of an application's owner need not read it.
        return max(of_secret, of_mount) or VERSIONS_KEPT

    async def _mark(self, ref: SecretRef, custom: dict[str, str | None]) -> None:
        path = f"{ref.mount}/metadata/{ref.path}"
        await self._store.request("PATCH", path, {"custom_metadata": custom})

    async def _written(self, ref: SecretRef, rotation: Rotation) -> float:
        metadata = await self._store.kv2_metadata(ref.mount, ref.path)
        entry = (metadata.get("versions") or {}).get(str(rotation.new))
        return parse_rfc3339(entry["created_time"]) if entry else 0.0
