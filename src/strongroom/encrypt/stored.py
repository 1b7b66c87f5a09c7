"""What a value in etcd is, by its first bytes; needs no key and reveals no value. Pure.

Prefixes: kubernetes/apiserver pkg/storage/value/encrypt; EncryptedObject: kmsv2/v2/api.proto.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.model.errors import Invalid
from strongroom.wire.protobuf import decode, text_of

_KMS_V2: Final = b"k8s:enc:kms:v2:"
_ENCRYPTED: Final = b"k8s:enc:"
_LOCAL: Final = ("aescbc", "aesgcm", "secretbox")
SHOWN_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Stored:
    """How a value is stored.

    `form` is kms-v2, kms-v1, aescbc, aesgcm, secretbox, plaintext or unknown; `provider` the
    provider's or local key's name, `key_id` what the plugin called its key.
    """

    form: str
    provider: str = ""
    key_id: str = ""
    detail: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether somebody without a key reads nothing."""
        return self.form not in ("plaintext", "unknown")


def classify(value: bytes, names: Sequence[str] = ()) -> Stored:
    """Classify the value of one etcd key.

    A name may have a colon, which in the value is one as that behind it: of the `names` that are
    known the first that fits counts, before what stands in front of the first colon.
    """
    if value.startswith(_KMS_V2):
        return _kms_v2(value[len(_KMS_V2) :], names)
    if value.startswith(_ENCRYPTED):
        kind, _, rest = value[len(_ENCRYPTED) :].partition(b":")
        version, _, rest = rest.partition(b":")
        name, _ = _named(rest, names)
        if kind == b"kms" and version == b"v1":
            return Stored("kms-v1", name)
        if kind.decode(errors="replace") in _LOCAL and version == b"v1":
            return Stored(kind.decode(), name)
        return Stored("unknown", detail="an encryption prefix nobody here knows")
    if value.startswith(b"k8s\x00"):
        return Stored("plaintext", detail="protobuf")
    if value.startswith(b"\xd9\xd9\xf7"):
        return Stored("plaintext", detail="CBOR")
    if value[:1] in (b"{", b"["):
        return Stored("plaintext", detail="JSON")
    return Stored("unknown", detail="neither encrypted nor a Kubernetes object")


def _named(rest: bytes, names: Sequence[str]) -> tuple[str, bytes]:
    """The name in front, at most so long unless it is known, and what is behind it."""
    for name in names:
        if rest.startswith(f"{name}:".encode()):
            return name, rest[len(name.encode()) + 1 :]
    first, _, behind = rest.partition(b":")
    return first[:SHOWN_BYTES].decode(errors="replace"), behind


def _kms_v2(rest: bytes, names: Sequence[str]) -> Stored:
    provider, message = _named(rest, names)
    if b":" not in rest or not provider:
        return Stored("unknown", detail="a KMS v2 prefix without a provider name")
    try:
        # Of a field that is there twice the last counts, as for the API server.
        key_id = text_of(dict(decode(message)).get(2, b""))
    except Invalid:
        return Stored("unknown", provider, detail="a KMS v2 value that cannot be parsed")
    if not key_id:
        return Stored("unknown", provider, detail="a KMS v2 value without a key id")
    return Stored("kms-v2", provider, key_id)


def evidence(value: bytes) -> str:
    """The start of an encrypted value as text: its prefix, which is no secret; "" for plaintext."""
    if not value.startswith(_ENCRYPTED):
        return ""
    return value.partition(b"\n")[0][:SHOWN_BYTES].decode(errors="replace").partition("\ufffd")[0]
