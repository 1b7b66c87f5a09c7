"""Transit on data: encrypt, decrypt, rewrap, data keys, sign, verify, HMAC; single or in batches.

API: https://developer.hashicorp.com/vault/api-docs/secret/transit.
"""

import asyncio
import base64
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from strongroom.crypto.signatures import SignatureForm, public_key_text, sign, verify
from strongroom.crypto.tokens import constant_time_equal
from strongroom.model.errors import Invalid, Refusal
from strongroom.store import tools
from strongroom.store.call import Call, Endpoint, Result, parse_flag, whole_number
from strongroom.store.parameters import fields
from strongroom.store.secrets.transit_key import (
    TransitKey,
    from_base64,
    tagged,
    untagged,
)

BATCH: Final = 1000
# Items that are worked on before others are served.
PER_TURN: Final = 8
_ITEM: Final = fields(text="context reference", number="key_version")
_ITEMS: Final = fields(_ITEM, objects="batch_input", number="partial_failure_response_code")
CIPHER: Final = fields(_ITEMS, text="ciphertext associated_data nonce")
# What makes the key, where it is not there yet, beside what is encrypted.
ENCRYPT: Final = fields(
    _ITEMS,
    text="plaintext associated_data nonce type",
    flag="derived convergent_encryption",
)
DATA_KEY: Final = fields(_ITEM, text="associated_data nonce", number="bits")
HASH: Final = fields(_ITEMS, text="input hash algorithm")
SIGN: Final = fields(
    HASH,
    text="hash_algorithm signature_algorithm marshaling_algorithm salt_length",
    flag="prehashed",
)
VERIFY: Final = fields(SIGN, text="signature hmac")
Item = Mapping[str, Any]
# Gives the key of a call; the flag lets a write make it when it is not there.
Act = Callable[[TransitKey, Item, Item], dict[str, Any]]
FindKey = Callable[[Call, bool], Awaitable[TransitKey]]


class TransitData:
    """The endpoints that work with a key's material and leave the key as it is."""

    def __init__(self, find: FindKey) -> None:
        self._find = find

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        def both(handler: Any) -> dict[Any, Any]:  # noqa: ANN401 - an endpoint's handler
            return {"update": handler, "create": handler}

        return (
            Endpoint("encrypt/{name}", both(self._on(encrypt_item, makes=True)), takes=ENCRYPT),
            Endpoint("decrypt/{name}", both(self._on(decrypt_item)), takes=CIPHER),
            Endpoint("rewrap/{name}", both(self._on(rewrap_item, tells=False)), takes=CIPHER),
            Endpoint("datakey/{kind}/{name}", both(self._data_key), takes=DATA_KEY),
            *(
                Endpoint(pattern, both(self._on(act, tells=False)), takes=takes)
                for word, act, takes in (
                    ("sign", sign_item, SIGN),
                    ("verify", verify_item, VERIFY),
                    ("hmac", hmac_item, HASH),
                )
                for pattern in (f"{word}/{{name}}", f"{word}/{{name}}/{{hash}}")
            ),
            *tools.endpoints(),
        )

    def _on(
        self,
        act: Act,
        *,
        makes: bool = False,
        tells: bool = True,
    ) -> Callable[[Call], Awaitable[Result]]:
        """`tells` if the status says that items of a batch have failed: as in Vault, whose
        clients read no body beside a 400, those of encrypt and decrypt alone.
        """
        asked = _with_input(act) if act in (sign_item, verify_item, hmac_item) else act

        async def handler(call: Call) -> Result:
            key = await self._find(call, makes)
            common = {**call.data, **({"hash": call.args["hash"]} if "hash" in call.args else {})}
            batch = call.data.get("batch_input")
            if batch is None:
                _check_single(call.data, act)
                # Milliseconds with RSA: not on the loop.
                work = asyncio.to_thread(act, key, call.data, common) if _slow(key) else None
                return Result(await work if work else act(key, call.data, common))
            found = await in_batch(key, batch, common, asked)
            results = (found.data or {})["batch_results"]
            for each in results:
                if act is verify_item:
                    # Vault's have it always.
                    each.setdefault("valid", False)
                if "public_key" in each:
                    # In a batch it has another name there.
                    each["publickey"] = each.pop("public_key")
            # What is no success is not wrapped, and a policy may want what has succeeded to be.
            hides = call.wrap_seconds and any("error" not in each for each in results)
            return found if tells and not hides else Result(found.data)

        return handler

    async def _data_key(self, call: Call) -> Result:
        if call.args["kind"] not in ("plaintext", "wrapped"):
            raise Invalid("bad-kind", "Invalid path, must be 'plaintext' or 'wrapped'")
        bits = call.integer("bits", 256)
        if bits not in (128, 256, 512):
            raise Invalid("bad-bits", "invalid bit length")
        fresh = base64.b64encode(os.urandom(bits // 8)).decode()
        key = await self._find(call, False)
        made = encrypt_item(key, {**call.data, "plaintext": fresh}, call.data)
        return Result({**made, "plaintext": fresh} if call.args["kind"] == "plaintext" else made)


def _slow(key: TransitKey) -> bool:
    return key.type.startswith("rsa-")


def _check_single(data: Item, act: Act) -> None:
    """Refuse what Vault refuses of one item and does not of a batch."""
    if act is hmac_item and "input" not in data:
        raise Invalid("no-input", "missing input for HMAC")
    if act is verify_item and data.get("signature") and data.get("hmac"):
        raise Invalid("two-signatures", "provide one of 'signature' or 'hmac'")


def _with_input(act: Act) -> Act:
    """The same for an item that has an input: another one is not taken for an empty input."""

    def checked(key: TransitKey, item: Item, common: Item) -> dict[str, Any]:
        if "input" not in item:
            raise Invalid("no-input", "missing input")
        return act(key, item, common)

    return checked


async def in_batch(
    key: TransitKey,
    batch: Any,  # noqa: ANN401 - JSON
    common: Item,
    act: Act,
) -> Result:
    """All items, while others are served between them; raises Invalid for what is no batch."""
    if not isinstance(batch, list) or not batch or len(batch) > BATCH:
        raise Invalid("bad-batch", f"batch_input is a list of 1 to {BATCH} items")
    results: list[dict[str, Any]] = []
    for number, item in enumerate(batch):
        if number % PER_TURN == PER_TURN - 1:
            await asyncio.sleep(0)
        results.append(
            await asyncio.to_thread(_one, key, item, common, act)
            if _slow(key)
            else _one(key, item, common, act)
        )
    failed = sum("error" in each for each in results)
    status = 0
    if failed:
        status = 400 if failed == len(batch) else _partial(common)
    return Result({"batch_results": results}, status=status)


def _one(key: TransitKey, item: Any, common: Item, act: Act) -> dict[str, Any]:  # noqa: ANN401
    """The result of an item, or what is wrong with it."""
    if not isinstance(item, Mapping):
        return {"error": "an item of batch_input is not an object"}
    try:
        result = act(key, item, common)
    except Refusal as refusal:
        result = {"error": refusal.message}
    return {**result, "reference": str(item.get("reference") or "")}


def _partial(common: Item) -> int:
    """The status of a batch of which a part has failed."""
    try:
        given = whole_number(common.get("partial_failure_response_code", 400))
    except ValueError:
        return 400
    return given if 200 <= given <= 599 else 400


def _text(item: Item, name: str) -> str:
    value = item.get(name, "")
    if not isinstance(value, str):
        raise Invalid("bad-parameter", f"{name} must be a string")
    return value


def _bytes(item: Item, name: str) -> bytes:
    return from_base64(_text(item, name), name)


def _version(item: Item) -> int:
    try:
        value = whole_number(item.get("key_version", 0))
    except ValueError:
        value = -1
    if value < 0:
        raise Invalid("bad-parameter", "key_version must be a whole number")
    return value


def encrypt_item(key: TransitKey, item: Item, _common: Item) -> dict[str, Any]:
    """One plaintext."""
    if "plaintext" not in item:
        raise Invalid("no-plaintext", "missing plaintext to encrypt")
    if _text(item, "nonce"):
        # A nonce of the caller's choice is how two messages come to share one (CVE-2023-4680).
        raise Invalid("nonce", "provided nonce not allowed for this key")
    version = key.to_use(_version(item))
    sealed = key.encrypt(
        _bytes(item, "plaintext"), version, _bytes(item, "context"), _bytes(item, "associated_data")
    )
    return {"ciphertext": tagged(version, sealed), "key_version": version}


def _opened(key: TransitKey, item: Item) -> bytes:
    version, sealed = untagged(_text(item, "ciphertext"), "ciphertext")
    return key.decrypt(
        sealed,
        key.to_read(version, "ciphertext"),
        _bytes(item, "context"),
        _bytes(item, "associated_data"),
    )


def decrypt_item(key: TransitKey, item: Item, _common: Item) -> dict[str, Any]:
    """One ciphertext."""
    try:
        return {"plaintext": base64.b64encode(_opened(key, item)).decode()}
    except Refusal as refusal:
        if refusal.code == "tampered":
            raise Invalid("bad-ciphertext", "invalid ciphertext: unable to decrypt") from None
        raise


def rewrap_item(key: TransitKey, item: Item, common: Item) -> dict[str, Any]:
    """The same plaintext under the newest version; it is not shown."""
    plain = decrypt_item(key, item, common)["plaintext"]
    again = {name: value for name, value in item.items() if name != "ciphertext"}
    return encrypt_item(key, {**again, "plaintext": plain}, common)


def _form(item: Item, common: Item) -> SignatureForm:
    def setting(name: str, default: str) -> str:
        for each in (item.get(name), common.get(name)):
            # A salt of 0 bytes is one that was asked for.
            if each is not None and each != "":
                return str(each)
        return default

    marshaling = setting("marshaling_algorithm", "asn1")
    scheme = setting("signature_algorithm", "pss")
    if marshaling not in ("asn1", "jws") or scheme not in ("pss", "pkcs1v15"):
        raise Invalid("bad-parameter", "unknown marshaling_algorithm or signature_algorithm")
    # One that is misspelt would be signed as if it were no digest.
    prehashed = item.get("prehashed", common.get("prehashed")) or False
    # As in Vault the path's goes first, and `algorithm` is an older name.
    named = setting("hash_algorithm", setting("algorithm", "sha2-256"))
    return SignatureForm(
        hash_name=setting("hash", named),
        prehashed=parse_flag(prehashed, "prehashed"),
        pss=scheme == "pss",
        jws=marshaling == "jws",
        salt_length=setting("salt_length", "auto"),
    )


def sign_item(key: TransitKey, item: Item, common: Item) -> dict[str, Any]:
    """One input."""
    if not key.signs:
        raise Invalid("no-signing", f"key type {key.type} does not support signing")
    version, form = key.to_use(_version({**common, **item})), _form(item, common)
    pair = key.pair(version, _bytes(item, "context"))
    made = sign(key.type, pair, _bytes(item, "input"), form)
    # Nobody could verify it elsewhere without the public half of the derived pair.
    public = {"public_key": public_key_text(key.type, pair)} if key.derived else {}
    return {"signature": tagged(version, made, url_safe=form.jws), "key_version": version, **public}


def verify_item(key: TransitKey, item: Item, common: Item) -> dict[str, Any]:
    """One signature or HMAC."""
    if item.get("hmac"):
        version, given = untagged(_text(item, "hmac"), "hmac")
        made = key.hmac(_hash_of(common), _bytes(item, "input"), key.to_read(version, "HMAC"))
        return {"valid": constant_time_equal(made, given)}
    if not item.get("signature"):
        raise Invalid("no-signature", "one of 'signature', 'hmac' must be provided")
    if not key.signs:
        raise Invalid("no-signing", f"key type {key.type} does not support verification")
    form = _form(item, common)
    version, given = untagged(_text(item, "signature"), "signature", url_safe=form.jws)
    pair = key.pair(key.to_read(version, "signature"), _bytes(item, "context"))
    return {"valid": verify(key.type, pair, _bytes(item, "input"), given, form)}


def hmac_item(key: TransitKey, item: Item, common: Item) -> dict[str, Any]:
    """One input."""
    version = key.to_use(_version({**common, **item}))
    made = key.hmac(_hash_of(common), _bytes(item, "input"), version)
    return {"hmac": tagged(version, made)}


def _hash_of(common: Item) -> str:
    """The hash of an HMAC: the path's goes first, and `algorithm` is the older name."""
    names = ("hash", "hash_algorithm", "algorithm")
    return next((str(common[name]) for name in names if common.get(name)), "sha2-256")
