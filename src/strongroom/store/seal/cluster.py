"""The seal of a cluster: initialise, unseal, seal, and follow what other processes did.

The state is in the database, so it is the cluster's and not a process's: with a backend every
process opens the root key by itself; with Shamir the processes of one group (workers of a
machine, or nodes that were given the same join key) share it through the database, wrapped.
"""

import asyncio
import dataclasses
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from strongroom.crypto.aead import Aead, Tampered, new_key
from strongroom.crypto.keyfile import WrappingKey
from strongroom.crypto.keyring import KeyRing
from strongroom.model.clock import Clock
from strongroom.model.errors import Invalid, Refusal, Unavailable
from strongroom.store.engine.barrier import Barrier
from strongroom.store.engine.contract import ClusterRow, Engine, Transaction
from strongroom.store.seal.backends import AutoSeal, in_time, unwrapped, wrapped_by
from strongroom.store.seal.root_key import (
    opened_ring,
    place_of,
    recovery_fits,
    sealed_recovery,
    sealed_ring,
    sealed_root,
)
from strongroom.store.seal.settling import Settling
from strongroom.store.seal.shares import Gathering, parse_share, split_key
from strongroom.store.seal.stored import (
    SHAMIR,
    Split,
    StoredSeal,
    check_moves,
    cluster_of,
    load_stored,
    merged,
    opens_when_closed,
    unseal_keys,
    with_note,
)

_INIT: Final = "an init: strongroom operator init"
_FIRST_FORM: Final = b"strongroom key ring\x1f"
RETRY_SECONDS: Final = 1.0
# How long a request waits for a backend that is being asked: probes give up soon.
PATIENCE_SECONDS: Final = 0.5
FirstRows = Callable[[Transaction], None]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SealSetting:
    """What the configuration says: the seal (None is Shamir), the one it replaces, the group."""

    auto: AutoSeal | None = None
    old: AutoSeal | None = None
    join: WrappingKey = field(default_factory=lambda: WrappingKey([new_key()]), repr=False)

    @property
    def type(self) -> str:
        """The seal's type as `sys/seal-status` shows it."""
        return self.auto.type if self.auto else SHAMIR


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an unseal stands."""

    given: int = 0
    nonce: str = ""


@dataclass(frozen=True, slots=True)
class NewCluster:
    """What an init hands out once. It is not `certain` where the database has not told."""

    shares: list[bytes] = field(repr=False)
    recovery_shares: list[bytes] = field(repr=False)
    certain: bool = True


class ClusterSeal:
    """One process's view of the cluster's seal. `changed` is called when it opens or closes."""

    def __init__(
        self, engine: Engine, barrier: Barrier, setting: SealSetting, clock: Clock
    ) -> None:
        self._engine = engine
        self._barrier = barrier
        self.setting = setting
        self.clock = clock
        self._root: bytes | None = None
        self._turn = asyncio.Lock()
        self.waiting_for = ""
        # Whether the backend was asked and refused, or did not answer.
        self.refused = False
        # Why the backend would not open the next start, "" when it would (see `keeping`).
        self.backend_problem = ""
        self._next_try = 0.0
        self._trying: asyncio.Task[bool] | None = None
        self._followed: StoredSeal | None = None
        self.changed: Callable[[], None] = _nothing

    # what is there

    @property
    def sealed(self) -> bool:
        """Whether this process has no keys."""
        return self._root is None

    def row(self) -> ClusterRow | None:
        """The cluster, None before init."""
        return self._engine.view.cluster()

    def stored(self) -> StoredSeal | None:
        """The stored seal, None before init."""
        row = self.row()
        return load_stored(row) if row else None

    @property
    def root_key(self) -> bytes:
        """The root key; raises Unavailable(`sealed`)."""
        if self._root is None:
            raise Unavailable("sealed", "Vault is sealed")
        return self._root

    def migrating(self, stored: StoredSeal) -> bool:
        """Whether the configuration names another seal than the database."""
        return stored.type != self.setting.type

    def progress(self, stored: StoredSeal) -> Progress:
        """How many shares were given."""
        gathering = self._gathering(stored)
        return Progress(len(gathering.shares), gathering.nonce) if gathering else Progress()

    def waits_for(self, stored: StoredSeal | None) -> str:
        """What it takes to open, and how much of it is there by now."""
        given = self.progress(stored).given if stored else 0
        return f"{self.waiting_for} ({given} given so far)" if given else self.waiting_for

    # init

    async def initialise(
        self, unseal: Split, recovery: Split | None, first_rows: FirstRows
    ) -> NewCluster | None:
        """Make the cluster; None when somebody was first. With a backend it is open at once."""
        cluster_id, root = str(uuid.uuid4()), new_key()
        ring = KeyRing.new(self.clock.now())
        key = new_key()
        auto = self.setting.auto
        split, check = unseal, b""
        if auto:
            split = recovery or Split()
            check = sealed_recovery(key, root, cluster_id) if recovery else b""
        wrapped, identity = await self._wrapped(root, key, cluster_id)
        stored = StoredSeal(
            self.setting.type, wrapped, sealed_ring(ring, root, cluster_id), split, check, identity
        )
        name = f"strongroom-{cluster_id[:8]}"
        row = ClusterRow(cluster_id, name, self.setting.type, stored.dumps(), self.clock.now())

        def write(transaction: Transaction) -> bool:
            if not transaction.put_cluster(row):
                return False
            self._barrier.unseal(ring)
            first_rows(transaction)
            return True

        def done(transaction: Transaction) -> bool:
            there = transaction.cluster()
            return there is not None and there.cluster_id == cluster_id

        async with self._turn:
            if not self.sealed:
                return None  # Somebody was first, and its barrier is not to be closed.
            settling = Settling(self._engine, self.clock)
            made = await settling.write(write, bool, done, self._barrier.seal_up)
            if not made.result:
                return None
            if auto is None:
                self.waiting_for = unseal_keys(split)
            elif made.certain:
                self._open(root, ring)
        shares = split_key(key, split)
        if auto:
            return NewCluster([], shares if recovery else [], made.certain)
        return NewCluster(shares, [], made.certain)

    async def _wrapped(self, root: bytes, key: bytes, cluster_id: str) -> tuple[bytes, str]:
        auto = self.setting.auto
        if auto is None:
            return sealed_root(root, key, cluster_id), ""
        return await wrapped_by(auto, root, place_of("root", cluster_id))

    # unseal

    async def unseal_by_itself(self) -> bool:
        """Open with the backend if that needs nobody; says in `waiting_for` why it did not."""
        row, stored = self.row(), self.stored()
        if row is None or stored is None:
            self.waiting_for = _INIT
            return False
        async with self._turn:
            if not self.sealed:
                return True
            try:
                root = await self._root_without_people(row, stored)
                if root is not None and stored.root:
                    opened_ring(row, root)
            except Refusal as refusal:
                said = f"{refusal.message}; {refusal.hint}" if refusal.hint else refusal.message
                self.waiting_for = f"the {stored.type} seal: {said}"
                self.refused = True
                return False
            self.refused = False
            if root is None:
                return False
            await self._use(root, row)
            return True

    @property
    def opening(self) -> bool:
        """Whether a try to open without a person is under way."""
        return self._trying is not None and not self._trying.done()

    async def try_to_open(self, patience: float = PATIENCE_SECONDS) -> None:
        """Open if that needs nobody, or wait for the try that is under way; both but for a moment.

        What a backend that hangs holds up is that one try, which goes on without who waited.
        """
        trying = self._trying
        if trying is None or trying.done():
            self._next_try = self.clock.monotonic() + RETRY_SECONDS
            work = self._engine.waiting(self.unseal_by_itself())
            trying = self._trying = asyncio.get_running_loop().create_task(work)
            trying.add_done_callback(_seen)
        done, _ = await asyncio.wait({trying}, timeout=patience)
        if done:
            trying.result()
        elif self.sealed and not self.waiting_for:
            self.waiting_for = f"the {self.setting.type} seal, which has not answered yet"

    async def _root_without_people(self, row: ClusterRow, stored: StoredSeal) -> bytes | None:
        shared = stored.shared.get(self.setting.join.key_id)
        # A seal that was Shamir's has such notes still; they do not stand in for its backend.
        own = stored.is_shamir and not self.migrating(stored)
        if shared and own and not stored.sealed:
            return self._join_unwrap(shared, "shared root")
        if self.migrating(stored):
            if not stored.is_shamir:
                self._backend_of(stored)  # Without its stanza no key of a person helps.
                if not stored.check and self.setting.auto:
                    return await self._root_by_backend(row, stored)
            self.waiting_for = (
                f"the migration of the {stored.type} seal to {self.setting.type}: "
                "strongroom operator unseal -migrate"
            )
            return None
        if stored.is_shamir:
            self.waiting_for = unseal_keys(stored.split)
            return None
        return await self._root_by_backend(row, stored)

    async def _root_by_backend(self, row: ClusterRow, stored: StoredSeal) -> bytes:
        auto = self._backend_of(stored)
        if not stored.root:
            return await self._first_form(auto, row)
        backends, place = [auto], place_of("root", row.cluster_id)
        if self._leaves_a_key and self.setting.old:
            backends.append(self.setting.old)
        return await unwrapped(backends, stored.root, place)

    async def opens_again(self) -> None:
        """Have the backend open the root key as the next start will; raises what it refuses by."""
        try:
            row, stored = self.row(), self.stored()
        except Refusal:
            return  # The database's, and told as such.
        if row is None or stored is None:
            return
        if self.migrating(stored):
            check_moves(stored, self.setting.type)
        if stored.root and not stored.is_shamir:
            opened_ring(row, await self._root_by_backend(row, stored))

    def _backend_of(self, stored: StoredSeal) -> AutoSeal:
        auto = self.setting.old if self.migrating(stored) else self.setting.auto
        if auto is None or auto.type != stored.type:
            raise Invalid(
                "no-old-seal",
                f"the database is sealed by {stored.type}, which the configuration does not name",
                hint=f'name it; to leave it: seal "{stored.type}" {{ disabled = "true" ... }}',
            )
        return auto

    @property
    def _leaves_a_key(self) -> bool:
        """Whether the seal to be left is the configured one with another key, or elsewhere."""
        auto, old = self.setting.auto, self.setting.old
        return auto is not None and old is not None and auto.type == old.type

    @staticmethod
    async def _first_ring(auto: AutoSeal, row: ClusterRow) -> bytes:
        async with in_time(auto):
            return await auto.wrapper.unwrap(
                row.wrapped_ring, _FIRST_FORM + row.cluster_id.encode()
            )

    async def _first_form(self, auto: AutoSeal, row: ClusterRow) -> bytes:
        plain, root = await self._first_ring(auto, row), new_key()
        wrapped, identity = await self._wrapped(root, b"", row.cluster_id)
        ring = Aead(root).seal(plain, place_of("ring", row.cluster_id))
        better = StoredSeal(auto.type, wrapped, ring, identity=identity)

        def convert(transaction: Transaction) -> ClusterRow | None:
            now = transaction.cluster()
            if now is not None and now.wrapped_ring != row.wrapped_ring:
                return now
            transaction.replace_ring(better.dumps())
            return None

        earlier = await self._engine.transact(convert)
        if earlier is None:
            return root
        # Another node was first, and its root key is the cluster's.
        stored = load_stored(earlier)
        return await self._root_by_backend(earlier, stored)

    async def give_share(self, text: str, *, migrate: bool = False) -> None:
        """Take one share; opens when it was the last. Raises Invalid for a wrong one."""
        share = parse_share(text)
        async with self._turn:
            row = cluster_of(self._engine.view)
            if not self.sealed:
                return
            stored = load_stored(row)
            self._check_migration(stored, migrate=migrate)
            if not stored.is_shamir and not stored.check:
                raise Invalid(
                    "no-recovery-keys",
                    f"the {stored.type} seal of this cluster has no recovery keys",
                    hint="restart the server: it unseals by itself",
                )
            stored, gathering = await self._gather(share)
            key = self._combined(gathering, stored)
            if key is None and len(gathering.shares) < stored.split.threshold:
                return
            await self._forget_shares()
            root = await self._root_by_people(row, stored, key)
            if self.migrating(stored):
                stored = await self._migrated(row, stored, key or b"", root)
            await self._use(root, row)

    def _check_migration(self, stored: StoredSeal, *, migrate: bool) -> None:
        if self.migrating(stored) != migrate:
            what = "is needed" if not migrate else "is not needed"
            raise Invalid(
                "migration",
                f"the seal of the database is {stored.type}, the configured one "
                f"{self.setting.type}; 'migrate' {what}",
                hint="" if migrate else "strongroom operator unseal -migrate",
            )
        if migrate and not stored.is_shamir:
            self._backend_of(stored)

    @staticmethod
    def _combined(gathering: Gathering, stored: StoredSeal) -> bytes | None:
        try:
            return gathering.key(stored.split.threshold)
        except Invalid:
            return None

    async def _root_by_people(
        self, row: ClusterRow, stored: StoredSeal, key: bytes | None
    ) -> bytes:
        wrong = Invalid(
            "wrong-keys", "the keys do not unseal: invalid key", hint="begin again with the first"
        )
        if key is None or len(key) != 32:
            raise wrong
        try:
            if stored.is_shamir:
                return Aead(key).open(stored.root, place_of("root", row.cluster_id))
            root = await self._root_by_backend(row, stored)
            if not recovery_fits(stored, root, key, row.cluster_id):
                raise wrong
            return root
        except Tampered:
            raise wrong from None

    async def _migrated(
        self, row: ClusterRow, stored: StoredSeal, key: bytes, root: bytes
    ) -> StoredSeal:
        """Wrapped by the configured seal. People keep their shares: unseal and recovery keys."""
        wrapped, identity = await self._wrapped(root, key, row.cluster_id)
        check = sealed_recovery(key, root, row.cluster_id) if key else b""
        better = dataclasses.replace(
            stored,
            type=self.setting.type,
            root=wrapped,
            identity=identity,
            check=check if self.setting.auto else b"",
        )
        _log.info("seal migrated from %s to %s", stored.type, better.type)
        return await self.change(lambda now: merged(now, stored, better))

    # the shares given so far, in the database under the group's key

    async def _gather(self, share: bytes) -> tuple[StoredSeal, Gathering]:
        found: list[Gathering] = []

        def step(stored: StoredSeal) -> StoredSeal:
            gathering = (self._gathering(stored) or Gathering.begin()).with_share(share)
            found[:] = [gathering]
            note = self._join_wrap(gathering.dumps(), "shares")
            group = self.setting.join.key_id
            return dataclasses.replace(stored, gathered=with_note(stored.gathered, group, note))

        return await self.change(step), found[0]

    async def reset(self) -> None:
        """Forget the shares given so far."""
        if self.row() is not None:
            await self._forget_shares()

    async def _forget_shares(self) -> None:
        group = self.setting.join.key_id
        await self.change(
            lambda stored: dataclasses.replace(
                stored, gathered=with_note(stored.gathered, group, b"")
            )
        )

    def _gathering(self, stored: StoredSeal) -> Gathering | None:
        note = stored.gathered.get(self.setting.join.key_id)
        return Gathering.loads(self._join_unwrap(note, "shares")) if note else None

    def _join_wrap(self, content: bytes, what: str) -> bytes:
        return self.setting.join.wrap(content, place_of(what, ""))

    def _join_unwrap(self, note: bytes, what: str) -> bytes:
        return self.setting.join.unwrap(note, place_of(what, ""))

    # open, close, follow

    async def _use(self, root: bytes, row: ClusterRow) -> None:
        """Open, unless somebody has closed the cluster since it was as in `row`."""
        fresh = self._engine.view.cluster() or row
        before, stored = load_stored(row), load_stored(fresh)
        ring, better = opened_ring(fresh, root), stored
        if before.sealed or not stored.sealed:
            better = await self._refreshed(stored, root, row.cluster_id)
        if better != stored:
            better = await self.change(lambda now: merged(now, stored, better))
        if better.root != stored.root:
            _log.info("root key wrapped anew by the %s seal: %s", better.type, better.identity)
        if better.sealed:  # Meanwhile; whoever did that has the last word.
            self.waiting_for = opens_when_closed(better)
            return
        self._open(root, ring)

    async def _refreshed(self, stored: StoredSeal, root: bytes, cluster_id: str) -> StoredSeal:
        """What should be stored now: open for the group, wrapped by the backend's newest key."""
        stored = dataclasses.replace(stored, sealed=False)
        if self.setting.auto is None:
            group = self.setting.join.key_id
            if group not in stored.shared:
                note = self._join_wrap(root, "shared root")
                stored = dataclasses.replace(stored, shared=with_note(stored.shared, group, note))
            return stored
        try:
            async with in_time(self.setting.auto):
                identity = await self.setting.auto.wrapper.identity()
            same = identity == stored.identity and stored.type == self.setting.type
            if same and await self._opens(stored, cluster_id):
                return stored
            wrapped, identity = await self._wrapped(root, b"", cluster_id)
        except Refusal as refusal:
            # It opened; a fresh wrap can wait for the next start.
            _log.warning("the root key was not wrapped anew: %s", refusal.message)
            return stored
        return dataclasses.replace(stored, type=self.setting.type, root=wrapped, identity=identity)

    async def _opens(self, stored: StoredSeal, cluster_id: str) -> bool:
        """Whether the configured backend does, and not the one of its type that is to be left."""
        auto = self.setting.auto
        if auto is None or not self._leaves_a_key:
            return True
        try:
            await unwrapped([auto], stored.root, place_of("root", cluster_id))
        except Refusal:
            return False
        return True

    def _open(self, root: bytes, ring: KeyRing) -> None:
        self._root = root
        self._barrier.unseal(ring, self.ring_of)
        self.waiting_for = ""
        _log.info("unsealed")
        self.changed()

    def _close(self) -> None:
        if self._root is None:
            return
        self._root = None
        self._barrier.seal_up()
        _log.info("sealed")
        self.changed()

    async def seal(self) -> None:
        """Seal the whole cluster: this process now, the others as they notice."""
        async with self._turn:
            await self.change(
                lambda stored: dataclasses.replace(stored, sealed=True, shared={}, gathered={})
            )
            self.waiting_for = opens_when_closed(self.stored())
            self._close()

    async def follow(self) -> None:
        """Do as the cluster did: close when it was sealed, open when that needs nobody."""
        stored = self.stored()
        if stored is None:
            self.waiting_for = _INIT
            return
        if stored.sealed:
            self.waiting_for = opens_when_closed(stored)
            self._close()
        if stored.sealed or not self.sealed:
            return
        if self.waiting_for == _INIT:
            self.waiting_for = ""  # Somebody has.
        # What others have changed may open it; a backend that is away is asked once a second.
        due = stored != self._followed or self.clock.monotonic() >= self._next_try
        self._followed = stored
        if self.setting.join.key_id in stored.shared or (due and not self.opening):
            await self.try_to_open()

    def notice(self) -> None:
        """Close at once when another process has sealed the cluster; a read."""
        stored = self.stored()
        if stored is not None and stored.sealed:
            self.waiting_for = opens_when_closed(stored)
            self._close()

    async def change(self, step: Callable[[StoredSeal], StoredSeal]) -> StoredSeal:
        """Replace the stored seal in one transaction; returns the new one."""

        def write(transaction: Transaction) -> StoredSeal:
            row = cluster_of(transaction)
            old = load_stored(row)
            better = step(old)
            if better != old:
                transaction.replace_ring(better.dumps())
            return better

        return await self._engine.transact(write)

    def ring_of(self, row: ClusterRow) -> KeyRing:
        """The key ring of a cluster row; raises Unavailable(`sealed`), Denied when damaged."""
        return opened_ring(row, self.root_key)

    async def ring_by_backend(self, row: ClusterRow) -> KeyRing:
        """The key ring of a cluster that this configuration opens, without opening it here.

        Raises Refusal when the backend is another, is away, or refuses, and for a Shamir seal.
        """
        stored = load_stored(row)
        if stored.is_shamir:
            raise Invalid(
                "keys-of-people",
                "the cluster is sealed by Shamir shares, which a server alone takes",
                hint="restore through a server that is unsealed, or without -config and"
                " -seal-key-file",
            )
        if not stored.root:
            return KeyRing.loads(await self._first_ring(self._backend_of(stored), row))
        return opened_ring(row, await self._root_by_backend(row, stored))

    def put_ring(self, transaction: Transaction, ring: KeyRing) -> None:
        """Store a rotated key ring inside a transaction; the seal itself is not asked."""
        row = cluster_of(transaction)
        stored = load_stored(row)
        sealed = sealed_ring(ring, self.root_key, row.cluster_id)
        transaction.replace_ring(dataclasses.replace(stored, ring=sealed).dumps())


def _seen(trying: "asyncio.Task[bool]") -> None:
    """How a try ended is told to who waited; nobody may have."""
    if not trying.cancelled():
        trying.exception()


def _nothing() -> None:
    """Nobody listens yet."""
