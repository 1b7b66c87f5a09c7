"""What holders of key shares do together on an unsealed cluster: rekey, and a new root token.

An attempt and the shares given to it are a sealed document, so it does not matter which process
a holder reaches. API: https://developer.hashicorp.com/vault/api-docs/system/rekey and
https://developer.hashicorp.com/vault/api-docs/system/generate-root.
"""

import base64
import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from strongroom.crypto.aead import new_key
from strongroom.crypto.tokens import BASE62, constant_time_equal, random_text
from strongroom.model.errors import Invalid
from strongroom.store.engine.contract import Engine, Transaction
from strongroom.store.seal.cluster import ClusterSeal
from strongroom.store.seal.root_key import opens_root, recovery_fits, sealed_recovery, sealed_root
from strongroom.store.seal.settling import ASK_SECONDS, Settling
from strongroom.store.seal.shares import (
    Gathering,
    check_split,
    keys_reply,
    parse_share,
    split_key,
)
from strongroom.store.seal.stored import Split, StoredSeal, load_stored

MOUNT: Final = "seal"
KIND: Final = "ceremony"
DOUBTFUL: Final = (
    "the database has not confirmed that the new keys hold: keep the old ones as well, until the"
    " new ones have unsealed a server or made a root token"
)
Attempt = dict[str, Any]
Target = Literal["unseal", "recovery"]
# Writes a root token of this text inside a transaction.
NewRoot = Callable[[Transaction, str], None]


@dataclass(frozen=True, slots=True)
class _Given:
    """What one share led to: the attempt as it is now, and the key when it was the last."""

    attempt: Attempt
    key: bytes | None


class _Ceremony:
    """An attempt by its name in the database."""

    def __init__(self, engine: Engine, seal: ClusterSeal, name: str) -> None:
        self._engine = engine
        self._seal = seal
        self._name = name

    def _stored(self, transaction: Transaction) -> StoredSeal:
        row = transaction.cluster()
        if row is None:
            raise Invalid("not-initialised", "Vault is not initialized")
        stored = load_stored(row)
        if not stored.is_shamir and not stored.check:
            raise Invalid("no-recovery-keys", "this cluster has no recovery keys")
        return stored

    def _attempt(self) -> Attempt | None:
        return self._engine.view.document(MOUNT, KIND, self._name)

    def required(self) -> int:
        """How many holders of the present keys are needed."""
        stored = self._seal.stored()
        return stored.split.threshold if stored else 0

    async def cancel(self) -> None:
        """Forget the attempt."""
        await self._engine.transact(lambda each: each.delete_document(MOUNT, KIND, self._name))

    async def _begin(self, attempt: Attempt) -> None:
        def write(transaction: Transaction) -> None:
            self._stored(transaction)
            if transaction.document(MOUNT, KIND, self._name):
                raise Invalid("under-way", f"{self._name} already in progress")
            transaction.put_document(MOUNT, KIND, self._name, attempt)

        await self._engine.transact(write)

    def _give(
        self, transaction: Transaction, text: str, nonce: str, *, slot: str, threshold: int
    ) -> _Given:
        """One share into a slot of the attempt; raises Invalid."""
        share = parse_share(text)
        attempt = transaction.document(MOUNT, KIND, self._name)
        if attempt is None:
            raise Invalid("none-under-way", f"no {self._name} in progress")
        expected = attempt["nonce" if slot == "given" else "verification_nonce"]
        if nonce != expected:
            raise Invalid(
                "wrong-nonce", f"incorrect nonce supplied; nonce for this attempt is {expected}"
            )
        shares = tuple(bytes.fromhex(each) for each in attempt[slot])
        gathering = Gathering("", shares).with_share(share)
        attempt[slot] = [each.hex() for each in gathering.shares]
        if len(gathering.shares) < threshold:
            transaction.put_document(MOUNT, KIND, self._name, attempt)
            return _Given(attempt, None)
        attempt[slot] = []
        transaction.put_document(MOUNT, KIND, self._name, attempt)
        try:
            return _Given(attempt, gathering.key(threshold) or b"")
        except Invalid:
            return _Given(attempt, b"")

    def _fits(self, transaction: Transaction, key: bytes) -> bool:
        row, stored = transaction.cluster(), self._stored(transaction)
        if row is None:
            return False
        if stored.is_shamir:
            return opens_root(stored, key, row.cluster_id)
        return recovery_fits(stored, self._seal.root_key, key, row.cluster_id)


class Rekey(_Ceremony):
    """New shares of a new key; with verification the old ones hold until the new were shown."""

    def __init__(
        self, engine: Engine, seal: ClusterSeal, target: Target, seconds: float = ASK_SECONDS
    ) -> None:
        """`seconds` is how long it may ask after a write that was not confirmed."""
        super().__init__(engine, seal, "rekey" if target == "unseal" else "recovery rekey")
        self._target = target
        self._settling = Settling(engine, seal.clock, seconds)

    def _check_target(self, stored: StoredSeal | None) -> None:
        if stored and stored.is_shamir != (self._target == "unseal"):
            raise Invalid(
                "wrong-target",
                f"the {stored.type} seal has {'unseal' if stored.is_shamir else 'recovery'} keys",
                hint="use sys/rekey for unseal keys, sys/rekey-recovery-key for recovery keys",
            )

    def status(self) -> dict[str, Any]:
        """Where it stands."""
        attempt = self._attempt()
        found = attempt or {"nonce": "", "threshold": 0, "shares": 0, "given": []}
        return {
            "nonce": found["nonce"],
            "started": attempt is not None,
            "t": found["threshold"],
            "n": found["shares"],
            "progress": len(found["given"]),
            "required": self.required(),
            "pgp_fingerprints": None,
            "backup": False,
            "verification_required": bool(found.get("verify")),
            **({"verification_nonce": found["verification_nonce"]} if found.get("key") else {}),
        }

    async def begin(self, shares: int, threshold: int, *, verify: bool) -> None:
        """Start; raises Invalid."""
        self._check_target(self._seal.stored())
        into = check_split(shares, threshold)
        await self._begin(
            {
                "nonce": str(uuid.uuid4()), "shares": into.shares, "threshold": into.threshold,
                "verify": verify, "given": [], "verified": [], "key": "", "verification_nonce": "",
            }
        )  # fmt: skip

    async def give(self, text: str, nonce: str) -> dict[str, Any]:
        """One share of the present key; the new shares when it was the last."""
        self._check_target(self._seal.stored())
        new = new_key()

        def write(transaction: Transaction) -> _Given:
            found = transaction.document(MOUNT, KIND, self._name)
            if found and found["key"]:
                # The present keys once more would end the new ones, which were handed out.
                raise Invalid(
                    "verification-due",
                    "rekey operation already finished; verification must be performed; nonce for "
                    f"the verification operation is {found['verification_nonce']}",
                )
            threshold = self._stored(transaction).split.threshold
            given = self._give(transaction, text, nonce, slot="given", threshold=threshold)
            if given.key is None or not self._fits(transaction, given.key):
                return given
            if given.attempt["verify"]:
                given.attempt.update(key=new.hex(), verification_nonce=str(uuid.uuid4()))
                transaction.put_document(MOUNT, KIND, self._name, given.attempt)
            else:
                self._apply(transaction, given.attempt, new)
            return _Given(given.attempt, new)

        # With verification nothing holds yet, and what was made can be made again.
        settled = await self._settling.write(
            write,
            lambda each: each.key is new and not each.attempt["verify"],
            lambda each: self._fits(each, new),
        )
        given = settled.result
        if given.key is None:
            return self.status()
        if given.key is not new:
            raise Invalid("wrong-keys", "the keys do not fit; begin again with the first")
        attempt = given.attempt
        reply = keys_reply(split_key(new, Split(attempt["shares"], attempt["threshold"])))
        more = {"verification_required": True, "verification_nonce": attempt["verification_nonce"]}
        return {
            "nonce": nonce,
            "complete": True,
            **reply,
            "pgp_fingerprints": None,
            "backup": False,
            **({} if settled.certain else {"warnings": [DOUBTFUL]}),
            **(more if attempt["verify"] else {"verification_required": False}),
        }

    def verification(self) -> dict[str, Any]:
        """Where the verification of the new shares stands."""
        attempt = self._attempt()
        if attempt is None or not attempt["key"]:
            raise Invalid("none-under-way", "no rekey verification in progress")
        return {
            "nonce": attempt["verification_nonce"],
            "started": True,
            "t": attempt["threshold"],
            "n": attempt["shares"],
            "progress": len(attempt["verified"]),
        }

    async def verify(self, text: str, nonce: str) -> dict[str, Any]:
        """One new share; the new key is in force when the last fits."""

        def write(transaction: Transaction) -> tuple[_Given, bool]:
            found = transaction.document(MOUNT, KIND, self._name)
            if found is None or not found["key"]:
                raise Invalid("none-under-way", "no rekey verification in progress")
            threshold = found["threshold"]
            given = self._give(transaction, text, nonce, slot="verified", threshold=threshold)
            new = bytes.fromhex(given.attempt["key"])
            if not given.key or not constant_time_equal(given.key, new):
                return given, False
            self._apply(transaction, given.attempt, new)
            return given, True

        given, done = await self._engine.transact(write)
        if given.key is not None and not done:
            raise Invalid("wrong-keys", "the new keys do not fit; begin the verification again")
        return {"nonce": nonce, "complete": True} if done else self.verification()

    async def restart_verification(self) -> None:
        """Forget the new shares given so far; the attempt stays."""

        def write(transaction: Transaction) -> None:
            attempt = transaction.document(MOUNT, KIND, self._name)
            if attempt is not None:
                attempt.update(verified=[], verification_nonce=str(uuid.uuid4()))
                transaction.put_document(MOUNT, KIND, self._name, attempt)

        await self._engine.transact(write)

    def _apply(self, transaction: Transaction, attempt: Attempt, new: bytes) -> None:
        row = transaction.cluster()
        if row is None:
            return
        stored, root = load_stored(row), self._seal.root_key
        # The seal may have been migrated since the new shares were handed out.
        self._check_target(stored)
        split = Split(attempt["shares"], attempt["threshold"])
        if self._target == "unseal":
            wrapped = sealed_root(root, new, row.cluster_id)
            better = dataclasses.replace(stored, split=split, root=wrapped)
        else:
            check = sealed_recovery(new, root, row.cluster_id)
            better = dataclasses.replace(stored, split=split, check=check)
        transaction.replace_ring(better.dumps())
        transaction.delete_document(MOUNT, KIND, self._name)


class GenerateRoot(_Ceremony):
    """A new root token, handed out XORed with a one-time pad of its length."""

    def __init__(
        self, engine: Engine, seal: ClusterSeal, make_token: Callable[[], str], put_root: NewRoot
    ) -> None:
        super().__init__(engine, seal, "root generation")
        self._make_token = make_token
        self._put_root = put_root

    def status(self, *, otp: str = "", encoded: str = "") -> dict[str, Any]:
        """Where it stands."""
        attempt = self._attempt()
        found = attempt or {"nonce": "", "given": []}
        return {
            "nonce": found["nonce"],
            "started": attempt is not None,
            "progress": len(found["given"]),
            "required": self.required(),
            "complete": bool(encoded),
            "encoded_token": encoded,
            "encoded_root_token": encoded,
            "pgp_fingerprint": "",
            "otp": otp,
            "otp_length": len(self._make_token()),
        }

    async def begin(self, otp: str) -> dict[str, Any]:
        """Start with a pad, or make one, which is shown this once."""
        length = len(self._make_token())
        if otp and len(otp) != length:
            raise Invalid("bad-otp", f"OTP string is wrong length: it must have {length}")
        if not otp.isascii():
            # Such a pad has more bytes than the token, which would be made and told to nobody.
            raise Invalid(
                "bad-otp", "the OTP must be of ASCII characters", hint="leave it out to get one"
            )
        pad = otp or random_text(length, BASE62)
        await self._begin({"nonce": str(uuid.uuid4()), "given": [], "otp": pad})
        return self.status(otp="" if otp else pad)

    async def give(self, text: str, nonce: str) -> dict[str, Any]:
        """One share; the encoded token when it was the last."""
        token = self._make_token()

        def write(transaction: Transaction) -> tuple[_Given, bool]:
            threshold = self._stored(transaction).split.threshold
            given = self._give(transaction, text, nonce, slot="given", threshold=threshold)
            if given.key is None or not self._fits(transaction, given.key):
                return given, False
            self._put_root(transaction, token)
            transaction.delete_document(MOUNT, KIND, self._name)
            return given, True

        given, done = await self._engine.transact(write)
        if done:
            status = self.status(encoded=encode_token(token, given.attempt["otp"]))
            required = status["required"]
            return {**status, "nonce": nonce, "started": True, "progress": required}
        if given.key is not None:
            raise Invalid("wrong-keys", "the keys do not fit; begin again with the first")
        return self.status()


def encode_token(token: str, otp: str) -> str:
    """Token XOR pad, base64 without padding, as `operator generate-root -decode` reads it."""
    mixed = bytes(left ^ right for left, right in zip(token.encode(), otp.encode(), strict=True))
    return base64.b64encode(mixed).decode().rstrip("=")


def decode_token(encoded: str, otp: str) -> str:
    """The token again; raises Invalid(`bad-otp`)."""
    try:
        mixed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        pairs = zip(mixed, otp.encode(), strict=True)
        return bytes(left ^ right for left, right in pairs).decode("ascii")
    except ValueError:
        raise Invalid("bad-otp", "the encoded token and the OTP do not belong together") from None
