"""TLS contexts: 1.2 and up, verified by default."""

import ssl
from pathlib import Path

from strongroom.model.errors import Invalid


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context; raises Invalid(`bad-certificate`) when the files do not fit."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "bad-certificate",
            f"cannot use {certificate} with {key}",
            hint="give a PEM certificate chain and its unencrypted private key",
        ) from error
    return context


def client_context(
    ca_file: Path | None = None,
    ca_data: str = "",
    *,
    client_certificate: tuple[Path, Path] | None = None,
) -> ssl.SSLContext:
    """A client's context that trusts the given authority, or the system's when none is given."""
    try:
        context = ssl.create_default_context(cafile=ca_file, cadata=ca_data or None)
        if client_certificate:
            context.load_cert_chain(*client_certificate)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "bad-ca",
            f"cannot use the certificate authority {ca_file or '(inline)'}",
            hint="give PEM",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
