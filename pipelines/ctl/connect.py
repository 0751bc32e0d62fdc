"""From flags to an open server: addresses and credentials."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from resources.clients.door import DEFAULT_BIND, open_server
from resources.clients.server import Server
from resources.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Door:
    """Where the server is and how to be let in; later flags win over earlier ones."""

    bind: str = ""
    host: str = ""
    http: str = ""
    user: str = ""
    password_file: str = ""
    password: str = ""
    skip_verify: bool = False
    timeout_s: float = 60.0

    def __repr__(self) -> str:
        return f"Door(bind={self.bind!r}, host={self.host!r}, http={self.http!r})"

    def with_flags(self, **flags: Any) -> Door:
        return replace(self, **{name: value for name, value in flags.items() if value})

    def open(self) -> Server:
        return open_server(
            bind=self.bind,
            host=self.host,
            http=self.http,
            user=self.user,
            password=self._secret(),
            verify_tls=not self.skip_verify,
            timeout_s=self.timeout_s,
        )

    def _secret(self) -> str:
        if self.password_file:
            try:
                return Path(self.password_file).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"-pwd-file: {error}") from None
        return self.password or os.environ.get("INFLUX_PASSWORD", "")


_FLAGS = [
    click.option(
        "-bind",
        "--bind",
        metavar="<host:port>",
        help=f"the meta node or server to talk to (default {DEFAULT_BIND}); for a single server "
        "its HTTP address (8086) or its TCP address (8088)",
    ),
    click.option(
        "-host",
        "--host",
        metavar="<host:port>",
        help="a single server's TCP address, as in influxd backup -host (port 8088)",
    ),
    click.option(
        "-http",
        "--http",
        metavar="<url>",
        help="a single server's HTTP address (default: port 8086 of the same host)",
    ),
    click.option(
        "-user", "--user", envvar="INFLUX_USERNAME", metavar="<name>", help="user for HTTP"
    ),
    click.option(
        "-pwd",
        "--pwd",
        "password",
        metavar="<password>",
        help="its password; safer: -pwd-file or the variable INFLUX_PASSWORD",
    ),
    click.option(
        "-pwd-file", "--pwd-file", "password_file", metavar="<file>", help="file with the password"
    ),
    click.option(
        "-k", "skip_verify", is_flag=True, help="do not verify the certificate of an https address"
    ),
    click.option(
        "-timeout",
        "--timeout",
        "timeout_s",
        type=float,
        metavar="<seconds>",
        help="how long the server may be silent (default 60)",
    ),
]


def door_flags(command: F) -> F:
    """Add the flags that say where the server is; the command gets them as keywords."""
    for flag in reversed(_FLAGS):
        command = flag(command)
    return command
