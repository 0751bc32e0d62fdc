"""Reads the end of a certificate's validity, with as much of X.509 as that needs.

    Certificate ::= SEQUENCE { tbsCertificate SEQUENCE {
        [0] version OPTIONAL, serialNumber INTEGER, signature SEQUENCE, issuer SEQUENCE,
        validity SEQUENCE { notBefore Time, notAfter Time }, … } … }

Source: RFC 5280, 4.1; X.690 (DER).
"""

from __future__ import annotations

from datetime import UTC, datetime

from resources.errors import BadReply

_SEQUENCE, _INTEGER, _VERSION = 0x30, 0x02, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18


def not_after(der: bytes) -> datetime:
    """The end of the certificate's validity.

    Raises:
        BadReply: the bytes are not a certificate.
    """
    certificate, _ = _element(der, _SEQUENCE)
    rest, _ = _element(certificate, _SEQUENCE)
    if rest[:1] == bytes([_VERSION]):
        _, rest = _element(rest, _VERSION)
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):
        _, rest = _element(rest, tag)
    validity, _ = _element(rest, _SEQUENCE)
    _, after = _element(validity, None)
    value, _ = _element(after, None)
    form = "%y%m%d%H%M%SZ" if after[0] == _UTC_TIME else "%Y%m%d%H%M%SZ"
    try:
        return datetime.strptime(value.decode("ascii"), form).replace(tzinfo=UTC)
    except ValueError:
        raise BadReply("the certificate's last day is invalid") from None


def _element(der: bytes, tag: int | None) -> tuple[bytes, bytes]:
    """The content of the first element, and the bytes after it."""
    if len(der) < 2 or (tag is not None and der[0] != tag):
        raise BadReply("this is not a certificate")
    size, at = der[1], 2
    if size & 0x80:
        n_bytes = size & 0x7F
        at = 2 + n_bytes
        if not 0 < n_bytes <= 4 or len(der) < at:
            raise BadReply("this is not a certificate")
        size = int.from_bytes(der[2:at], "big")
    if len(der) < at + size:
        raise BadReply("the certificate is cut")
    return der[at : at + size], der[at + size :]
