"""Read how to reach a meta node from its configuration file (`-config`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from resources.errors import UsageError

MAX_BYTES = 1 << 20
HINT = (
    "-config names the configuration file of a meta node, such as /etc/influxdb/influxdb-meta.conf"
)


def address_in(path: str) -> dict[str, Any]:
    """Settings of the file, under the names of `Address`; given flags override them.

    From its section `[meta]`: `http-bind-address`, `https-enabled`, `data-use-tls`, and with
    `auth-enabled` the `internal-shared-secret`.

    Raises:
        UsageError: it cannot be read, or is not such a file.
    """
    import tomllib  # few runs need it

    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError("it is longer than any configuration")
        meta: object = tomllib.loads(text.decode()).get("meta", {})
    except (OSError, ValueError) as error:
        # A parser's message may repeat a line, and a line may be a secret.
        why = error.strerror if isinstance(error, OSError) else "it is not TOML"
        raise UsageError(f"-config {path}: {why}", hint=HINT) from None
    if not isinstance(meta, dict):
        raise UsageError(f"-config {path}: [meta] is not a section", hint=HINT)
    return dict(_found(cast("dict[str, Any]", meta)))


def _found(meta: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    bind, secret = meta.get("http-bind-address"), meta.get("internal-shared-secret")
    if isinstance(bind, str) and bind:
        host, _, port = bind.rpartition(":")
        # It listens on all addresses; the command runs on the same host, as the original's does.
        everywhere = host in ("", "0.0.0.0", "[::]")  # noqa: S104 - compared, not bound
        found.append(("bind", f"{'localhost' if everywhere else host}:{port}"))
    if meta.get("https-enabled") is True:
        found.append(("tls", True))
    if meta.get("data-use-tls") is True:
        found.append(("data_tls", True))
    if meta.get("auth-enabled") is True and isinstance(secret, str) and secret:
        found += [("auth_type", "jwt"), ("secret", secret)]
    return found
