"""The InfluxDB that assets read from or restore into, as Dagster configures it."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from resources.clients.door import Address, open_server
from resources.clients.server import Server


class InfluxServerResource(dg.ConfigurableResource):
    """A single InfluxDB 1.x server, reached through both its doors: TCP and HTTP."""

    host: str = Field(
        default="localhost:8088",
        description="TCP address, host:port, port 8088 by default (-host). It must be reachable "
        "from here: influxd listens on 127.0.0.1 unless bind-address says otherwise.",
    )
    http: str = Field(
        default="",
        description="HTTP address, a URL or host:port (-http); empty: port 8086 of the same host. "
        "It tells the server's clock; without it every backup copies everything.",
    )
    user: str = Field(default="", description="User for HTTP (-user); empty: none.")
    password: str = Field(
        default="",
        repr=False,
        description="Its password. Name an environment variable, {env: NAME}, rather than writing "
        "it here: what is written here is kept with the run.",
    )
    verify_tls: bool = Field(
        default=True, description="Whether an https certificate must be valid (-k turns it off)."
    )
    timeout: float = Field(
        default=60.0, gt=0, description="Seconds that the server may be silent (-timeout)."
    )

    def connect(self) -> Server:
        """Open the server.

        Raises:
            ShardkeeperError: nobody answers there, or not the right one.
        """
        return open_server(
            Address(
                host=self.host,
                http=self.http,
                user=self.user,
                password=self.password,
                verify_tls=self.verify_tls,
                timeout_s=self.timeout,
            )
        )
