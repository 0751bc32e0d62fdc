"""HTTP/1.1 as our peers speak it: what was asked for, and nothing else.

No redirects, proxies or cookies, no credentials of the environment. `http.client` parses;
whole HTTP libraries take longer to load than most backups take to run.
"""

from __future__ import annotations

import http.client
import select
import ssl
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, TypeAlias
from urllib.parse import quote, urlencode

from resources.clients.address import HostPort
from resources.clients.tls import client_tls

CONNECT_TIMEOUT_S = 10.0
CHUNK_BYTES = 64 * 1024
USER_AGENT = "Shardkeeper"
FORM = "application/x-www-form-urlencoded"

_IN_PATHS = "!$%&'()*+,/:;=@~"

Trouble: TypeAlias = Literal["no connection", "no answer to connecting", "TLS", "silence", "broken"]


class Broken(Exception):
    """A request without a whole answer.

    Attributes:
        trouble: what was met.
        before_sending: whether it is certain that not a byte of the request went out.
        name: the kind of error, which is all that is told of it: its text may hold secrets.
    """

    def __init__(self, trouble: Trouble, name: str, *, before_sending: bool) -> None:
        super().__init__(trouble)
        self.trouble: Trouble = trouble
        self.name = name
        self.before_sending = before_sending


class Response:
    """An answer whose head has arrived."""

    def __init__(self, raw: http.client.HTTPResponse) -> None:
        self.status = raw.status
        self.headers: Mapping[str, str] = {
            name.title(): ", ".join(raw.headers.get_all(name, ())) for name in raw.headers
        }
        """Names in title case: `Content-Type`."""
        self.read_whole = False
        self._raw = raw

    def chunks(self) -> Iterator[bytes]:
        """The body as it arrives, in pieces of at most `CHUNK_BYTES`; to be called once."""
        while piece := self._raw.read1(CHUNK_BYTES):
            yield piece
        if self._raw.length:
            raise http.client.IncompleteRead(b"", self._raw.length)
        self.read_whole = True


class PlainHTTP:
    """One server, asked one thing at a time; not for several threads at once.

    A connection is used again if the server keeps it open.

    Args:
        scheme: http or https.
        path: in front of every request's path.
        verify: whether an https certificate must be good, or a file of authorities to trust.
        timeout_s: how long the server may be silent.
    """

    def __init__(
        self,
        scheme: str,
        address: HostPort,
        *,
        path: str = "",
        verify: bool | str = True,
        timeout_s: float,
    ) -> None:
        self._tls = scheme == "https"
        self._address = address
        self._path = quote(path, safe=_IN_PATHS)
        self._verify = verify
        self._timeout_s = timeout_s
        self._kept: http.client.HTTPConnection | None = None

    @contextmanager
    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str],
    ) -> Generator[Response]:
        """Ask, and name what goes wrong until the block ends.

        Raises:
            Broken: no connection, or it broke, inside the block too.
            UsageError: the file of authorities is none.
        """
        connection = self._connection()
        target = self._path + path + (f"?{urlencode(params)}" if params else "")
        try:
            with _naming(before_sending=False):
                connection.request(method, target, body, {**self._always(), **headers})
                raw = connection.getresponse()
                response = Response(raw)
                yield response
                if response.read_whole and not raw.will_close:
                    self._kept, connection = connection, None
                raw.close()
        finally:
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Drop the connection that is kept; more than once is fine."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _always(self) -> dict[str, str]:
        return {
            "Host": str(self._address),
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
        }

    def _connection(self) -> http.client.HTTPConnection:
        """The kept one, unless the server has ended it or says what nobody asked; or a new one."""
        kept, self._kept = self._kept, None
        if kept is not None:
            if not select.select([kept.sock], [], [], 0)[0]:
                return kept
            kept.close()
        tls = self._context() if self._tls else None
        connection = http.client.HTTPConnection(
            *self._address, timeout=min(CONNECT_TIMEOUT_S, self._timeout_s)
        )
        try:
            with _naming(before_sending=True):
                connection.connect()
                if tls is not None:
                    name = self._address.host.partition("%")[0]  # without an IPv6 zone
                    connection.sock = tls.wrap_socket(connection.sock, server_hostname=name)
                connection.sock.settimeout(self._timeout_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        if isinstance(self._verify, str):
            return client_tls(ca_file=self._verify)
        return client_tls(skip_verify=not self._verify)


@contextmanager
def _naming(*, before_sending: bool) -> Generator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise _broken("TLS", error, before_sending) from None
    except TimeoutError as error:
        trouble = "no answer to connecting" if before_sending else "silence"
        raise _broken(trouble, error, before_sending) from None
    except OSError as error:
        trouble = "no connection" if before_sending else "broken"
        raise _broken(trouble, error, before_sending) from None
    except http.client.HTTPException as error:
        raise _broken("broken", error, before_sending) from None


def _broken(trouble: Trouble, error: Exception, before_sending: bool) -> Broken:
    return Broken(trouble, type(error).__name__, before_sending=before_sending)
