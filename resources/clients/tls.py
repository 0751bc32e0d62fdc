"""How to encrypt a connection to a member of a cluster."""

from __future__ import annotations

import ssl

from resources.errors import UsageError


def client_tls(*, skip_verify: bool = False, ca_file: str = "") -> ssl.SSLContext:
    """Settings for TLS on 8088.

    Args:
        skip_verify: take any certificate, for any name: safe from listeners only.
        ca_file: authorities to trust, in PEM, instead of the system's.

    Raises:
        UsageError: no such file, or no authorities in it.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{ca_file!a}: cannot be read as certificate authorities ({type(error).__name__})",
            hint="it is a PEM file, with BEGIN CERTIFICATE in it",
        ) from None
    # Some builds of Python, Debian's among them, take a line that was cut for a proper end.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
