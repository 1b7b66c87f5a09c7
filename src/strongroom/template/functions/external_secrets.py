"""The functions external-secrets adds: PEM, certificate chains, PKCS #12, JWK, RSA.

Source: https://external-secrets.io/latest/guides/templating/ (Helper functions).
"""

import base64
from typing import Final

from strongroom.crypto.certificates import (
    alternative_names,
    authority_key_id,
    certificate_text,
    chain,
    first_certificate,
    is_root,
    subject_key_id,
)
from strongroom.crypto.jwk import jwk_private_pem, jwk_public_pem
from strongroom.crypto.pem import next_block
from strongroom.crypto.pkcs12 import make_pkcs12, make_truststore, open_pkcs12
from strongroom.crypto.private_keys import load_private_key, pkcs8_text, rsa_oaep_decrypt
from strongroom.model.errors import Invalid
from strongroom.template.errors import CallFailed
from strongroom.template.registry import Run, Table
from strongroom.template.values import Value, string_list

EXTERNAL_SECRETS: Final = Table("external-secrets")


def _from_begin(text: bytes) -> bytes:
    """Text in front of the first block is left out, also when it stands on the same line."""
    at = text.find(b"-----BEGIN")
    return text[at:] if at > 0 else text


@EXTERNAL_SECRETS("filterPEM", "string, string")
def _filter_pem(kind: bytes, text: bytes) -> bytes:
    """The PEM blocks of one kind, such as CERTIFICATE or PRIVATE KEY."""
    rest, found = _from_begin(text), b""
    wanted = kind.decode("latin-1").casefold()
    while True:
        block, rest = next_block(rest)
        if block is None:
            break
        if block.kind.casefold() == wanted:
            found += block.encode()
    if not found and rest:
        raise CallFailed("error filtering pem: found junk")
    return found


@EXTERNAL_SECRETS("filterCertChain", "string, string")
def _filter_cert_chain(part: bytes, text: bytes) -> bytes:
    """The leaf, intermediate or root certificates of a PEM chain in any order."""
    try:
        ordered = chain(text)
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None
    if part == b"leaf":
        signer = authority_key_id(ordered[0])
        is_leaf = signer is not None and signer != subject_key_id(ordered[0])
        return certificate_text(ordered[0]) if is_leaf else b""
    if part == b"root":
        return certificate_text(ordered[-1]) if is_root(ordered[-1]) else b""
    found = b""
    for certificate in ordered[1:] if part == b"intermediate" else ():
        if is_root(certificate):
            break
        found += certificate_text(certificate)
    return found


@EXTERNAL_SECRETS("certSANs", "string")
def _cert_sans(text: bytes) -> Value:
    """The names and addresses a PEM certificate is for."""
    try:
        certificate, _ = first_certificate(_from_begin(text))
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None
    return string_list([name.encode() for name in alternative_names(certificate)])


@EXTERNAL_SECRETS("pkcs12keyPass", "string, string")
def _pkcs12_key_pass(password: bytes, content: bytes) -> bytes:
    """The private key of a PKCS #12 file as PEM."""
    try:
        return pkcs8_text(open_pkcs12(content, password)[0])
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None


@EXTERNAL_SECRETS("pkcs12key", "string")
def _pkcs12_key(content: bytes) -> bytes:
    """The private key of a PKCS #12 file without a password."""
    return _pkcs12_key_pass(b"", content)


@EXTERNAL_SECRETS("pkcs12certPass", "string, string")
def _pkcs12_cert_pass(password: bytes, content: bytes) -> bytes:
    """The certificates of a PKCS #12 file as PEM, the leaf first."""
    try:
        _, certificate, others = open_pkcs12(content, password)
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None
    text = b"".join(certificate_text(each) for each in (certificate, *others))
    try:
        return b"".join(certificate_text(each) for each in chain(text))
    except Invalid:
        return text  # not one chain: in the file's order


@EXTERNAL_SECRETS("pkcs12cert", "string")
def _pkcs12_cert(content: bytes) -> bytes:
    """The certificates of a PKCS #12 file without a password."""
    return _pkcs12_cert_pass(b"", content)


def _pkcs12(run: Run, certificate: bytes, key: bytes, password: bytes, *, whole: bool) -> bytes:
    run.budget.slow()
    try:
        made = make_pkcs12(certificate, key, password, whole_chain=whole)
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None
    return base64.b64encode(made)


@EXTERNAL_SECRETS("pemToPkcs12", "string, string")
def _pem_to_pkcs12(run: Run, certificate: bytes, key: bytes) -> bytes:
    """A PEM certificate and key as a PKCS #12 file, in base64."""
    return _pkcs12(run, certificate, key, b"", whole=False)


@EXTERNAL_SECRETS("pemToPkcs12Pass", "string, string, string")
def _pem_to_pkcs12_pass(run: Run, certificate: bytes, key: bytes, password: bytes) -> bytes:
    """A PEM certificate and key as a PKCS #12 file with a password, in base64."""
    return _pkcs12(run, certificate, key, password, whole=False)


@EXTERNAL_SECRETS("fullPemToPkcs12", "string, string")
def _full_pem_to_pkcs12(run: Run, certificates: bytes, key: bytes) -> bytes:
    """A PEM chain and key as a PKCS #12 file, in base64."""
    return _pkcs12(run, certificates, key, b"", whole=True)


@EXTERNAL_SECRETS("fullPemToPkcs12Pass", "string, string, string")
def _full_pem_to_pkcs12_pass(run: Run, certificates: bytes, key: bytes, password: bytes) -> bytes:
    """A PEM chain and key as a PKCS #12 file with a password, in base64."""
    return _pkcs12(run, certificates, key, password, whole=True)


@EXTERNAL_SECRETS("pemTruststoreToPKCS12Pass", "string, string")
def _truststore_pass(run: Run, certificates: bytes, password: bytes) -> bytes:
    """PEM certificates as a Java trust store with a password, in base64."""
    run.budget.slow()
    try:
        return base64.b64encode(make_truststore(certificates, password))
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None


@EXTERNAL_SECRETS("pemTruststoreToPKCS12", "string")
def _truststore(run: Run, certificates: bytes) -> bytes:
    """PEM certificates as a Java trust store, in base64."""
    return _truststore_pass(run, certificates, b"")


@EXTERNAL_SECRETS("jwkPublicKeyPem", "string")
def _jwk_public(text: bytes) -> bytes:
    """A public JSON Web Key as PEM."""
    try:
        return jwk_public_pem(text)
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None


@EXTERNAL_SECRETS("jwkPrivateKeyPem", "string")
def _jwk_private(text: bytes) -> bytes:
    """A private JSON Web Key as PEM."""
    try:
        return jwk_private_pem(text)
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None


@EXTERNAL_SECRETS("rsaDecrypt", "string, string, string, string")
def _rsa_decrypt(scheme: bytes, digest: bytes, ciphertext: bytes, key: bytes) -> bytes:
    """RSA-OAEP decrypted: scheme (RSA-OAEP or None), hash, ciphertext, PEM key."""
    if scheme == b"None":
        return ciphertext
    if scheme != b"RSA-OAEP":
        raise CallFailed("this decryption scheme is not supported: use RSA-OAEP or None")
    try:
        return rsa_oaep_decrypt(load_private_key(key), ciphertext, digest.decode("latin-1"))
    except Invalid as refusal:
        raise CallFailed(refusal.message) from None
