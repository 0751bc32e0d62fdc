"""The body of an HTTP reply as it arrives, with a minimum rate.

A read returns what has arrived and does not wait for a full buffer, so a peer that sends a byte a
second is noticed early. Held by tests/resources/clients/test_http_wire.py.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import requests
from urllib3.exceptions import HTTPError, ProtocolError, SSLError

from resources.clients.connection import Meter, StallLimit

CHUNK_BYTES = 64 * 1024


def pieces(response: requests.Response, stall_limit: StallLimit) -> Iterator[bytes]:
    """Yield the body, never an empty piece.

    Raises:
        requests.RequestException: the body breaks off.
        PeerTooSlow: the rate is below the minimum; the caller adds the address.
    """
    meter, answering = Meter(stall_limit), False
    while True:
        before = time.monotonic()
        piece = _next(response)
        if answering:
            meter.add(time.monotonic() - before, len(piece))
        answering = True
        if not piece:
            return
        yield piece


def _next(response: requests.Response) -> bytes:
    try:
        return response.raw.read1(CHUNK_BYTES, decode_content=False)
    except ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from None
    except SSLError as error:
        raise requests.exceptions.SSLError(error) from None
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from None
