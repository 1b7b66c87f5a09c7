"""`sys/` paths about the server itself, sealed or not: health, seal-status, init, leader.

API: https://developer.hashicorp.com/vault/api-docs/system/health and its neighbours.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from strongroom.model.clock import Clock, rfc3339
from strongroom.model.errors import Invalid, Refusal
from strongroom.model.secret import Secret
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.engine.contract import ClusterRow
from strongroom.store.parameters import fields
from strongroom.store.seal.cluster import ClusterSeal, NewCluster
from strongroom.store.seal.shares import check_split, keys_reply
from strongroom.store.seal.stored import Split, StoredSeal, load_stored

# What clients gate features on; the program's own version stands beside it.
API_VERSION: Final = "1.16.0"
# Go's zero time, where Vault has nothing to say.
NEVER: Final = "0001-01-01T00:00:00Z"
DOUBTFUL: Final = (
    "the database has not confirmed the new cluster: where it says that it is not initialized,"
    " initialize it again and forget these keys"
)
HEALTH: Final = fields(
    flag="standbyok perfstandbyok",
    number="activecode standbycode drsecondarycode performancestandbycode sealedcode uninitcode",
)
INIT: Final = fields(
    number="secret_shares secret_threshold stored_shares recovery_shares recovery_threshold",
    texts="pgp_keys recovery_pgp_keys",
    text="root_token_pgp_key",
)
# Makes the cluster with these splits of the unseal and the recovery key; None when it is there.
InitialiseCluster = Callable[
    [Split | None, Split | None], Awaitable[tuple[NewCluster, Secret] | None]
]


@dataclass(frozen=True, slots=True)
class About:
    """What the server says of itself.

    `audit` and `background` say why by name: of devices that fail, and of tasks beside the
    requests that have ended by themselves.
    """

    program_version: str = ""
    api_version: str = API_VERSION
    storage_type: str = "sqlite"
    address: str = ""
    cluster_address: str = ""
    started: float = 0.0
    audit: Callable[[], Mapping[str, str]] = field(default=dict)
    background: Callable[[], Mapping[str, str]] = field(default=dict)


def raw(body: Mapping[str, Any], status: int = 0) -> Result:
    """A reply without the envelope."""
    return Result(raw=orjson.dumps(body) + b"\n", status=status)


def _status(call: Call, name: str, usual: int) -> int:
    """What a probe wants to be answered with; raises Invalid for what ends no exchange."""
    status = call.integer(name, usual)
    if not 200 <= status <= 599:
        raise Invalid("bad-parameter", f"{name} must be a status of HTTP, 200 to 599")
    return status


class Status:
    """Endpoints that answer anybody and are not recorded, as in Vault."""

    def __init__(self, seal: ClusterSeal, clock: Clock, about: About) -> None:
        self._seal = seal
        self._clock = clock
        self._about = about

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("health", {"read": self._health}, public=True, takes=HEALTH),
            Endpoint("seal-status", {"read": self._seal_status}, public=True),
            Endpoint("seal-backend-status", {"read": self._backend_status}, public=True),
            Endpoint("leader", {"read": self._leader}, public=True),
        )

    def _found(self) -> tuple[ClusterRow | None, StoredSeal | None]:
        row = self._seal.row()
        return row, load_stored(row) if row else None

    def _health(self, call: Call) -> Result:
        (row, stored), sealed = self._found(), self._seal.sealed
        mode = "unknown" if sealed else "disabled"
        body: dict[str, Any] = {
            "initialized": row is not None,
            "sealed": sealed,
            # Every node that is open serves; a sealed one calls itself standby, as Vault does.
            "standby": sealed,
            "performance_standby": False,
            "replication_performance_mode": mode,
            "replication_dr_mode": mode,
            "server_time_utc": int(self._clock.now()),
            "version": self._about.api_version,
            "strongroom_version": self._about.program_version,
        }
        if row is None:
            return raw(body, _status(call, "uninitcode", 501))
        if sealed:
            body["waiting_for"] = self._seal.waits_for(stored)
            return raw(body, _status(call, "sealedcode", 503))
        body |= {"cluster_name": row.cluster_name, "cluster_id": row.cluster_id}
        failing = self._about.audit()
        if failing:
            body["audit_failures"] = dict(failing)
        return raw(body | self._troubles(), _status(call, "activecode", 200))

    def _troubles(self) -> dict[str, Any]:
        """What goes wrong beside the requests; {} while nothing does."""
        found: dict[str, Any] = {}
        if ended := self._about.background():
            found["background_failures"] = dict(ended)
        if self._seal.backend_problem:
            found["seal_backend_problem"] = self._seal.backend_problem
        return found

    def _seal_status(self, call: Call) -> Result:  # noqa: ARG002
        return raw(self.seal_status())

    def _backend_status(self, call: Call) -> Result:  # noqa: ARG002
        """Whether the seal's backend would open the root key; people with shares always would."""
        _, stored = self._found()
        name = stored.type if stored else self._seal.setting.type
        asked_in_vain = self._seal.setting.auto is not None and self._seal.sealed
        healthy = not (asked_in_vain or self._seal.backend_problem)
        backends = [{"name": name, "healthy": healthy}]
        return raw({"healthy": healthy, "backends": backends, "fully_wrapped": True})

    def seal_status(self) -> dict[str, Any]:
        """The body of `sys/seal-status` and `sys/unseal`."""
        row, stored = self._found()
        sealed = self._seal.sealed
        progress = self._seal.progress(stored) if stored and sealed else None
        body: dict[str, Any] = {
            "type": stored.type if stored else self._seal.setting.type,
            "initialized": stored is not None,
            "sealed": sealed,
            "t": stored.split.threshold if stored else 0,
            "n": stored.split.shares if stored else 0,
            "progress": progress.given if progress else 0,
            "nonce": progress.nonce if progress else "",
            "version": self._about.api_version,
            # Vault's name and OpenBao's; a package of Python does not know when it was built.
            "build_date": "",
            "commit_date": "",
            "strongroom_version": self._about.program_version,
            "migration": bool(stored and sealed and self._seal.migrating(stored)),
            "recovery_seal": bool(stored and not stored.is_shamir),
            "storage_type": self._about.storage_type,
        }
        if row and not sealed:
            body |= {"cluster_name": row.cluster_name, "cluster_id": row.cluster_id}
        if sealed:
            body["waiting_for"] = self._seal.waits_for(stored)
        return body | self._troubles()

    def _leader(self, call: Call) -> Result:  # noqa: ARG002
        sealed, about = self._seal.sealed, self._about
        active = about.started and not sealed
        return raw(
            {
                "ha_enabled": about.storage_type == "postgresql",
                "is_self": not sealed,
                "active_time": rfc3339(about.started) if active else NEVER,
                "performance_standby_last_remote_wal": 0,
                "leader_address": "" if sealed else about.address,
                "leader_cluster_address": "" if sealed else about.cluster_address,
                "performance_standby": False,
            }
        )


class Init:
    """`sys/init`, sealed or not."""

    def __init__(self, seal: ClusterSeal, initialise: InitialiseCluster) -> None:
        self._seal = seal
        self._initialise = initialise

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("init", {"read": self._read, "update": self._init}, public=True, takes=INIT),
        )

    def _read(self, call: Call) -> Result:  # noqa: ARG002
        return raw({"initialized": self._seal.row() is not None})

    async def _init(self, call: Call) -> Result:
        if self._seal.row() is not None:
            raise _already()
        for name in ("pgp_keys", "root_token_pgp_key", "recovery_pgp_keys"):
            if call.data.get(name):
                raise Invalid("no-pgp", "shares encrypted with PGP keys are not supported")
        self._refuse_other_seals(call)
        unseal = recovery = None
        if self._seal.setting.auto is None:
            unseal = check_split(call.integer("secret_shares"), call.integer("secret_threshold"))
        elif call.integer("recovery_shares"):
            recovery = check_split(
                call.integer("recovery_shares"), call.integer("recovery_threshold")
            )
        made = await self._initialise(unseal, recovery)
        if made is None:
            raise _already()
        new, root = made
        reply: dict[str, Any] = keys_reply(new.shares)
        if new.recovery_shares:
            reply |= keys_reply(new.recovery_shares, "recovery_")
        if not new.certain:
            reply["warnings"] = [DOUBTFUL]
        return raw({**reply, "root_token": root.reveal_text()})

    def _refuse_other_seals(self, call: Call) -> None:
        """Shares of the kind that this seal does not have.

        They would be left out, and a cluster made without recovery keys never gets any.
        """
        auto = self._seal.setting.auto
        kind, other = ("secret", "recovery") if auto is None else ("recovery", "secret")
        named = [name for name in (f"{other}_shares", f"{other}_threshold") if call.integer(name)]
        if named:
            seal = "shamir" if auto is None else auto.type
            raise Invalid(
                "other-seal",
                f"parameters {','.join(named)} not applicable to seal type {seal}",
                hint=f"give {kind}_shares and {kind}_threshold; nothing was initialised",
            )


def _already() -> Refusal:
    return Invalid("already-initialised", "Vault is already initialized")
