"""Dagster resources for the servers and clusters that assets read and restore into."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import dagster as dg
from pydantic import Field

from resources.clients.address import AddressMap
from resources.clients.cluster import Cluster
from resources.clients.connect import open_source
from resources.clients.server import Server
from resources.clients.source_address import MIN_BYTES_PER_S, Address, AuthType
from resources.config.opening import open_cluster
from resources.config.reading import Reading, read_sound
from resources.config.values import EMBEDDED, Secret
from resources.errors import UsageError

CONFIGURATION = (
    "The configuration file, shardkeeper.yaml; of a directory, the embedded clusters below it."
)

MAX_TIMEOUT_S = 86_400.0


class ClustersResource(dg.ConfigurableResource):
    """The configured clusters and single servers, by name."""

    configuration: str = Field(description=CONFIGURATION)

    def reading(self) -> Reading:
        """Read the sound part of the configuration file.

        A step reads it once and passes it on, so the whole step uses one state of the file.

        Raises:
            UsageError: no part of the file is sound.
        """
        return read_sound(Path(self.configuration))


class TargetResource(dg.ConfigurableResource):
    """The target of a restore: a configured cluster by its name, or any address."""

    configuration: str = Field(description=CONFIGURATION)
    cluster: str = Field(
        default="",
        description="Name of a configured cluster, or embedded, the one on this machine that "
        "make dev runs. Leave it empty to give an address.",
    )
    bind: str = Field(
        default="", description="Address of a cluster: any of its meta nodes, host:8091 (-bind)."
    )
    host: str = Field(default="", description="TCP address of a single server, host:8088 (-host).")
    http: str = Field(
        default="",
        description="HTTP address of the single server, a URL or host:port (-http); empty: port "
        "8086 of the same host.",
    )
    user: str = Field(default="", description="User (-user); empty: none.")
    password: str = Field(
        default="",
        repr=False,
        description="Its password. Name an environment variable, {env: NAME}, rather than writing "
        "it here: what is written here is kept with the run.",
    )
    password_file: str = Field(default="", description="File with the password (-pwd-file).")
    auth_type: str = Field(
        default="",
        description="How to authenticate with meta nodes: none, basic or jwt (-auth-type); empty: "
        "basic with user, else none.",
    )
    secret: str = Field(
        default="",
        repr=False,
        description="Shared secret of the meta nodes, for jwt: {env: NAME}, as with password.",
    )
    secret_file: str = Field(default="", description="File with it (-secret-file).")
    tls: bool = Field(default=False, description="Whether meta nodes speak https (-bind-tls).")
    data_tls: bool = Field(
        default=False, description="Whether data nodes speak TLS on port 8088 (-data-tls)."
    )
    verify_tls: bool = Field(
        default=True, description="Whether an https certificate must be valid (-k turns it off)."
    )
    ca: str = Field(
        default="",
        description="File of certificate authorities to trust (-ca); empty: the system's.",
    )
    cert: str = Field(
        default="",
        description="File with our own certificate, for servers that require one (-cert).",
    )
    key: str = Field(default="", description="File with its key (-key); empty: in the same file.")
    map: list[str] = Field(
        default=[],
        description="Where to connect to instead of an address that a node advertises (-map): "
        "data-1:8088=localhost:18088.",
    )
    timeout: float = Field(
        default=60.0, description="Seconds that a server may be silent (-timeout)."
    )
    min_rate: int = Field(
        default=MIN_BYTES_PER_S,
        description="Bytes a second that a server must keep up over that time, once it answers "
        "(-min-rate); 0: none.",
    )

    def open(self, reading: Reading | None = None) -> Server | Cluster:
        """Open the target.

        Args:
            reading: the configuration that the step has read; None reads the file here.

        Raises:
            UsageError: the fields contradict each other.
            ShardkeeperError: no server answers at the address, or a server of another kind.
        """
        address = self.bind or self.host
        if self.cluster and address:
            raise UsageError(
                f"target names the cluster {self.cluster} and the address {address}",
                hint="leave cluster empty to restore to an address, or the address to restore to "
                "the cluster",
            )
        if self.bind and self.host:
            raise UsageError(
                "target has bind and host",
                hint="bind names a meta node of a cluster, host a single server: leave one empty",
            )
        if not address:
            path = Path(self.configuration)
            if reading is None or reading.path != path:
                reading = read_sound(path)
            return open_cluster(reading, self.cluster or EMBEDDED)
        if self.auth_type not in ("", "none", "basic", "jwt"):
            raise UsageError(
                "target: auth_type is none, basic or jwt", hint="leave it empty: basic with user"
            )
        if not 0 < self.timeout <= MAX_TIMEOUT_S:
            raise UsageError(
                f"target: timeout is {self.timeout:g}, which is not among 0 to {MAX_TIMEOUT_S:g} "
                "seconds",
                hint="write timeout: 60, or leave the line out",
            )
        return open_source(
            Address(
                bind=self.bind,
                host=self.host,
                http=self.http,
                user=self.user,
                password=_from(self.password_file) or self.password,
                auth_type=cast("AuthType", self.auth_type) if self.auth_type else None,
                secret=_from(self.secret_file) or self.secret,
                tls=self.tls,
                data_tls=self.data_tls,
                verify_tls=self.verify_tls,
                ca_file=self.ca,
                cert_file=self.cert,
                key_file=self.key,
                route=AddressMap.parse(self.map),
                timeout_s=self.timeout,
                min_bytes_per_s=max(0, self.min_rate),
            )
        )


def _from(path: str) -> str:
    return Secret(file=Path(path)).read() if path else ""
