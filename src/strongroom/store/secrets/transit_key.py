"""A named transit key: its versions, what they may do, and the bytes each works with. Pure.

Ciphertexts, signatures and HMACs say their version: `vault:v3:<base64>`.
API: https://developer.hashicorp.com/vault/api-docs/secret/transit.
"""

import base64
import binascii
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from strongroom.crypto.ciphers import (
    KEY_BYTES,
    NONCE_BYTES,
    check_symmetric_key,
    decrypt,
    derive_key,
    encrypt,
    new_symmetric_key,
)
from strongroom.crypto.mac import hmac_of
from strongroom.crypto.signatures import (
    KEY_PAIRS,
    check_key,
    ed25519_from_seed,
    is_public_only,
    new_key_pair,
    public_key_text,
    rsa_decrypt,
    rsa_encrypt,
)
from strongroom.model.clock import rfc3339
from strongroom.model.errors import Invalid

_DIGITS: Final = re.compile(r"[0-9]{1,9}")
HMAC: Final = "hmac"
TYPES: Final = (*KEY_BYTES, *KEY_PAIRS, HMAC)
HMAC_BYTES: Final = (32, 512)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """Key material (raw, or PKCS #8 DER of a pair), the key of its HMACs, and when it was made.

    Of an imported public key the material is its SubjectPublicKeyInfo. `chain` is PEM.
    """

    material: bytes = field(repr=False)
    hmac_key: bytes = field(repr=False)
    created: float = 0.0
    chain: str = ""


class _Stored(Mapping[int, KeyVersion]):
    """Versions as they are kept, each read when it is asked for.

    A key that is rotated each hour has thousands, and most work needs one of them.
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: Mapping[str, Any]) -> None:
        self._texts = {int(number): each for number, each in texts.items()}

    def __getitem__(self, number: int) -> KeyVersion:
        material, hmac_key, created, *chain = self._texts[number]
        return KeyVersion(
            base64.b64decode(material), base64.b64decode(hmac_key), float(created), *chain
        )

    def __contains__(self, number: object) -> bool:
        return number in self._texts

    def __iter__(self) -> Iterator[int]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


@dataclass(frozen=True, slots=True)
class TransitKey:
    """A key with its settings. Versions count from 1; those below `min_available` are trimmed."""

    name: str
    type: str
    versions: Mapping[int, KeyVersion] = field(repr=False)
    derived: bool = False
    convergent: bool = False
    exportable: bool = False
    allow_backup: bool = False
    deletion_allowed: bool = False
    imported: bool = False
    min_decryption: int = 1
    min_encryption: int = 0
    auto_rotate_seconds: int = 0
    # Whether an imported key may get versions that are made here.
    allow_rotation: bool = False

    @property
    def latest(self) -> int:
        """The newest version."""
        return max(self.versions)

    @property
    def symmetric(self) -> bool:
        """Whether one key both encrypts and decrypts."""
        return self.type in KEY_BYTES

    @property
    def encrypts(self) -> bool:
        """Whether it encrypts data."""
        return self.symmetric or self.type.startswith("rsa-")

    @property
    def signs(self) -> bool:
        """Whether it signs."""
        return self.type in KEY_PAIRS

    @property
    def hmac_bytes(self) -> int:
        """How long the material of an HMAC key is; 0 for another type."""
        return len(self.versions[self.latest].material) if self.type == HMAC else 0

    @property
    def usable(self) -> list[int]:
        """Those that may be used; older ones are kept for a minimum that is lowered again."""
        return sorted(number for number in self.versions if number >= self.min_decryption)

    def due(self, now: float) -> bool:
        """Whether the automatic rotation's time has come."""
        if not self.auto_rotate_seconds or (self.imported and not self.allow_rotation):
            return False
        return now - self.versions[self.latest].created >= self.auto_rotate_seconds

    def to_use(self, asked: int) -> int:
        """The version to encrypt or sign with; raises Invalid below the minimum."""
        version = asked or self.latest
        if version < (self.min_encryption or 1) and self.min_encryption:
            raise Invalid(
                "old-version", "requested version for encryption is less than the minimum"
            )
        if version < self.min_decryption:
            # Nobody could decrypt or verify what it makes.
            raise Invalid(
                "old-version", "requested version is less than the minimum decryption version"
            )
        return self._there(version)

    def to_read(self, version: int, what: str = "version") -> int:
        """The version to decrypt or verify `what` with; raises Invalid below the minimum."""
        if version < self.min_decryption:
            raise Invalid(
                "old-version", "ciphertext or signature version is disallowed by policy (too old)"
            )
        if version > self.latest and what != "version":
            # In Vault's words: clients tell by them that another key was meant.
            raise Invalid("no-version", f"invalid {what}: version is too new")
        return self._there(version)

    def _there(self, version: int) -> int:
        if version not in self.versions:
            raise Invalid("no-version", f"the key has no version {version}")
        return version

    # what it does

    def _working_key(self, version: int, context: bytes) -> bytes:
        material = self.versions[version].material
        if not self.derived:
            return material
        if not context:
            raise Invalid(
                "no-context",
                "missing 'context' for key derivation; the key was created using a derived key",
            )
        return derive_key(material, context, KEY_BYTES.get(self.type, 32))

    def pair(self, version: int, context: bytes) -> bytes:
        """The key pair to sign with, derived where the key is."""
        key = self._working_key(version, context)
        return ed25519_from_seed(key) if self.derived else key

    def encrypt(self, plaintext: bytes, version: int, context: bytes, aad: bytes) -> bytes:
        """The sealed bytes; convergent keys give equal bytes for equal plaintext and context."""
        if not self.encrypts:
            raise Invalid(
                "no-encryption", f"message encryption not supported for key type {self.type}"
            )
        self._check_bound(aad)
        if not self.symmetric:
            return rsa_encrypt(self.type, self.versions[version].material, plaintext)
        key, nonce = self._working_key(version, context), b""
        if self.convergent:
            marker = len(aad).to_bytes(8, "big") + aad + plaintext
            nonce = hmac_of("sha2-256", derive_key(key, b"nonce"), marker)[:NONCE_BYTES]
        return encrypt(self.type, key, plaintext, aad, nonce)

    def decrypt(self, sealed: bytes, version: int, context: bytes, aad: bytes) -> bytes:
        """The plaintext; raises Tampered or Invalid."""
        if not self.encrypts:
            raise Invalid(
                "no-encryption", f"message decryption not supported for key type {self.type}"
            )
        self._check_bound(aad)
        if not self.symmetric:
            return rsa_decrypt(self.type, self.versions[version].material, sealed)
        return decrypt(self.type, self._working_key(version, context), sealed, aad)

    def _check_bound(self, aad: bytes) -> None:
        """Refuse data that this type would leave out: its caller believes that it is bound."""
        if aad and not self.symmetric:
            raise Invalid(
                "no-associated-data",
                f"'associated_data' provided for non-AEAD cipher suite {self.type}",
            )

    def hmac(self, hash_name: str, message: bytes, version: int) -> bytes:
        """The keyed hash of a version."""
        key = self.versions[version]
        return hmac_of(hash_name, key.material if self.type == HMAC else key.hmac_key, message)

    # how it changes

    def rotated(self, now: float, material: bytes = b"") -> "TransitKey":
        """The key with one more version, of fresh or imported material."""
        fresh = material or new_material(self.type, self.derived, self.hmac_bytes)
        made = KeyVersion(fresh, os.urandom(32), now)
        return dataclasses.replace(self, versions={**self.versions, self.latest + 1: made})

    def certified(self, version: int, chain: str) -> "TransitKey":
        """The key with a chain of certificates beside a version."""
        made = dataclasses.replace(self.versions[version], chain=chain)
        return dataclasses.replace(self, versions={**self.versions, version: made})

    def completed(self, now: float, material: bytes, wanted: int = 0) -> "TransitKey":
        """The key with an imported version more, or with the private half of one that lacks it.

        That is the newest one, where no version is asked for.
        """
        if wanted:
            return self._with_private_half(wanted, material)
        newest = self.versions[self.latest]
        if self.derived or self.type not in KEY_PAIRS or not is_public_only(newest.material):
            return self.rotated(now, material)
        if is_public_only(material) or public_key_text(self.type, material) != public_key_text(
            self.type, newest.material
        ):
            return self.rotated(now, material)
        made = dataclasses.replace(newest, material=material)
        return dataclasses.replace(self, versions={**self.versions, self.latest: made})

    def _with_private_half(self, wanted: int, material: bytes) -> "TransitKey":
        known = self.versions[self._there(wanted)]
        if self.type not in KEY_PAIRS or not is_public_only(known.material):
            raise Invalid("key-complete", f"version {wanted} lacks no private key")
        pair = (material, known.material)
        if is_public_only(material) or len({public_key_text(self.type, p) for p in pair}) > 1:
            raise Invalid("other-key", "the key does not belong to the public key of that version")
        made = dataclasses.replace(known, material=material)
        return dataclasses.replace(self, versions={**self.versions, wanted: made})

    def trimmed(self, oldest: int) -> "TransitKey":
        """The key without versions below `oldest`; raises Invalid when one may still be used."""
        if not 0 < oldest <= self.min_decryption or (
            not self.min_encryption or oldest > self.min_encryption
        ):
            raise Invalid(
                "bad-trim",
                "min_available_version must not be above min_decryption_version or"
                " min_encryption_version, and both must be set",
            )
        if oldest < min(self.versions):
            raise Invalid("bad-trim", "minimum available version cannot be decremented")
        kept = {number: each for number, each in self.versions.items() if number >= oldest}
        return dataclasses.replace(self, versions=kept)

    def checked(self) -> "TransitKey":
        """The same key; raises Invalid(`bad-backup`) where its settings cannot be."""
        texts, flags = (self.name, self.type), (
            self.derived, self.convergent, self.exportable, self.allow_backup,
            self.deletion_allowed, self.imported, self.allow_rotation,
        )  # fmt: skip
        numbers = (self.min_decryption, self.min_encryption, self.auto_rotate_seconds)
        kinds = ((texts, str), (flags, bool), (numbers, int))
        fits = all(type(each) is kind for values, kind in kinds for each in values)
        if not fits or not (
            0 < min(self.versions) <= self.min_decryption <= self.latest
            and 0 <= self.min_encryption <= self.latest
            and self.auto_rotate_seconds >= 0
        ):
            raise Invalid("bad-backup", "this is not the backup of a key")
        return self

    # how it is shown and kept

    def describe(self, context: bytes = b"") -> dict[str, Any]:
        """What a read of the key shows; the public half of a derived pair is that of a context."""
        shown: dict[str, Any] = {
            "name": self.name,
            "type": self.type,
            "deletion_allowed": self.deletion_allowed,
            "derived": self.derived,
            "exportable": self.exportable,
            "allow_plaintext_backup": self.allow_backup,
            "auto_rotate_period": self.auto_rotate_seconds,
            "imported_key": self.imported,
            "latest_version": self.latest,
            "min_available_version": min(self.versions) if min(self.versions) > 1 else 0,
            "min_decryption_version": self.min_decryption,
            "min_encryption_version": self.min_encryption,
            "supports_encryption": self.encrypts,
            "supports_decryption": self.encrypts,
            "supports_derivation": self.symmetric or self.type == "ed25519",
            "supports_signing": self.signs,
            "keys": {str(number): self._shown(number, context) for number in self.usable},
        }
        if self.type == HMAC:
            # In bytes; Terraform's resource crashes without it.
            shown["key_size"] = self.hmac_bytes
        if self.imported:
            shown["imported_key_allow_rotation"] = self.allow_rotation
        if self.derived:
            shown |= {"kdf": "hkdf_sha256", "convergent_encryption": self.convergent}
        return shown

    def _shown(self, number: int, context: bytes) -> Any:  # noqa: ANN401 - JSON
        version = self.versions[number]
        if self.type not in KEY_PAIRS:
            return int(version.created)
        public = ""
        if context or not self.derived:
            public = public_key_text(self.type, self.pair(number, context))
        return {
            "creation_time": rfc3339(version.created),
            # A curve goes by its own name, as in Vault: programs choose how to verify by it.
            "name": self.type.replace("ecdsa-p", "P-"),
            "public_key": public,
            "certificate_chain": version.chain,
        }

    def dumps(self) -> dict[str, Any]:
        """For a document, or a backup; key material in base64."""
        fields = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if each.name != "versions"
        }
        if not self.allow_rotation:
            # A node of the version before reads the key as long as nothing new is used.
            del fields["allow_rotation"]
        versions = {
            str(number): [
                _b64(each.material), _b64(each.hmac_key), each.created,
                *([each.chain] if each.chain else []),
            ]
            for number, each in self.versions.items()
        }  # fmt: skip
        return {**fields, "versions": versions}

    @classmethod
    def loads(cls, document: Mapping[str, Any], *, from_outside: bool = False) -> "TransitKey":
        """Read what `dumps` wrote; raises Invalid(`bad-backup`), for what is `from_outside` now."""
        try:
            versions: Mapping[int, KeyVersion] = _Stored(document["versions"])
            versions = dict(versions) if from_outside else versions
            made = cls(**{**document, "versions": versions})
            if made.type not in TYPES or not versions:
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Invalid("bad-backup", "this is not the backup of a key") from None
        return made


def new_material(kind: str, derived: bool = False, size: int = 0) -> bytes:  # noqa: FBT001 - one of two forms
    """Fresh key material of a type; `size` is that of an HMAC key."""
    if kind in KEY_BYTES:
        return new_symmetric_key(kind)
    if kind == HMAC or derived:
        return os.urandom(size or 32)
    return new_key_pair(kind)


def check_material(kind: str, material: bytes) -> None:
    """Raises Invalid(`bad-key`) for imported material that is not of the type."""
    if kind in KEY_BYTES:
        check_symmetric_key(kind, material)
    elif kind == HMAC:
        if not HMAC_BYTES[0] <= len(material) <= HMAC_BYTES[1]:
            raise Invalid("bad-key", "an HMAC key has 32 to 512 bytes")
    else:
        check_key(kind, material)


def tagged(version: int, content: bytes, *, url_safe: bool = False) -> str:
    """`vault:vN:` and base64."""
    if url_safe:
        return f"vault:v{version}:{base64.urlsafe_b64encode(content).rstrip(b'=').decode()}"
    return f"vault:v{version}:{_b64(content)}"


def untagged(text: str, what: str, *, url_safe: bool = False) -> tuple[int, bytes]:
    """Version and bytes of a tagged value; raises Invalid."""
    prefix, _, body = text.rpartition(":")
    if not prefix.startswith("vault:v") or not _DIGITS.fullmatch(prefix, len("vault:v")):
        raise Invalid("bad-prefix", f"invalid {what}: no prefix")
    return int(prefix.removeprefix("vault:v")), from_base64(body, what, url_safe=url_safe)


def from_base64(text: str, what: str, *, url_safe: bool = False) -> bytes:
    """Bytes of base64; raises Invalid naming the parameter, not its value.

    Line breaks count for nothing, as in Go: files that `base64` writes have them.
    """
    text = text.replace("\n", "").replace("\r", "")
    try:
        if url_safe:
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Invalid("bad-base64", f"failed to base64-decode {what}") from None


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
