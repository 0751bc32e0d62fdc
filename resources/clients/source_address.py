"""Where a server or a cluster is, with what its clients need to know; loads no client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from msgspec import Struct

from resources.clients.address import NO_MAP, AddressMap
from resources.values import repr_without

if TYPE_CHECKING:  # the command lines have an address as well, and most of them need no TLS
    from ssl import SSLContext

    from resources.clients.tls import Trust

DEFAULT_BIND = "localhost:8091"
"""The default address of a meta node, as in `influxd-ctl`."""
MIN_BYTES_PER_S = 1024
"""A tenth of a modem's rate: a peer below it for a whole time-out counts as unreachable."""

AuthType = Literal["none", "basic", "jwt"]


class Address(Struct, frozen=True):
    """The address of a server or a cluster, with credentials.

    Attributes:
        bind: any address of a server, or a meta node's; a probe finds out which. With several,
            separated by commas, the first that answers is used. Ignored if `host` is set.
        host: a single server's TCP address (8088).
        http: its HTTP address (8086), a URL or host:port; by default on the same host; `none`
            uses no HTTP, so every backup copies everything. For a cluster, the one data node
            that gets statements; by default all, at the addresses that they advertise.
        user, password: for HTTP, and for meta nodes with `auth_type` basic.
        auth_type: how to authenticate with meta nodes; by default basic with a user, else none.
        secret: the shared secret of meta nodes, for jwt.
        tls: whether meta nodes speak https.
        data_tls: whether the TCP port speaks TLS: data nodes with `[coordinator] https-enabled`,
            or a proxy in front of a single server.
        verify_tls: whether a certificate must be valid.
        ca_file, cert_file, key_file: as in `Trust`.
        route: reachable addresses for the advertised ones.
        timeout_s: how long a peer may be silent.
        min_bytes_per_s: the minimum rate over that time, once the peer answers; 0: none.
    """

    bind: str = ""
    host: str = ""
    http: str = ""
    user: str = ""
    password: str = ""
    auth_type: AuthType | None = None
    secret: str = ""
    tls: bool = False
    data_tls: bool = False
    verify_tls: bool = True
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    route: AddressMap = NO_MAP
    timeout_s: float = 60.0
    min_bytes_per_s: int = MIN_BYTES_PER_S

    __repr__ = repr_without("password", "secret")

    @property
    def trust(self) -> Trust:
        """The trusted authorities, and our own certificate.

        Raises:
            UsageError: the settings contradict each other.
        """
        from resources.clients.tls import Trust

        return Trust(self.verify_tls, self.ca_file, self.cert_file, self.key_file)

    @property
    def socket_tls(self) -> SSLContext | None:
        """The TLS settings of the TCP port; None: no encryption.

        Raises:
            UsageError: a certificate or key file cannot be read.
        """
        return self.trust.for_sockets() if self.data_tls else None
