"""Random text, password hashes, keys and certificates. Source: https://masterminds.github.io/sprig/crypto.html.

What these make differs at every rendering (but for derivePassword and decryptAES).
"""

import base64
import ipaddress
from collections.abc import Callable, Mapping
from typing import Final

from strongroom.crypto.cbc import decrypt_cbc, encrypt_cbc
from strongroom.crypto.certificates import (
    Subject,
    common_name_text,
    first_certificate,
    issue_certificate,
)
from strongroom.crypto.password_formats import bcrypt_hash, derived_password
from strongroom.crypto.private_keys import (
    load_private_key,
    new_private_key,
    private_key_text,
)
from strongroom.model.errors import Invalid
from strongroom.template.errors import CallFailed
from strongroom.template.functions.encoding import Corrupt, decode_base64
from strongroom.template.registry import Run, Table
from strongroom.template.values import Object, Slice, Value

CRYPTO: Final = Table("Random values, keys and certificates")
_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS: Final = "0123456789"
_LETTERS: Final = _UPPER + _UPPER.lower()
RSA_BITS: Final = 4096


class Certificate(Object):
    """sprig.certificate: PEM of a certificate and its key."""

    go_type = "sprig.certificate"
    stringer = False

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate = certificate
        self.key = key

    def fields(self) -> Mapping[str, Value]:
        """Cert and Key."""
        return {"Cert": self.certificate, "Key": self.key}


def _random_text(run: Run, count: int, alphabet: str) -> bytes:
    """Characters of an alphabet, each as likely as another."""
    if count < 0:
        return b""
    run.budget.produce(count)
    out: list[str] = []
    limit = 256 - 256 % len(alphabet)
    while len(out) < count:
        for byte in run.random(count - len(out) + 16):
            if byte < limit and len(out) < count:
                out.append(alphabet[byte % len(alphabet)])
    return "".join(out).encode()


@CRYPTO("randAlphaNum", "int")
def _rand_alpha_num(run: Run, count: int) -> bytes:
    """So many random letters and digits."""
    return _random_text(run, count, _LETTERS + _DIGITS)


@CRYPTO("randAlpha", "int")
def _rand_alpha(run: Run, count: int) -> bytes:
    """So many random letters."""
    return _random_text(run, count, _LETTERS)


@CRYPTO("randNumeric", "int")
def _rand_numeric(run: Run, count: int) -> bytes:
    """So many random digits."""
    return _random_text(run, count, _DIGITS)


@CRYPTO("randAscii", "int")
def _rand_ascii(run: Run, count: int) -> bytes:
    """So many random printable characters."""
    return _random_text(run, count, "".join(map(chr, range(32, 127))))


@CRYPTO("randBytes", "int")
def _rand_bytes(run: Run, count: int) -> bytes:
    """So many random bytes, in base64."""
    if count < 0:
        raise CallFailed("a negative number of bytes")
    run.budget.produce(count)
    return base64.b64encode(run.random(count))


@CRYPTO("uuidv4")
def _uuidv4(run: Run) -> bytes:
    """A random UUID."""
    number = bytearray(run.random(16))
    number[6] = number[6] & 0x0F | 0x40
    number[8] = number[8] & 0x3F | 0x80
    text = number.hex()
    parts = (text[:8], text[8:12], text[12:16], text[16:20], text[20:])
    return "-".join(parts).encode()


@CRYPTO("bcrypt", "string")
def _bcrypt(run: Run, password: bytes) -> bytes:
    """A bcrypt hash."""
    run.budget.slow()
    try:
        return bcrypt_hash(password)
    except Invalid as refusal:
        return f"failed to encrypt string with bcrypt: {refusal.message}".encode()


@CRYPTO("htpasswd", "string, string")
def _htpasswd(run: Run, user: bytes, password: bytes) -> bytes:
    """A line of an htpasswd file."""
    if b":" in user:
        return b"invalid username: " + user
    return user + b":" + _bcrypt(run, password)


@CRYPTO("derivePassword", "uint32, string, string, string, string")
def _derive_password(
    run: Run, counter: int, kind: bytes, password: bytes, user: bytes, site: bytes
) -> bytes:
    """A site's password from a master password: counter, kind, master password, user, site."""
    run.budget.slow()
    try:
        return derived_password(counter, kind, password, user, site)
    except Invalid:
        return b"cannot find password template " + kind


@CRYPTO("encryptAES", "string, string")
def _encrypt_aes(run: Run, password: bytes, plaintext: bytes) -> bytes:
    """AES-256-CBC in base64."""
    if not plaintext:
        return b""
    return base64.b64encode(encrypt_cbc(password, plaintext, run.random(16)))


@CRYPTO("decryptAES", "string, string")
def _decrypt_aes(password: bytes, text: bytes) -> bytes:
    """What encryptAES encrypted."""
    if not text:
        return b""
    try:
        return decrypt_cbc(password, decode_base64(text))
    except (Corrupt, Invalid):
        raise CallFailed("the text was not encrypted with this password") from None


def _refusing(make: Callable[[], Value]) -> Value:
    """Run code of the crypto room; its refusals become the function's."""
    try:
        return make()
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None


@CRYPTO("genPrivateKey", "string")
def _gen_private_key(run: Run, kind: bytes) -> bytes:
    """A new private key as PEM: rsa (4096 bits), dsa, ecdsa or ed25519."""
    run.budget.slow()
    run.budget.slow()
    name = kind.decode("latin-1") or "rsa"
    try:
        return private_key_text(new_private_key(name, RSA_BITS))
    except Invalid:
        return b"Unknown type " + kind


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CallFailed("a name is no text") from None


def _names(value: Slice, what: str) -> tuple[str, ...]:
    if not all(isinstance(each, bytes) for each in value.items):
        raise CallFailed(f"a {what} is not a string")
    names: tuple[str, ...] = _refusing(lambda: common_name_text(value.items))
    return names


def _subject(name: bytes, addresses: Slice, dns_names: Slice) -> Subject:
    found = _names(addresses, "IP address")
    try:
        for each in found:
            ipaddress.ip_address(each)
    except ValueError:
        raise CallFailed("an IP address cannot be read") from None
    return Subject(_text(name), found, _names(dns_names, "DNS name"))


def _issued(
    run: Run,
    subject: Subject,
    days: int,
    key: bytes | None,
    issuer: Certificate | None = None,
    *,
    is_authority: bool = False,
) -> Certificate:
    run.budget.slow()

    def make() -> Certificate:
        private = new_private_key("rsa") if key is None else load_private_key(key)
        made = issue_certificate(
            subject,
            private,
            (run.clock.now(), days),
            issuer=(issuer.certificate, issuer.key) if issuer else None,
            is_authority=is_authority,
        )
        return Certificate(made, private_key_text(private))

    certificate: Certificate = _refusing(make)
    return certificate


_NOBODY: Final = Slice("interface {}", [])


@CRYPTO("genCA", "string, int")
def _gen_ca(run: Run, name: bytes, days: int) -> Certificate:
    """A new certificate authority: name, days. Its fields are Cert and Key."""
    return _issued(run, _subject(name, _NOBODY, _NOBODY), days, None, is_authority=True)


@CRYPTO("genCAWithKey", "string, int, string")
def _gen_ca_with_key(run: Run, name: bytes, days: int, key: bytes) -> Certificate:
    """A new certificate authority with a key of one's own."""
    return _issued(run, _subject(name, _NOBODY, _NOBODY), days, key, is_authority=True)


@CRYPTO("genSelfSignedCert", "string, list, list, int")
def _gen_self_signed_cert(
    run: Run, name: bytes, addresses: Slice, dns_names: Slice, days: int
) -> Certificate:
    """A certificate signed by itself: name, IP addresses, DNS names, days."""
    return _issued(run, _subject(name, addresses, dns_names), days, None)


@CRYPTO("genSelfSignedCertWithKey", "string, list, list, int, string")
def _gen_self_signed_cert_with_key(
    run: Run, name: bytes, addresses: Slice, dns_names: Slice, days: int, key: bytes
) -> Certificate:
    """A certificate signed by itself, with a key of one's own."""
    return _issued(run, _subject(name, addresses, dns_names), days, key)


@CRYPTO("genSignedCert", "string, list, list, int, certificate")
def _gen_signed_cert(
    run: Run, name: bytes, addresses: Slice, dns_names: Slice, days: int, issuer: Certificate
) -> Certificate:
    """A certificate signed by an authority that genCA or buildCustomCert gave."""
    return _issued(run, _subject(name, addresses, dns_names), days, None, issuer)


@CRYPTO("genSignedCertWithKey", "string, list, list, int, certificate, string")
def _gen_signed_cert_with_key(run: Run, *given: Value) -> Certificate:
    """A certificate signed by an authority, with a key of one's own."""
    name, addresses, dns_names, days, issuer, key = given
    return _issued(run, _subject(name, addresses, dns_names), days, key, issuer)


@CRYPTO("buildCustomCert", "string, string")
def _build_custom_cert(certificate: bytes, key: bytes) -> Certificate:
    """A certificate and key given as PEM in base64, to sign with."""
    try:
        text, private = decode_base64(certificate), decode_base64(key)
    except Corrupt:
        raise CallFailed("unable to decode base64 certificate or key") from None
    _refusing(lambda: first_certificate(text))
    _refusing(lambda: load_private_key(private))
    return Certificate(text, private)
