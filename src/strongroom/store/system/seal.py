"""`sys/unseal`, `sys/seal`, `sys/rekey`, `sys/rekey-recovery-key` and `sys/generate-root`.

API: https://developer.hashicorp.com/vault/api-docs/system/unseal and its neighbours. Rekey and
generate-root without a token are Vault's way; here they need sudo unless the configuration
opens them, because shares alone should not be enough to try for ever.
"""

from collections.abc import Sequence
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.parameters import fields
from strongroom.store.seal.ceremony import GenerateRoot, Rekey
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.system.status import Status, raw
from strongroom.store.tokens import Grant

BEGIN_REKEY: Final = fields(
    number="secret_shares secret_threshold stored_shares",
    flag="require_verification backup",
    texts="pgp_keys",
)
BEGIN_ROOT: Final = fields(text="otp pgp_key")
SHARE: Final = fields(text="key nonce")
ROOT_GRANT: Final = Grant(policies=("root",), display_name="root", path="auth/token/root")


class Unseal:
    """Answers anybody, sealed or not."""

    def __init__(self, seal: ClusterSeal, status: Status) -> None:
        self._seal = seal
        self._status = status

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint(
                "unseal",
                {"update": self._unseal},
                public=True,
                takes=fields(text="key", flag="reset migrate"),
            ),
        )

    async def _unseal(self, call: Call) -> Result:
        key = call.text("key")
        if call.flag("reset"):
            await self._seal.reset()
        elif not key:
            raise Invalid(
                "no-key", "'key' must be specified in request body as JSON, or 'reset' set to true"
            )
        else:
            await self._seal.give_share(key, migrate=call.flag("migrate"))
        return raw(self._status.seal_status())


class SealPaths:
    """What an unsealed cluster offers about its seal."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seal = context.seal
        engine = context.engine
        self._rekeys = {
            "rekey": Rekey(engine, self._seal, "unseal"),
            "rekey-recovery-key": Rekey(engine, self._seal, "recovery"),
        }
        self._root = GenerateRoot(engine, self._seal, context.make_token, self._put_root)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("seal", {"update": self._seal_up}, sudo=True),
            *(each for name, rekey in self._rekeys.items() for each in self._rekey(name, rekey)),
            *(
                _guarded(f"generate-root{end}", "generate-root", **handlers)
                for end, handlers in (
                    ("/attempt", self._attempt()),
                    ("/update", {"update": self._give_for_root}),
                    ("", self._attempt()),
                )
            ),
        )

    def _put_root(self, transaction: Transaction, token: str) -> None:
        self._context.issue(transaction, ROOT_GRANT, token=token)

    async def _seal_up(self, call: Call) -> None:  # noqa: ARG002
        await self._seal.seal()

    def _rekey(self, name: str, rekey: Rekey) -> Sequence[Endpoint]:
        async def begin(call: Call) -> Result:
            _no_pgp(call, "pgp_keys", "backup")
            shares, threshold = call.integer("secret_shares"), call.integer("secret_threshold")
            await rekey.begin(shares, threshold, verify=call.flag("require_verification"))
            return raw(rekey.status())

        async def give(call: Call) -> Result:
            return raw(await rekey.give(_key(call), call.text("nonce")))

        async def verify(call: Call) -> Result:
            return raw(await rekey.verify(_key(call), call.text("nonce")))

        async def cancel(call: Call) -> None:  # noqa: ARG001
            await rekey.cancel()

        async def restart(call: Call) -> Result:  # noqa: ARG001
            await rekey.restart_verification()
            return raw(rekey.verification())

        return (
            _guarded(
                f"{name}/init", "rekey",
                read=lambda _: raw(rekey.status()), update=begin, delete=cancel,
            ),
            _guarded(f"{name}/update", "rekey", update=give),
            _guarded(
                f"{name}/verify", "rekey",
                read=lambda _: raw(rekey.verification()), update=verify, delete=restart,
            ),
        )  # fmt: skip

    def _attempt(self) -> dict[str, Any]:
        return {"read": self._root_status, "update": self._begin_root, "delete": self._cancel_root}

    def _root_status(self, call: Call) -> Result:  # noqa: ARG002
        return raw(self._root.status())

    async def _begin_root(self, call: Call) -> Result:
        _no_pgp(call, "pgp_key")
        return raw(await self._root.begin(call.text("otp")))

    async def _cancel_root(self, call: Call) -> None:  # noqa: ARG002
        await self._root.cancel()

    async def _give_for_root(self, call: Call) -> Result:
        return raw(await self._root.give(_key(call), call.text("nonce")))


def _guarded(pattern: str, opened_by: str, **handlers: Any) -> Endpoint:  # noqa: ANN401
    takes = BEGIN_ROOT if opened_by == "generate-root" else BEGIN_REKEY
    if pattern.endswith(("/update", "/verify")):
        takes = SHARE
    found: Any = handlers
    return Endpoint(pattern, found, sudo=True, takes=takes, opened_by=opened_by)


def _key(call: Call) -> str:
    key = call.text("key")
    if not key:
        raise Invalid("no-key", "'key' must be specified in request body as JSON")
    return key


def _no_pgp(call: Call, *names: str) -> None:
    if any(call.data.get(name) for name in names):
        raise Invalid("no-pgp", "shares encrypted with PGP keys are not supported")
