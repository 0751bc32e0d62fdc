"""Open a server from flags: addresses and credentials."""

from __future__ import annotations

import os
import sys
from functools import update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct, field
from msgspec.structs import replace

from pipelines.ctl.meta_config import address_in
from pipelines.ctl.params import Duration
from pipelines.ctl.typed_flags import Command, taken
from resources.clients.address import AddressMap
from resources.clients.source_address import DEFAULT_BIND, MIN_BYTES_PER_S, Address, AuthType
from resources.errors import UsageError

if TYPE_CHECKING:
    from resources.clients.cluster import Cluster
    from resources.clients.server import Server

FILES = ("password_file", "secret_file")
SAME = (
    *("bind", "host", "http", "user", "password", "auth_type", "secret", "tls", "data_tls"),
    *("ca_file", "cert_file", "key_file"),
)
"""Flags that are fields of an address."""


class GivenFlags(Struct, frozen=True, kw_only=True):
    """The flags that locate a server, as they were given."""

    config: str | None
    bind: str | None
    host: str | None
    http: str | None
    user: str | None
    password: str | None
    password_file: str | None
    auth_type: AuthType | None
    secret: str | None
    secret_file: str | None
    tls: bool
    data_tls: bool
    skip_verify: bool
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    route: tuple[str, ...]
    timeout_ns: int | None
    min_bytes_per_s: int | None


class ConnectionFlags(Struct, frozen=True):
    """Addresses and credentials of a server; later flags override earlier ones."""

    address: Address = field(default_factory=Address)
    password_file: str = ""
    secret_file: str = ""

    def with_flags(self, flags: GivenFlags) -> ConnectionFlags:
        """These, with what was given besides.

        Raises:
            UsageError: the configuration file or a value of `-map` cannot be read.
        """
        given = address_in(flags.config) if flags.config else {}
        given |= {name: value for name in SAME if (value := getattr(flags, name))}
        if flags.min_bytes_per_s is not None:
            given["min_bytes_per_s"] = flags.min_bytes_per_s
        if flags.timeout_ns:
            given["timeout_s"] = flags.timeout_ns / 1e9
        if flags.skip_verify:
            given["verify_tls"] = False
        if flags.route:
            given["route"] = AddressMap.parse(flags.route)
        files = {name: value for name in FILES if (value := getattr(flags, name))}
        return replace(self, address=replace(self.address, **given), **files)

    def source(self) -> Server | Cluster:
        """The server or cluster, to read from or to restore into."""
        from resources.clients.connect import open_source  # help needs no client

        return open_source(self.address_with_secrets())

    def address_with_secrets(self) -> Address:
        """The address, with the secrets of its files and of the environment."""
        password = _read("-pwd-file", self.password_file) or self.address.password
        secret = _read("-secret-file", self.secret_file) or self.address.secret
        password = password or os.environ.get("INFLUX_PASSWORD", "")
        if self.address.user and not password and self.address.auth_type != "jwt":
            password = _ask(self.address.user)
        return replace(
            self.address,
            password=password,
            secret=secret or os.environ.get("INFLUXDB_SHARED_SECRET", ""),
        )


def _ask(user: str) -> str:
    """Ask for a password at the terminal; without a terminal it is empty."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return ""
    return click.prompt(
        f"Password of {user!a}", default="", hide_input=True, show_default=False, err=True
    )


def _read(flag: str, path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(
            f"{flag} {path}: {why}", hint="name a text file that you may read"
        ) from None


_FLAGS = [
    click.option(
        "-config",
        "--config",
        metavar="<file>",
        help="a meta server's configuration file; its address, TLS and internal-shared-secret are "
        "used",
    ),
    click.option(
        "-bind",
        "--bind",
        metavar="<host:port>",
        help=f"the hostname and HTTP port of a running meta server (default {DEFAULT_BIND}); for a "
        "single server its HTTP address (8086) or its TCP address (8088)",
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
        help="a single server's HTTP address (default: port 8086 of the same host, http or https "
        "as it answers); none: do not use HTTP",
    ),
    click.option("-user", "--user", envvar="INFLUX_USERNAME", metavar="<name>", help="user name"),
    click.option(
        "-pwd",
        "--pwd",
        "password",
        metavar="<password>",
        help="password of the user; safer: -pwd-file, the variable INFLUX_PASSWORD, or the prompt "
        "that appears without any of them",
    ),
    click.option(
        "-pwd-file", "--pwd-file", "password_file", metavar="<file>", help="file with the password"
    ),
    click.option(
        "-auth-type",
        "--auth-type",
        "auth_type",
        type=click.Choice(["none", "basic", "jwt"]),
        help="how to authenticate to meta servers (default: basic with -user, else none)",
    ),
    click.option(
        "-secret",
        "--secret",
        "secret",
        metavar="<secret>",
        help="shared secret of the meta servers, for jwt; safer: -secret-file or the variable "
        "INFLUXDB_SHARED_SECRET",
    ),
    click.option(
        "-secret-file",
        "--secret-file",
        "secret_file",
        metavar="<file>",
        help="file with the shared secret",
    ),
    click.option("-bind-tls", "--bind-tls", "tls", is_flag=True, help="meta servers use https"),
    click.option(
        "-data-tls",
        "--data-tls",
        "data_tls",
        is_flag=True,
        help="port 8088 uses TLS: data nodes with [coordinator] https-enabled, or a proxy before "
        "a single server",
    ),
    click.option("-k", "skip_verify", is_flag=True, help="do not verify certificates"),
    click.option(
        "-ca",
        "--ca",
        "ca_file",
        metavar="<file>",
        help="certificate authorities to trust, in PEM (default: the system's, or SSL_CERT_FILE)",
    ),
    click.option(
        "-cert",
        "--cert",
        "cert_file",
        metavar="<file>",
        help="our own certificate, in PEM, for servers that ask for one",
    ),
    click.option(
        "-key",
        "--key",
        "key_file",
        metavar="<file>",
        help="key of the certificate (default: in the same file)",
    ),
    click.option(
        "-map",
        "--map",
        "route",
        multiple=True,
        metavar="<advertised=reachable>",
        help="where to connect instead of an address that a node advertises, such as "
        "data-1:8088=localhost:18088, or data-1=10.0.0.5 for all its ports; may be repeated",
    ),
    click.option(
        "-timeout",
        "--timeout",
        "timeout_ns",
        type=Duration(),
        metavar="<duration>",
        help="how long a server may be silent (default 60s)",
    ),
    click.option(
        "-min-rate",
        "--min-rate",
        "min_bytes_per_s",
        type=click.IntRange(0, 2**30),
        metavar="<bytes/s>",
        help="the rate that a server must send or accept once it answers, averaged over -timeout "
        f"(default {MIN_BYTES_PER_S}); 0: no minimum",
    ),
]


def connection_flags(command: Command) -> Command:
    """Add the flags that locate the server; the command receives `ConnectionFlags` first."""

    def connected(*args: Any, **given: Any) -> None:
        flags = taken(GivenFlags, given)
        before: ConnectionFlags | None = click.get_current_context().obj
        command((before or ConnectionFlags()).with_flags(flags), *args, **given)

    found: Command = update_wrapper(connected, command)
    for flag in reversed(_FLAGS):
        found = flag(found)
    return found
