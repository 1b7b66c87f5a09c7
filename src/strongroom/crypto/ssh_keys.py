"""New SSH key pairs: OpenSSH's private key format and a line of authorized_keys (RFC 4253)."""

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from strongroom.model.errors import Invalid

_CURVES: Final[dict[int, ec.EllipticCurve]] = {
    256: ec.SECP256R1(),
    384: ec.SECP384R1(),
    521: ec.SECP521R1(),
}
_RSA_BITS: Final = (2048, 3072, 4096, 8192)


@dataclass(frozen=True, slots=True)
class SshKey:
    """`private` as PEM of OpenSSH's own format, `public` as one line that ends with a line feed."""

    private: bytes = field(repr=False)
    public: bytes


def new_ssh_key(kind: str, bits: int = 0, comment: str = "") -> SshKey:
    """A new pair of `rsa`, `ecdsa` or `ed25519`; `bits` 0 is the usual size.

    Raises Invalid(`bad-key-size`) for a size that the kind has not, or a comment of two lines.
    """
    if "\n" in comment or "\r" in comment:
        raise Invalid("bad-key-size", "goes with a comment of one line")
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        key = ec.generate_private_key(_CURVES[_one_of(bits or 256, tuple(_CURVES))])
    else:
        key = rsa.generate_private_key(65537, _one_of(bits or 2048, _RSA_BITS))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return SshKey(private, b" ".join(each for each in (public, comment.encode()) if each) + b"\n")


def _one_of(bits: int, sizes: tuple[int, ...]) -> int:
    if bits not in sizes:
        raise Invalid("bad-key-size", f"must be one of {', '.join(map(str, sizes))}")
    return bits
