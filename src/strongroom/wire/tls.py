"""TLS contexts: 1.2 and up, verified by default."""

import _ssl
import ctypes
import functools
import os
import ssl
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from strongroom.model.errors import Invalid
from strongroom.model.secret import Secret

# Authorities between a client and its root; there are one or two.
MOST_BESIDE: Final = 10


@dataclass(frozen=True, slots=True)
class ClientPem:
    """A certificate that is in no file: PEM of the chain and of the private key."""

    certificate: str
    key: Secret


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context; raises Invalid(`bad-certificate`) when the files do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password OpenSSL would ask for one at the terminal, and the process wait.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "bad-certificate",
            f"cannot use {certificate} with {key}",
            hint="give a PEM certificate chain and its unencrypted private key",
        ) from error
    return context


def require_clients(context: ssl.SSLContext, authority: Path | None) -> None:
    """Refuse peers without a certificate of an authority; raises Invalid(`bad-ca`)."""
    if authority is None:
        raise Invalid(
            "no-client-ca",
            "client certificates are required, and no authority is named",
            hint="set tls_client_ca_file",
        )
    try:
        context.load_verify_locations(authority)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "bad-ca", f"cannot use the certificate authority {authority}", hint="give PEM"
        ) from error
    _without_resumption(context)
    context.verify_mode = ssl.CERT_REQUIRED


def _without_resumption(context: ssl.SSLContext) -> None:
    """Every connection shows its whole chain: a session ticket keeps the peer's own alone."""
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    openssl = _openssl(OPENSSL)
    if openssl is not None:
        # Where TLS 1.2 may hand out no tickets OpenSSL keeps the sessions itself, 20,000 of them
        # with every certificate that the peers have sent: strangers would fill the memory.
        openssl.SSL_CTX_ctrl.argtypes = [
            ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p,
        ]  # fmt: skip
        openssl.SSL_CTX_ctrl(_pointer(context), _SET_SESS_CACHE_MODE, _SESS_CACHE_OFF, None)


def sent_beside(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """The certificates in DER that a peer sent beside its own, nearest first, at most ten."""
    if sys.version_info >= (3, 13):
        found = tls.get_unverified_chain()
        return tuple(found[1 : MOST_BESIDE + 1])
    # The same, where the standard library has no public name for it yet.
    chain = cast(Any, tls)._sslobj.get_unverified_chain() or ()  # noqa: SLF001
    encoding = cast(Any, _ssl).ENCODING_DER
    return tuple(each.public_bytes(encoding) for each in chain[1 : MOST_BESIDE + 1])


_ACCEPT: Final = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(lambda _, __: 1)


# SSL_CTRL_SET_SESS_CACHE_MODE and SSL_SESS_CACHE_OFF of openssl/ssl.h.
_SET_SESS_CACHE_MODE: Final = 44
_SESS_CACHE_OFF: Final = 0
# The library that holds OpenSSL for this interpreter, None where there is no such file.
OPENSSL: Final[str | None] = getattr(_ssl, "__file__", None)


def accept_any_client_certificate(context: ssl.SSLContext, library: str | None = OPENSSL) -> bool:
    """Ask peers for a certificate and take any, or none, as Vault's listener does.

    Who presents one has proved the possession of its key, nothing more: the cert auth method
    decides what it is worth. Python's `ssl` refuses unknown ones before anybody can look, so
    OpenSSL is told directly to leave the decision out (SSL_CTX_set_cert_verify_callback(3)).
    False where this Python does not give access to OpenSSL; certificates are not asked for then.
    """
    openssl = _openssl(library)
    if openssl is None:
        return False
    accept = openssl.SSL_CTX_set_cert_verify_callback
    accept.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    accept.restype = None
    accept(_pointer(context), ctypes.cast(_ACCEPT, ctypes.c_void_p), None)
    _without_resumption(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return True


def _openssl(library: str | None) -> ctypes.CDLL | None:
    """The interpreter's OpenSSL, None where this Python gives no access to it."""
    if library is None or sys.implementation.name != "cpython":
        return None
    try:
        openssl = ctypes.CDLL(library)
        _ = openssl.SSL_CTX_set_cert_verify_callback, openssl.SSL_CTX_ctrl
    except (OSError, AttributeError):
        return None
    return openssl


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    # CPython's SSLContext object begins with its SSL_CTX pointer (Modules/_ssl.c, 3.11 to 3.13).
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


def client_context(
    ca_file: Path | None = None,
    ca_data: str = "",
    *,
    client_certificate: tuple[Path, Path] | None = None,
    client_pem: ClientPem | None = None,
    verify: bool = True,
) -> ssl.SSLContext:
    """A client's context that trusts the given authority, or the system's when none is given.

    Without `verify` it trusts whoever answers, for a person who said so by name. One that trusts
    the system alone is shared: nobody may change it.
    """
    if verify and not (ca_file or ca_data or client_certificate or client_pem):
        return _of_the_system(ssl.get_default_verify_paths())
    return _client_context(ca_file, ca_data, client_certificate, client_pem, verify=verify)


@functools.lru_cache(maxsize=4)
def _of_the_system(_paths: ssl.DefaultVerifyPaths) -> ssl.SSLContext:
    """Reading the system's authorities takes longer than a request."""
    return _client_context(None, "", None, None, verify=True)


def _client_context(
    ca_file: Path | None,
    ca_data: str,
    client_certificate: tuple[Path, Path] | None,
    client_pem: ClientPem | None,
    *,
    verify: bool,
) -> ssl.SSLContext:
    if ca_file and not Path(ca_file).is_file():
        raise Invalid(
            "bad-ca",
            f"cannot use the certificate authority {ca_file}: there is no such file",
            hint="name a file of PEM certificates",
        )
    try:
        context = ssl.create_default_context(cafile=ca_file, cadata=ca_data or None)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "bad-ca",
            f"cannot use the certificate authority {ca_file or '(inline)'}",
            hint="give PEM",
        ) from error
    try:
        if client_certificate:
            context.load_cert_chain(*client_certificate)
        if client_pem:
            _load_pem(context, client_pem)
    except (OSError, ssl.SSLError) as error:
        named = " with the key ".join(map(str, client_certificate or ())) or "that was given"
        raise Invalid(
            "bad-certificate",
            f"cannot use the client certificate {named}",
            hint="give PEM files that belong together, readable by you",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_pem(context: ssl.SSLContext, pem: ClientPem) -> None:
    """OpenSSL reads certificates from files alone; these two are in memory and have no name."""
    with ExitStack() as stack:
        paths = []
        for content in (pem.certificate.encode(), pem.key.reveal()):
            file = stack.enter_context(os.fdopen(os.memfd_create("pem"), "wb"))
            file.write(content)
            file.flush()
            paths.append(f"/proc/self/fd/{file.fileno()}")
        context.load_cert_chain(*paths)
