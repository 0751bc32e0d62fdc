"""TLS settings: the trusted authorities, and our own certificate.

By default the system's authorities are trusted, as OpenSSL finds them. `SSL_CERT_FILE` and
`SSL_CERT_DIR` name others; if neither is set, `REQUESTS_CA_BUNDLE` does. A machine without any
authorities uses those of the package certifi.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

from resources.errors import UsageError

NOT_TRUSTED = (
    "-ca names the file of the authority that signed it, as SSL_CERT_FILE does; -k takes any"
)
"""The hint for a certificate that is not trusted."""


class Trust(Struct, frozen=True):
    """How to verify a peer's certificate, and our own certificate for the peer.

    Attributes:
        verify: whether a certificate must be valid; if not, TLS only prevents eavesdropping.
        ca_file: authorities to trust, in PEM, instead of the system's.
        cert_file: our own certificate, for servers that require one (`-cert`), in PEM.
        key_file: its key (`-key`); empty: the key is in the same file.

    Raises:
        UsageError: the settings contradict each other.
    """

    verify: bool = True
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def __post_init__(self) -> None:
        if self.ca_file and not self.verify:
            raise UsageError(
                "certificates are either not verified, or against an authority",
                hint="-k and -ca exclude each other",
            )
        if self.key_file and not self.cert_file:
            raise UsageError("-key goes with -cert", hint="-cert names the certificate's file")

    def check(self) -> None:
        """Read the files.

        Raises:
            UsageError: a file is missing, or is not PEM of the right kind.
        """
        if self.ca_file or self.cert_file:
            self.for_sockets()

    def for_sockets(self) -> ssl.SSLContext:
        """Settings for the TCP port (8088).

        Raises:
            UsageError: as `check`.
        """
        return _context(self, "sockets", *_environment())

    def for_http(self) -> ssl.SSLContext:
        """Settings for HTTP; a context of its own, since it names the protocol.

        Raises:
            UsageError: as `check`.
        """
        return _context(self, "http", *_environment())


def trusting(verify: bool | str) -> Trust:
    """The settings for `verify`: whether to verify, or a file of authorities."""
    if isinstance(verify, str):
        return Trust(ca_file=verify)
    return Trust(verify=verify)


def _environment() -> tuple[str, str]:
    """The variables that name authorities; part of the cache's key, since tests change them."""
    return (
        os.environ.get("SSL_CERT_FILE", "") + "\n" + os.environ.get("SSL_CERT_DIR", ""),
        os.environ.get("REQUESTS_CA_BUNDLE", ""),
    )


@lru_cache(maxsize=16)
def _context(trust: Trust, use: str, openssl_names: str, bundle: str) -> ssl.SSLContext:
    """Cached, since reading the system's authorities takes 20 ms."""
    authorities = trust.ca_file or ("" if openssl_names.strip() else bundle)
    try:
        context = ssl.create_default_context(
            cafile=authorities if authorities and not Path(authorities).is_dir() else None,
            capath=authorities if authorities and Path(authorities).is_dir() else None,
        )
        if trust.ca_file and not context.get_ca_certs() and not Path(authorities).is_dir():
            raise ssl.SSLError("no certificate")
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{authorities!a}: cannot be read as certificate authorities ({_kind(error)})",
            hint="it is a PEM file, with BEGIN CERTIFICATE in it",
        ) from None
    if not authorities and not openssl_names.strip() and _has_no_authorities():
        import certifi

        context.load_verify_locations(certifi.where())
    # Some builds of Python, Debian's among them, take a cut connection for a proper end.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    # Python 3.13 refuses authorities without a key usage, which many private ones lack; curl does
    # not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if trust.cert_file:
        _identify(context, trust)
    if use == "http":
        context.set_alpn_protocols(["http/1.1"])
    return context


def _identify(context: ssl.SSLContext, trust: Trust) -> None:
    def no_password() -> str:
        raise UsageError(
            f"{trust.key_file or trust.cert_file!a}: the key is encrypted",
            hint="an unattended run cannot type its passphrase: give a key without one, readable "
            "to this user alone",
        )

    try:
        context.load_cert_chain(trust.cert_file, trust.key_file or None, password=no_password)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            f"{trust.cert_file!a}: cannot be read as a certificate with its key ({_kind(error)})",
            hint="-cert and -key name PEM files that belong together",
        ) from None


def _kind(error: Exception) -> str:
    return getattr(error, "strerror", "") or type(error).__name__


def _has_no_authorities() -> bool:
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return False
    try:
        return not any(Path(paths.capath).iterdir()) if paths.capath else True
    except OSError:
        return True
