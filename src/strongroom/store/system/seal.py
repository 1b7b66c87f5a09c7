"""`sys/unseal`, `sys/seal`, `sys/rekey`, `sys/rekey-recovery-key` and `sys/generate-root`.

API: https://developer.hashicorp.com/vault/api-docs/system/unseal and its neighbours. Rekey and
generate-root without a token are Vault's way; here they need sudo unless the configuration
opens them, because shares alone should not be enough to try for ever. OpenBao's paths for who has
a token, `sys/rotate/root`, `sys/rotate/recovery` and `sys/generate-root-token`, are the same
attempts, answered under `data`: https://openbao.org/api-docs/system/rotate/.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction
from strongroom.store.parameters import Fields, fields
from strongroom.store.seal.ceremony import GenerateRoot, Rekey
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.seal.settling import AROUND_SECONDS, ASK_SECONDS
from strongroom.store.system.status import Status, raw
from strongroom.store.tokens import Grant

BEGIN_REKEY: Final = fields(
    number="secret_shares secret_threshold stored_shares",
    flag="require_verification backup",
    texts="pgp_keys",
)
BEGIN_ROOT: Final = fields(text="otp pgp_key")
SHARE: Final = fields(text="key nonce")
Reply = Callable[[Mapping[str, Any]], Result]
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
        # A call that is broken off tells nobody what it has made.
        seconds = min(ASK_SECONDS, context.request_seconds - AROUND_SECONDS)
        self._rekeys = {
            "rekey": Rekey(engine, self._seal, "unseal", seconds),
            "rekey-recovery-key": Rekey(engine, self._seal, "recovery", seconds),
        }
        self._root = GenerateRoot(engine, self._seal, context.make_token, self._put_root)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("seal", {"update": self._seal_up}, sudo=True),
            *self._rekey("rekey", self._rekeys["rekey"], raw, "rekey"),
            *self._rekey("rekey-recovery-key", self._rekeys["rekey-recovery-key"], raw, "rekey"),
            *self._generate_root("generate-root", raw, "generate-root"),
            _guarded("generate-root", BEGIN_ROOT, "generate-root", **self._attempt(raw)),
            *self._rekey("rotate/root", self._rekeys["rekey"], Result, ""),
            *self._rekey("rotate/recovery", self._rekeys["rekey-recovery-key"], Result, ""),
            *self._generate_root("generate-root-token", Result, ""),
        )

    def _put_root(self, transaction: Transaction, token: str) -> None:
        self._context.issue(transaction, ROOT_GRANT, token=token)

    async def _seal_up(self, call: Call) -> None:  # noqa: ARG002
        await self._seal.seal()

    def _rekey(self, name: str, rekey: Rekey, reply: Reply, opened_by: str) -> Sequence[Endpoint]:
        async def begin(call: Call) -> Result:
            _no_pgp(call, "pgp_keys", "backup")
            shares, threshold = call.integer("secret_shares"), call.integer("secret_threshold")
            await rekey.begin(shares, threshold, verify=call.flag("require_verification"))
            return reply(rekey.status())

        async def give(call: Call) -> Result:
            _refuse_wrapped(call, reply)
            return reply(await rekey.give(_key(call), call.text("nonce")))

        async def verify(call: Call) -> Result:
            return reply(await rekey.verify(_key(call), call.text("nonce")))

        async def cancel(call: Call) -> None:  # noqa: ARG001
            await rekey.cancel()

        async def restart(call: Call) -> Result:  # noqa: ARG001
            await rekey.restart_verification()
            return reply(rekey.verification())

        return (
            _guarded(
                f"{name}/init", BEGIN_REKEY, opened_by,
                read=lambda _: reply(rekey.status()), update=begin, delete=cancel,
            ),
            _guarded(f"{name}/update", SHARE, opened_by, update=give),
            _guarded(
                f"{name}/verify", SHARE, opened_by,
                read=lambda _: reply(rekey.verification()), update=verify, delete=restart,
            ),
        )  # fmt: skip

    def _generate_root(self, name: str, reply: Reply, opened_by: str) -> Sequence[Endpoint]:
        async def give(call: Call) -> Result:
            _refuse_wrapped(call, reply)
            return reply(await self._root.give(_key(call), call.text("nonce")))

        return (
            _guarded(f"{name}/attempt", BEGIN_ROOT, opened_by, **self._attempt(reply)),
            _guarded(f"{name}/update", SHARE, opened_by, update=give),
        )

    def _attempt(self, reply: Reply) -> dict[str, Any]:
        async def begin(call: Call) -> Result:
            _no_pgp(call, "pgp_key")
            return reply(await self._root.begin(call.text("otp")))

        async def cancel(call: Call) -> None:  # noqa: ARG001 - the handler's shape
            await self._root.cancel()

        return {"read": lambda _: reply(self._root.status()), "update": begin, "delete": cancel}


def _guarded(
    pattern: str,
    takes: Fields,
    opened_by: str,
    **handlers: Any,  # noqa: ANN401
) -> Endpoint:
    found: Any = handlers
    return Endpoint(pattern, found, sudo=True, takes=takes, opened_by=opened_by)


def _key(call: Call) -> str:
    key = call.text("key")
    if not key:
        raise Invalid("no-key", "'key' must be specified in request body as JSON")
    return key


def _refuse_wrapped(call: Call, reply: Reply) -> None:
    """Raise Invalid(`not-wrapped`) where what is told once would be wrapped, which may fail.

    The keys of before are out of force by then: with the new ones lost the cluster never opens
    again. What is answered `raw` is not wrapped, whatever is asked.
    """
    if reply is not raw and call.wrap_seconds:
        raise Invalid(
            "not-wrapped", "new keys and root tokens are not wrapped",
            hint="ask without X-Vault-Wrap-TTL (-wrap-ttl, VAULT_WRAP_TTL)",
        )  # fmt: skip


def _no_pgp(call: Call, *names: str) -> None:
    if any(call.data.get(name) for name in names):
        raise Invalid("no-pgp", "shares encrypted with PGP keys are not supported")
