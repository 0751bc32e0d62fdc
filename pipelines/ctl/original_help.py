"""The output of `influxd-ctl help`: the original's layout, its commands that we have, its flags.

Source: influxdb-cluster 1.8.11's influxd-ctl, observed; InfluxDB Enterprise 1.12 docs, tools,
influxd-ctl backup, restore and show-shards; InfluxDB Enterprise 1.2, Backup and Restore.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct


class OriginalFlag(Struct, frozen=True):
    """A flag of the original: its name, the kind of its value (none for switches), its help."""

    name: str
    kind: str
    help: str


class OriginalCommand(Struct, frozen=True):
    """A command of the original."""

    summary: str
    argument: str
    flags: tuple[OriginalFlag, ...]


GLOBAL = (
    OriginalFlag(
        "auth-type", "string", 'Type of authentication to use (none, basic, jwt) (default "none")'
    ),
    OriginalFlag("bind", "string", 'Bind HTTP address of a meta node (default "localhost:8091")'),
    OriginalFlag("bind-tls", "", "Use TLS"),
    OriginalFlag("config", "string", "Config file path"),
    OriginalFlag("k", "", "Skip certificate verification (ignored without -bind-tls)"),
    OriginalFlag("pwd", "string", "Password (ignored without -auth-type basic)"),
    OriginalFlag("secret", "string", "JWT shared secret (ignored without -auth-type jwt)"),
    OriginalFlag(
        "timeout", "duration", "Override the default timeout of operations (default 1m0s)"
    ),
    OriginalFlag("user", "string", "User name (ignored without -auth-type basic | jwt)"),
)

COMMANDS: Mapping[str, OriginalCommand] = {
    "backup": OriginalCommand(
        "Backup a cluster",
        "<path-to-backup-directory>",
        (
            OriginalFlag("bufsize", "int", "size of the buffers (without effect)"),
            OriginalFlag("cpuprofile", "", "write backup execution to a cpu profile"),
            OriginalFlag("db", "string", "the name of the single database to back up"),
            OriginalFlag("end", "string", "exclude shards from this time on (RFC3339)"),
            OriginalFlag("estimate", "", "estimate the size of the requested backup"),
            OriginalFlag("from", "string", "the data node TCP address to prefer when backing up"),
            OriginalFlag(
                "full", "", "perform a full backup (deprecated in favor of -strategy full)"
            ),
            OriginalFlag("gzipBlockCount", "int", "blocks compressed at once (without effect)"),
            OriginalFlag("gzipBlockSize", "int", "size of compressed blocks (without effect)"),
            OriginalFlag(
                "gzipCompressionLevel",
                "string",
                'level of compression: default, full, speedy or none (default "default")',
            ),
            OriginalFlag(
                "rp",
                "string",
                "the name of the single retention policy to back up (must specify -db with -rp)",
            ),
            OriginalFlag("shard", "uint", "the ID of the single shard to back up"),
            OriginalFlag(
                "staleness-threshold",
                "duration",
                "skip shards whose backup is at most so much older than their last change "
                "(default 0s)",
            ),
            OriginalFlag("start", "string", "include shards from this time on (RFC3339)"),
            OriginalFlag(
                "strategy",
                "string",
                'backup strategy to use: only-meta, full or incremental (default "incremental")',
            ),
        ),
    ),
    "restore": OriginalCommand(
        "Restore a backup of a cluster",
        "<path-to-backup-directory>|-full <path-to-manifest-file>",
        (
            OriginalFlag("db", "string", "the name of the single database to restore"),
            OriginalFlag("full", "", "restore a full backup; takes the path of its manifest"),
            OriginalFlag("list", "", "shows the contents of the backup"),
            OriginalFlag(
                "meta-only-overwrite-force",
                "",
                "restore only metadata, over the cluster's; only from backups of this cluster",
            ),
            OriginalFlag(
                "newdb",
                "string",
                "the name of the new database to restore to (must specify with -db)",
            ),
            OriginalFlag(
                "newduration", "duration", "new duration of the restored policies (0s: infinite)"
            ),
            OriginalFlag(
                "newrf",
                "int",
                "the new replication factor to restore to (this is capped to the number of data "
                "nodes in the cluster)",
            ),
            OriginalFlag(
                "newrp",
                "string",
                "the name of the new retention policy to restore to (must specify with -rp)",
            ),
            OriginalFlag(
                "newshard", "uint", "the shard ID to restore into (must specify with -shard)"
            ),
            OriginalFlag("rp", "string", "the name of the single retention policy to restore"),
            OriginalFlag("shard", "uint", "the shard ID to restore"),
        ),
    ),
    "show": OriginalCommand("Show cluster members", "", ()),
    "show-shards": OriginalCommand(
        "Shows the shards in a cluster",
        "",
        (
            OriginalFlag("m", "", "displays inconsistent shards"),
            OriginalFlag("v", "", "displays detailed shard info"),
        ),
    ),
}

MORE = """
For all flags, and those for a single server, see: shardkeeper help"""


def original_help() -> str:
    """The text of `influxd-ctl help`."""
    commands = "".join(f"   {name:<20}{it.summary}\n" for name, it in COMMANDS.items())
    return (
        "Usage: influxd-ctl [options] <command> [options] [<args>]\n\n"
        f"Available commands are:\n{commands}\n"
        f"Options:\n\n{_flags(GLOBAL)}{MORE}\n"
    )


def command_help(name: str) -> str | None:
    """The text of `influxd-ctl <command> -h`; None for commands that the original does not have."""
    command = COMMANDS.get(name)
    if command is None:
        return None
    words = ["influxd-ctl", name, *["[options]"] * bool(command.flags), command.argument]
    text = f"Usage: {' '.join(filter(None, words))}\n    {command.summary}\n"
    if command.flags:
        text += f"\nOptions:\n{_flags(command.flags)}"
    return f"{text}{MORE} {name}\n"


def takes_text(command: str, flag: str) -> bool:
    """Whether a flag of the original takes a text, of which an empty one means none.

    An empty -bind is an address without a host, which the original cannot reach.

    Args:
        command: empty for the flags before the command.
    """
    found = COMMANDS.get(command)
    flags = GLOBAL if not command else found.flags if found is not None else ()
    return flag != "bind" and any((one.name, one.kind) == (flag, "string") for one in flags)


def _flags(flags: Iterable[OriginalFlag]) -> str:
    """As Go's `flag.PrintDefaults`: the help of a single letter without a value is on its line."""
    lines: list[str] = []
    for flag in flags:
        head = f"  -{flag.name}" + (f" {flag.kind}" if flag.kind else "")
        lines.append(f"{head}\t{flag.help}\n" if len(head) == 4 else f"{head}\n    \t{flag.help}\n")
    return "".join(lines)
