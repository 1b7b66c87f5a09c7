"""Messages of `v2.KeyManagementService`; field numbers of KEP-3299, kms/apis/v2/api.proto."""

from dataclasses import dataclass, field
from typing import Final

from strongroom.wire.protobuf import bytes_of, decode, encode, map_entry, text_of

SERVICE: Final = "v2.KeyManagementService"


@dataclass(frozen=True, slots=True)
class StatusResponse:
    """`healthz` is "ok" or the reason it is not."""

    version: str
    healthz: str
    key_id: str

    def dumps(self) -> bytes:
        """On the wire."""
        return encode([(1, self.version), (2, self.healthz), (3, self.key_id)])

    @classmethod
    def loads(cls, message: bytes) -> "StatusResponse":
        """Raises Invalid."""
        found = {number: text_of(value) for number, value in decode(message) if number <= 3}
        return cls(found.get(1, ""), found.get(2, ""), found.get(3, ""))


@dataclass(frozen=True, slots=True)
class EncryptRequest:
    """The API server's 32-byte seed, and an id for logs."""

    plaintext: bytes = field(repr=False)
    uid: str = ""

    def dumps(self) -> bytes:
        """On the wire."""
        return encode([(1, self.plaintext), (2, self.uid)])

    @classmethod
    def loads(cls, message: bytes) -> "EncryptRequest":
        """Raises Invalid."""
        plaintext, uid = b"", ""
        for number, value in decode(message):
            if number == 1:
                plaintext = bytes_of(value)
            elif number == 2:
                uid = text_of(value)
        return cls(plaintext, uid)


@dataclass(frozen=True, slots=True)
class EncryptResponse:
    """What the API server stores beside its data."""

    ciphertext: bytes
    key_id: str
    annotations: dict[str, bytes] = field(default_factory=dict)

    def dumps(self) -> bytes:
        """On the wire."""
        return encode([(1, self.ciphertext), (2, self.key_id), (3, self.annotations)])

    @classmethod
    def loads(cls, message: bytes) -> "EncryptResponse":
        """Raises Invalid."""
        ciphertext, key_id, annotations = b"", "", {}
        for number, value in decode(message):
            if number == 1:
                ciphertext = bytes_of(value)
            elif number == 2:
                key_id = text_of(value)
            elif number == 3:
                key, content = map_entry(value)
                annotations[key] = content
        return cls(ciphertext, key_id, annotations)


@dataclass(frozen=True, slots=True)
class DecryptRequest:
    """An EncryptResponse coming back."""

    ciphertext: bytes
    uid: str
    key_id: str
    annotations: dict[str, bytes] = field(default_factory=dict)

    def dumps(self) -> bytes:
        """On the wire."""
        return encode(
            [(1, self.ciphertext), (2, self.uid), (3, self.key_id), (4, self.annotations)]
        )

    @classmethod
    def loads(cls, message: bytes) -> "DecryptRequest":
        """Raises Invalid."""
        ciphertext, uid, key_id, annotations = b"", "", "", {}
        for number, value in decode(message):
            if number == 1:
                ciphertext = bytes_of(value)
            elif number == 2:
                uid = text_of(value)
            elif number == 3:
                key_id = text_of(value)
            elif number == 4:
                key, content = map_entry(value)
                annotations[key] = content
        return cls(ciphertext, uid, key_id, annotations)


def decrypt_response(plaintext: bytes) -> bytes:
    """The reply to Decrypt."""
    return encode([(1, plaintext)])


def plaintext_of(message: bytes) -> bytes:
    """The plaintext of a reply to Decrypt; raises Invalid."""
    return next((bytes_of(value) for number, value in decode(message) if number == 1), b"")
