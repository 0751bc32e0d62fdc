"""What `influxd-ctl help` shows: the original's layout, its commands that we have, its flags.

Source: influxdb-cluster 1.8.11's influxd-ctl, observed; InfluxDB Enterprise 1.12 docs, tools,
influxd-ctl backup, restore and show-shards; InfluxDB Enterprise 1.2, Backup and Restore.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SeedFlag:
    """A flag of the original: its name, the kind of its value (none for switches), its help."""

    name: str
    kind: str
    help: str


@dataclass(frozen=True, slots=True)
class SeedCommand:
    """A command of the original."""

    summary: str
    argument: str
    flags: tuple[SeedFlag, ...]


GLOBAL = (
    SeedFlag(
        "auth-type", "string", 'Type of authentication to use (none, basic, jwt) (default "none")'
    ),
    SeedFlag("bind", "string", 'Bind HTTP address of a meta node (default "localhost:8091")'),
    SeedFlag("bind-tls", "", "Use TLS"),
    SeedFlag("config", "string", "Config file path"),
    SeedFlag("k", "", "Skip certificate verification (ignored without -bind-tls)"),
    SeedFlag("pwd", "string", "Password (ignored without -auth-type basic)"),
    SeedFlag("secret", "string", "JWT shared secret (ignored without -auth-type jwt)"),
    SeedFlag("timeout", "duration", "Override the default timeout of operations (default 1m0s)"),
    SeedFlag("user", "string", "User name (ignored without -auth-type basic | jwt)"),
)

COMMANDS: Mapping[str, SeedCommand] = {
    "backup": SeedCommand(
        "Backup a cluster",
        "<path-to-backup-directory>",
        (
            SeedFlag("bufsize", "int", "size of the buffers (without effect)"),
            SeedFlag("cpuprofile", "", "write backup execution to a cpu profile"),
            SeedFlag("db", "string", "the name of the single database to back up"),
            SeedFlag("end", "string", "exclude shards from this time on (RFC3339)"),
            SeedFlag("estimate", "", "estimate the size of the requested backup"),
            SeedFlag("from", "string", "the data node TCP address to prefer when backing up"),
            SeedFlag("full", "", "perform a full backup (deprecated in favor of -strategy full)"),
            SeedFlag("gzipBlockCount", "int", "blocks compressed at once (without effect)"),
            SeedFlag("gzipBlockSize", "int", "size of compressed blocks (without effect)"),
            SeedFlag(
                "gzipCompressionLevel",
                "string",
                'level of compression: default, full, speedy or none (default "default")',
            ),
            SeedFlag(
                "rp",
                "string",
                "the name of the single retention policy to back up (must specify -db with -rp)",
            ),
            SeedFlag("shard", "uint", "the ID of the single shard to back up"),
            SeedFlag(
                "staleness-threshold",
                "duration",
                "skip shards whose backup is at most so much older than their last change "
                "(default 0s)",
            ),
            SeedFlag("start", "string", "include shards from this time on (RFC3339)"),
            SeedFlag(
                "strategy",
                "string",
                'backup strategy to use: only-meta, full or incremental (default "incremental")',
            ),
        ),
    ),
    "restore": SeedCommand(
        "Restore a backup of a cluster",
        "<path-to-backup-directory>|-full <path-to-manifest-file>",
        (
            SeedFlag("db", "string", "the name of the single database to restore"),
            SeedFlag("full", "", "restore a full backup; takes the path of its manifest"),
            SeedFlag("list", "", "shows the contents of the backup"),
            SeedFlag(
                "meta-only-overwrite-force",
                "",
                "restore only metadata, over the cluster's; only from backups of this cluster",
            ),
            SeedFlag(
                "newdb",
                "string",
                "the name of the new database to restore to (must specify with -db)",
            ),
            SeedFlag(
                "newduration", "duration", "new duration of the restored policies (0s: infinite)"
            ),
            SeedFlag(
                "newrf",
                "int",
                "the new replication factor to restore to (this is capped to the number of data "
                "nodes in the cluster)",
            ),
            SeedFlag(
                "newrp",
                "string",
                "the name of the new retention policy to restore to (must specify with -rp)",
            ),
            SeedFlag("newshard", "uint", "the shard ID to restore into (must specify with -shard)"),
            SeedFlag("rp", "string", "the name of the single retention policy to restore"),
            SeedFlag("shard", "uint", "the shard ID to restore"),
        ),
    ),
    "show": SeedCommand("Show cluster members", "", ()),
    "show-shards": SeedCommand(
        "Shows the shards in a cluster",
        "",
        (
            SeedFlag("m", "", "displays inconsistent shards"),
            SeedFlag("v", "", "displays detailed shard info"),
        ),
    ),
}

MORE = """
All flags, and those for a single server, are told by: shardkeeper help"""


def seed_help() -> str:
    """The text of `influxd-ctl help`."""
    commands = "".join(f"   {name:<20}{it.summary}\n" for name, it in COMMANDS.items())
    return (
        "Usage: influxd-ctl [options] <command> [options] [<args>]\n\n"
        f"Available commands are:\n{commands}\n"
        f"Options:\n\n{_flags(GLOBAL)}{MORE}\n"
    )


def command_help(name: str) -> str | None:
    """The text of `influxd-ctl <command> -h`; None for what the original does not have."""
    command = COMMANDS.get(name)
    if command is None:
        return None
    words = ["influxd-ctl", name, *["[options]"] * bool(command.flags), command.argument]
    text = f"Usage: {' '.join(filter(None, words))}\n    {command.summary}\n"
    if command.flags:
        text += f"\nOptions:\n{_flags(command.flags)}"
    return f"{text}{MORE} {name}\n"


def _flags(flags: Iterable[SeedFlag]) -> str:
    """As Go's `flag.PrintDefaults`: a single letter without a value has its help beside it."""
    lines: list[str] = []
    for flag in flags:
        head = f"  -{flag.name}" + (f" {flag.kind}" if flag.kind else "")
        lines.append(f"{head}\t{flag.help}\n" if len(head) == 4 else f"{head}\n    \t{flag.help}\n")
    return "".join(lines)
