"""`transit/`: named keys that never leave the store, and what can be done with them.

API: https://developer.hashicorp.com/vault/api-docs/secret/transit.
"""

import asyncio
import base64
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.crypto.ciphers import KEY_BYTES, unwrap_key, wrap_key
from strongroom.crypto.signatures import (
    KEY_PAIRS,
    is_public_only,
    new_key_pair,
    private_key_text,
    public_key_der,
    public_key_text,
    rsa_decrypt,
    rsa_encrypt,
)
from strongroom.model.errors import Invalid
from strongroom.store.call import Call, Endpoint, Result, whole_number
from strongroom.store.context import Context
from strongroom.store.engine.contract import Transaction, View
from strongroom.store.envelope import listed, nothing_here
from strongroom.store.parameters import fields
from strongroom.store.secrets.transit_certificates import TransitCertificates
from strongroom.store.secrets.transit_data import TransitData
from strongroom.store.secrets.transit_key import (
    HMAC,
    HMAC_BYTES,
    TYPES,
    KeyVersion,
    TransitKey,
    check_material,
    from_base64,
    new_material,
)

KEY: Final = "key"
WRAPPING: Final = "wrapping"
WRAPPING_TYPE: Final = "rsa-4096"
SETTINGS: Final = "settings"
RSA_TYPES: Final = ("rsa-2048", "rsa-3072", "rsa-4096")
RSA_4096_BYTES: Final = 512
SHORTEST_ROTATION: Final = 3600
DEFAULT_TYPE: Final = "aes256-gcm96"
CREATE: Final = fields(
    text="type context",
    flag="derived convergent_encryption exportable allow_plaintext_backup",
    seconds="auto_rotate_period",
    number="key_size",
)
CONFIGURE: Final = fields(
    number="min_decryption_version min_encryption_version",
    flag="deletion_allowed exportable allow_plaintext_backup",
    seconds="auto_rotate_period",
)
IMPORT: Final = fields(text="ciphertext public_key hash_function")
RESTORE: Final = fields(text="backup name", flag="force")
CHAIN: Final = "certificate-chain"
BYOK: Final = fields(text="hash")
Change = Callable[[TransitKey], TransitKey]


class Transit:
    """The backend of every transit mount."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._data = TransitData(self._key_for)
        self._certificates = TransitCertificates(
            lambda call: self._stored(context.view, call, call.args["name"]), self._change
        )

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        return (
            Endpoint("keys", {"list": self._list}),
            Endpoint(
                "keys/{name}",
                {
                    "read": self._read,
                    "create": self._create,
                    "update": self._create,
                    "delete": self._delete,
                },
                takes=CREATE,
            ),
            Endpoint("keys/{name}/config", {"update": self._configure}, takes=CONFIGURE),
            Endpoint("keys/{name}/rotate", {"update": self._rotate}),
            Endpoint(
                "keys/{name}/trim",
                {"update": self._trim},
                takes=fields(number="min_available_version"),
            ),
            Endpoint(
                "keys/{name}/import",
                {"update": self._import},
                takes=fields(CREATE, IMPORT, flag="allow_rotation"),
            ),
            Endpoint(
                "keys/{name}/import_version",
                {"update": self._import_version},
                takes=fields(IMPORT, number="version"),
            ),
            Endpoint("wrapping_key", {"read": self._wrapping_key}),
            Endpoint("export/{kind}/{name}", {"read": self._export}),
            Endpoint("export/{kind}/{name}/{version}", {"read": self._export}),
            Endpoint("backup/{name}", {"read": self._backup}),
            Endpoint("restore", {"update": self._restore}, takes=RESTORE),
            Endpoint("restore/{name}", {"update": self._restore}, takes=RESTORE),
            Endpoint("byok-export/{name}/{source}", {"read": self._byok_export}, takes=BYOK),
            Endpoint(
                "byok-export/{name}/{source}/{version}",
                {"read": self._byok_export},
                takes=BYOK,
            ),
            Endpoint(
                "config/keys",
                {"read": self._config, "update": self._write_config},
                takes=fields(flag="disable_upsert"),
            ),
            Endpoint(
                "cache-config",
                {"read": self._cache, "update": self._cache},
                takes=fields(number="size"),
            ),
            *self._certificates.endpoints,
            *self._data.endpoints,
        )

    def exists(self, call: Call) -> bool:
        kind, _, name = call.rest.partition("/")
        if kind in ("encrypt", "keys") and "/" not in name:
            return self._context.view.document(call.mount.uuid, KEY, name) is not None
        return True

    # finding and storing

    def _stored(self, view: View, call: Call, name: str) -> TransitKey:
        document = view.document(call.mount.uuid, KEY, name)
        if document is None:
            raise nothing_here() if call.operation == "read" else _absent(call, name)
        return TransitKey.loads(document)

    async def _key_for(self, call: Call, makes: bool) -> TransitKey:  # noqa: FBT001 - FindKey
        name, now = call.args["name"], self._context.clock.now()
        document = self._context.view.document(call.mount.uuid, KEY, name)
        if document is None:
            upsert = not self._settings(call)["disable_upsert"]
            if not makes or call.operation != "create" or not upsert:
                raise Invalid("no-key", "encryption key not found")
            _check_encrypts(call)
            return await self._make(call, name, contextual=_has_context(call))
        key = TransitKey.loads(document)
        if key.due(now):
            fresh = await _fresh(key)
            return await self._change(
                call,
                name,
                lambda old: (
                    old.rotated(now, fresh if _alike(old, key) else b"") if old.due(now) else old
                ),
            )
        return key

    async def _change(self, call: Call, name: str, change: Change) -> TransitKey:
        def write(transaction: Transaction) -> TransitKey:
            key = change(self._stored(transaction, call, name))
            transaction.put_document(call.mount.uuid, KEY, name, key.dumps())
            return key

        return await self._context.engine.transact(write)

    async def _make(
        self, call: Call, name: str, material: bytes = b"", *, contextual: bool = False
    ) -> TransitKey:
        kind = call.text("type", DEFAULT_TYPE)
        derived = contextual or call.flag("derived")
        convergent = call.flag("convergent_encryption")
        if kind not in TYPES:
            raise Invalid("unknown-type", f"unknown key type {kind}")
        if derived and kind not in (*KEY_BYTES, "ed25519"):
            raise Invalid("no-derivation", f"key derivation is not supported for {kind}")
        if convergent and not (derived and kind in KEY_BYTES):
            raise Invalid(
                "no-convergence", "convergent encryption requires derivation to be enabled"
            )
        fresh = material or await _material(kind, derived, _key_size(call, kind))
        version = KeyVersion(fresh, new_material(HMAC), self._context.clock.now())
        key = TransitKey(
            name=name,
            type=kind,
            versions={1: version},
            derived=derived,
            convergent=convergent,
            exportable=call.flag("exportable"),
            allow_backup=call.flag("allow_plaintext_backup"),
            imported=bool(material),
            allow_rotation=bool(material) and call.flag("allow_rotation"),
            auto_rotate_seconds=_rotation(call, 0),
        )

        def write(transaction: Transaction) -> TransitKey:
            # Two who make it at once both work with the one that was first.
            document = transaction.document(call.mount.uuid, KEY, name)
            if document is not None:
                if material:
                    raise Invalid(
                        "key-exists", "the import path cannot be used with an existing key"
                    )
                return TransitKey.loads(document)
            transaction.put_document(call.mount.uuid, KEY, name, key.dumps())
            return key

        return await self._context.engine.transact(write)

    # keys

    def _list(self, call: Call) -> Result:
        return listed(self._context.view.document_names(call.mount.uuid, KEY))

    def _read(self, call: Call) -> Result:
        key = self._stored(self._context.view, call, call.args["name"])
        return Result(key.describe(from_base64(call.text("context"), "context")))

    async def _create(self, call: Call) -> Result:
        name = call.args["name"]
        there = self._context.view.document(call.mount.uuid, KEY, name) is not None
        key = await self._make(call, name)
        # It keeps its type and settings, whatever this request asks for.
        warnings = (f"key {name} already existed",) if there else ()
        return Result(key.describe(), warnings=warnings)

    async def _delete(self, call: Call) -> None:
        name = call.args["name"]

        def write(transaction: Transaction) -> None:
            if not self._stored(transaction, call, name).deletion_allowed:
                said = f"error deleting policy {name}: deletion is not allowed for this key"
                raise Invalid("not-deletable", said)
            transaction.delete_document(call.mount.uuid, KEY, name)

        await self._context.engine.transact(write)

    async def _configure(self, call: Call) -> Result:
        def change(key: TransitKey) -> TransitKey:
            decrypts = call.integer("min_decryption_version", key.min_decryption)
            encrypts = call.integer("min_encryption_version", key.min_encryption)
            if min(decrypts, encrypts) < 0:
                raise Invalid("bad-version", "a minimum version cannot be negative")
            if max(decrypts, encrypts) > key.latest:
                raise Invalid("bad-version", "a minimum version is beyond the newest version")
            if encrypts and encrypts < max(decrypts, 1):
                raise Invalid(
                    "bad-version", "min_encryption_version is less than min_decryption_version"
                )
            _check_rotation(call, allowed=key.allow_rotation or not key.imported)
            if max(decrypts, 1) < min(key.versions):
                raise Invalid("bad-version", "a minimum version is below the trimmed ones")
            return dataclasses.replace(
                key,
                min_decryption=max(decrypts, 1),
                min_encryption=encrypts,
                deletion_allowed=call.flag("deletion_allowed", default=key.deletion_allowed),
                # Once on, they stay on: what has left cannot be called back.
                exportable=key.exportable or call.flag("exportable"),
                allow_backup=key.allow_backup or call.flag("allow_plaintext_backup"),
                auto_rotate_seconds=_rotation(call, key.auto_rotate_seconds),
            )

        return Result((await self._change(call, call.args["name"], change)).describe())

    async def _rotate(self, call: Call) -> Result:
        now, name = self._context.clock.now(), call.args["name"]
        before = self._stored(self._context.view, call, name)
        fresh = await _fresh(before)

        def change(key: TransitKey) -> TransitKey:
            if key.imported and not key.allow_rotation:
                raise Invalid(
                    "no-rotation", f"imported key {key.name} does not allow rotation within Vault"
                )
            return key.rotated(now, fresh if _alike(key, before) else b"")

        return Result((await self._change(call, name, change)).describe())

    async def _trim(self, call: Call) -> Result:
        oldest = call.integer("min_available_version")
        changed = await self._change(call, call.args["name"], lambda key: key.trimmed(oldest))
        return Result(changed.describe())

    # import (BYOK)

    async def _wrapping_pair(self, call: Call) -> bytes:
        mount = call.mount.uuid
        found = self._context.view.document(mount, WRAPPING, "")
        if found is not None:
            return base64.b64decode(found["key"])
        # Seconds on a busy machine: beside the loop, and not while a transaction holds others up.
        made = await asyncio.to_thread(new_key_pair, WRAPPING_TYPE)

        def write(transaction: Transaction) -> bytes:
            document = transaction.document(mount, WRAPPING, "")
            if document is None:
                document = {"key": base64.b64encode(made).decode()}
                transaction.put_document(mount, WRAPPING, "", document)
            return base64.b64decode(document["key"])

        return await self._context.engine.transact(write)

    async def _wrapping_key(self, call: Call) -> Result:
        pair = await self._wrapping_pair(call)
        return Result({"public_key": public_key_text(WRAPPING_TYPE, pair)})

    async def _unwrapped(self, call: Call, kind: str) -> bytes:
        if bool(call.text("ciphertext")) == bool(call.text("public_key")):
            raise Invalid(
                "bad-import", "one of ciphertext and public_key must be set, and not both"
            )
        if call.text("public_key"):
            if kind not in KEY_PAIRS:
                raise Invalid("no-public-key", f"a key of type {kind} has no public half")
            return public_key_der(kind, call.text("public_key"))
        ciphertext = from_base64(call.text("ciphertext"), "ciphertext")
        hash_name = _hash_name(call.text("hash_function"))
        pair = await self._wrapping_pair(call)
        head, wrapped = ciphertext[:RSA_4096_BYTES], ciphertext[RSA_4096_BYTES:]
        try:
            kek = await asyncio.to_thread(rsa_decrypt, WRAPPING_TYPE, pair, head, hash_name)
            material = unwrap_key(kek, wrapped)
        except (Tampered, ValueError):
            raise Invalid("bad-import", "the ciphertext does not unwrap to a key") from None
        if kind in KEY_PAIRS and is_public_only(material):
            raise Invalid("bad-import", "what is wrapped is no private key")
        await asyncio.to_thread(check_material, kind, material)
        return material

    async def _import(self, call: Call) -> None:
        if call.flag("convergent_encryption"):
            raise Invalid("no-convergence", "convergent encryption cannot be had with an import")
        _check_rotation(call, allowed=call.flag("allow_rotation"))
        material = await self._unwrapped(call, call.text("type", DEFAULT_TYPE))
        await self._make(call, call.args["name"], material)

    async def _import_version(self, call: Call) -> None:
        key = self._stored(self._context.view, call, call.args["name"])
        if not key.imported:
            raise Invalid("not-imported", "the key was made here; only imported keys take versions")
        wanted = call.integer("version")
        material, now = await self._unwrapped(call, key.type), self._context.clock.now()
        await self._change(call, key.name, lambda old: old.completed(now, material, wanted))

    # what leaves the store, when the key says that it may

    def _export(self, call: Call) -> Result:
        key = self._stored(self._context.view, call, call.args["name"])
        kind, wanted = call.args["kind"], call.args.get("version", "")
        if not key.exportable and kind not in ("public-key", CHAIN):
            raise Invalid("not-exportable", "private key material is not exportable")
        numbers = _versions(key, wanted)
        if kind == CHAIN:
            keys = {str(number): key.versions[number].chain for number in numbers}
            keys = {number: chain for number, chain in keys.items() if chain}
            if not keys:
                raise Invalid("no-chain", "no certificate chain is kept with the key")
        else:
            keys = {str(number): _exported(key, kind, number) for number in numbers}
        return Result({"name": key.name, "type": key.type, "keys": keys})

    def _byok_export(self, call: Call) -> Result:
        """A key wrapped for another store: the destination is that store's wrapping key."""
        view = self._context.view
        target = self._stored(view, call, call.args["name"])
        key = self._stored(view, call, call.args["source"])
        if target.type not in RSA_TYPES:
            raise Invalid("bad-destination", "the destination key must be an RSA key")
        if not key.exportable:
            raise Invalid("not-exportable", "private key material is not exportable")
        hash_name = _hash_name(call.text("hash"))
        wanted = call.args.get("version", "")
        chosen = _versions(key, wanted)
        public = target.versions[target.latest].material
        keys = {
            str(number): _wrapped(target.type, public, key.versions[number].material, hash_name)
            for number in chosen
        }
        return Result({"name": key.name, "type": key.type, "keys": keys})

    # settings of the mount

    def _settings(self, call: Call) -> dict[str, bool]:
        found = self._context.view.document(call.mount.uuid, SETTINGS, "")
        return {"disable_upsert": False, **(found or {})}

    def _config(self, call: Call) -> Result:
        return Result(self._settings(call))

    async def _write_config(self, call: Call) -> Result:
        chosen = {"disable_upsert": call.flag("disable_upsert")}
        mount = call.mount.uuid
        await self._context.engine.transact(
            lambda each: each.put_document(mount, SETTINGS, "", chosen)
        )
        return Result(chosen)

    def _backup(self, call: Call) -> Result:
        key = self._stored(self._context.view, call, call.args["name"])
        what = "plaintext backup" if key.exportable else "exporting"
        if not (key.exportable and key.allow_backup):
            raise Invalid("no-backup", f"{what} is disallowed on the policy")
        return Result({"backup": base64.b64encode(orjson.dumps(key.dumps())).decode()})

    async def _restore(self, call: Call) -> None:
        try:
            document = orjson.loads(from_base64(call.text("backup"), "backup"))
        except orjson.JSONDecodeError:
            raise Invalid("bad-backup", "this is not the backup of a key") from None
        key = TransitKey.loads(document, from_outside=True).checked()
        for each in key.versions.values():
            # Derived pairs are kept as seeds.
            kind = HMAC if key.derived and not key.symmetric else key.type
            await asyncio.to_thread(check_material, kind, each.material)
        # A body may have the name as well: vaultrs sends it there alone.
        named = call.args.get("name") or call.text("name")
        key = dataclasses.replace(key, name=named or key.name)
        if not key.name or "/" in key.name or not key.name.isprintable():
            raise Invalid("bad-name", "a key's name is printable text without a slash")
        force, mount = call.flag("force"), call.mount.uuid

        def write(transaction: Transaction) -> None:
            if transaction.document(mount, KEY, key.name) is not None and not force:
                raise Invalid("key-exists", f"key {key.name!r} already exists")
            transaction.put_document(mount, KEY, key.name, key.dumps())

        await self._context.engine.transact(write)

    def _cache(self, call: Call) -> Result:  # noqa: ARG002
        # Keys are read where they are used; there is no cache to size.
        return Result({"size": 0})


def _absent(call: Call, name: str) -> Invalid:
    """400 where a change names a key that is not there, in Vault's words: clients look for them."""
    if call.operation == "delete":
        return Invalid("no-key", f"error deleting policy {name}: could not delete key; not found")
    said = {
        "rotate": "key not found",
        "config": f"no existing key named {name} could be found",
        "trim": "invalid key name",
        "import_version": f"no key found with name {name};"
        " to import a new key, use the import/ endpoint",
    }
    word = call.rest.rpartition("/")[2]
    return Invalid("no-key", said.get(word, f"key with provided name '{name}' not found"))


def _check_encrypts(call: Call) -> None:
    """Refuse to make a key, by encrypting, that cannot encrypt."""
    kind = call.text("type", DEFAULT_TYPE)
    if kind in TYPES and kind not in (*KEY_BYTES, *RSA_TYPES):
        raise Invalid("no-encryption", f"key type {kind} not supported for this operation")


def _has_context(call: Call) -> bool:
    """Whether the first that is encrypted has a context: the key is then made to depend on it."""
    batch = call.data.get("batch_input")
    first = batch[0] if isinstance(batch, list) and batch else call.data
    return isinstance(first, dict) and bool(first.get("context"))


def _key_size(call: Call, kind: str) -> int:
    """How many bytes a new HMAC key has: 0 leaves it to the store."""
    size = call.integer("key_size")
    if size and kind != HMAC:
        raise Invalid("bad-key-size", f"key_size is for type hmac; the type is {kind}")
    if size and not HMAC_BYTES[0] <= size <= HMAC_BYTES[1]:
        raise Invalid("bad-key-size", "key_size is a number of bytes between 32 and 512")
    return size


async def _material(kind: str, derived: bool, size: int) -> bytes:  # noqa: FBT001 - one of two forms
    """Fresh material; an RSA pair takes long enough to be made beside the loop."""
    if kind in RSA_TYPES:
        return await asyncio.to_thread(new_material, kind, derived)
    return new_material(kind, derived, size)


async def _fresh(key: TransitKey) -> bytes:
    return await _material(key.type, key.derived, key.hmac_bytes)


def _alike(key: TransitKey, other: TransitKey) -> bool:
    """Whether material of one fits the other: it may have been deleted and made anew meanwhile."""
    return (key.type, key.derived) == (other.type, other.derived)


def _check_rotation(call: Call, *, allowed: bool) -> None:
    """Refuse a period in which an imported key would never be rotated."""
    if _rotation(call, 0) and not allowed:
        raise Invalid(
            "no-rotation", "allow_rotation must be set to true if auto-rotation is enabled"
        )


def _rotation(call: Call, default: int) -> int:
    seconds = call.seconds("auto_rotate_period", default)
    if seconds and seconds < SHORTEST_ROTATION:
        raise Invalid("bad-period", "auto rotate period must be 0 to disable or at least an hour")
    return seconds


def _hash_name(text: str) -> str:
    names = {"": "sha2-256", "SHA1": "sha1", "SHA224": "sha2-224", "SHA256": "sha2-256",
             "SHA384": "sha2-384", "SHA512": "sha2-512"}  # fmt: skip
    found = names.get(text.upper())
    if found is None:
        raise Invalid("bad-hash", "unsupported hash function", hint="use SHA256")
    return found


def _versions(key: TransitKey, wanted: str) -> list[int]:
    if not wanted:
        return key.usable
    if wanted == "latest":
        return [key.to_read(key.latest)]
    try:
        return [key.to_read(whole_number(wanted))]
    except ValueError:
        raise Invalid("bad-version", "invalid key version") from None


def _wrapped(kind: str, public: bytes, material: bytes, hash_name: str) -> str:
    """As an import wants it: an AES key under the RSA key, and the key under the AES key."""
    ephemeral = os.urandom(32)
    head = rsa_encrypt(kind, public, ephemeral, hash_name)
    return base64.b64encode(head + wrap_key(ephemeral, material)).decode()


def _exported(key: TransitKey, kind: str, number: int) -> str:
    version = key.versions[number]
    if kind == "hmac-key":
        material = version.material if key.type == HMAC else version.hmac_key
        return base64.b64encode(material).decode()
    if kind != "public-key" and key.type in KEY_PAIRS and is_public_only(version.material):
        raise Invalid("no-private-key", "only the public half of the key was imported")
    if kind == "encryption-key" and key.encrypts:
        if key.symmetric:
            return base64.b64encode(version.material).decode()
        return private_key_text(version.material)
    if kind == "signing-key" and key.signs and not key.derived:
        return private_key_text(version.material)
    if kind == "public-key" and key.signs and not key.derived:
        return public_key_text(key.type, version.material)
    raise Invalid("bad-export", f"a key of type {key.type} has no {kind}")
