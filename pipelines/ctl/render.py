"""The output of the commands, as pure functions: the original's lines, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from resources.engine.events import (
    BackupPlanned,
    Event,
    FirstBackup,
    InternalEmptied,
    MetaRestored,
    MetaRestoring,
    MetaSaved,
    ReceiptStored,
    ShardRestored,
    ShardSaved,
    SourceChosen,
)

UNITS = ((1_000_000, "ms"), (1_000, "µs"), (1, "ns"))


def go_duration(seconds: float) -> str:
    """A duration as Go prints it: `903.539567ms`, `1.293710883s`, `1m2.5s`.

    Source: Go, time.Duration.String.
    """
    ns = round(seconds * 1e9)
    if ns == 0:
        return "0s"
    if ns < 1_000_000_000:
        scale, unit = next((scale, unit) for scale, unit in UNITS if ns >= scale)
        return _decimal(ns, scale) + unit
    minutes, rest = divmod(ns, 60_000_000_000)
    text = _decimal(rest, 1_000_000_000) + "s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{minutes}m{text}"
        if hours:
            text = f"{hours}h{text}"
    return text


def _decimal(value: int, scale: int) -> str:
    whole, fraction = divmod(value, scale)
    digits = str(fraction).rjust(len(str(scale)) - 1, "0").rstrip("0") if scale > 1 else ""
    return f"{whole}.{digits}" if digits else str(whole)


def backup_line(event: Event) -> str | None:
    """The line on standard output for an event of a backup."""
    match event:
        case MetaSaved(size_bytes):
            return f"Backing up meta data... Done. {size_bytes} bytes transferred"
        case ShardSaved(node, entry, seconds):
            return (
                f"Backing up node {node}, db {entry.database}, rp {entry.policy}, "
                f"shard {entry.shard_id}... Done. Backed up in {go_duration(seconds)}, "
                f"{entry.size_bytes} bytes transferred"
            )
        case _:
            return None


def backed_up(path: str, seconds: float, size_bytes: int) -> str:
    return f"Backed up to {path} in {go_duration(seconds)}, transferred {size_bytes} bytes"


def restore_line(event: Event) -> str | None:
    """The lines on standard output for an event of a restore."""
    match event:
        case SourceChosen(directory, manifest, meta_file):
            if manifest:
                return f"Using manifest: {manifest}"
            return f"Using backup directory: {directory}\nUsing meta backup: {meta_file}"
        case MetaRestored(mapped, seconds):
            return (
                f"Restoring meta data... Done. Restored in {go_duration(seconds)}, "
                f"{mapped} shards mapped"
            )
        case ShardRestored():
            copies = " ".join(f"Copying data to {node}..." for node in event.nodes)
            return (
                f"Restoring db {event.database}, rp {event.policy}, shard {event.shard_id} to "
                f"shard {event.new_shard_id}...\n{copies} Done. Restored shard {event.shard_id} "
                f"into shard {event.new_shard_id} in {go_duration(event.seconds)}, "
                f"{event.size_bytes} bytes transferred"
            )
        case _:
            return None


def restored(path: str, seconds: float, size_bytes: int) -> str:
    return f"Restored from {path} in {go_duration(seconds)}, transferred {size_bytes} bytes"


def aside(event: Event, *, talkative: bool, original: bool = False) -> str | None:
    """The message on standard error: warnings always, other events only on a terminal.

    The command itself reports a receipt at its end; `influxd-ctl` prints nothing new.

    Args:
        original: whether the program is `influxd-ctl`.
    """
    if isinstance(event, FirstBackup) and original and not talkative:
        return None
    if isinstance(event, ReceiptStored):
        return None
    if isinstance(event, BackupPlanned | InternalEmptied | MetaRestoring) and not talkative:
        return None
    return str(event)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns, left-aligned, two spaces apart; numbers must be aligned already.

    A name may have a line break in it, which would make a line of the table.
    """
    lines = [tuple(head), *(tuple(cell.replace("\n", "\\n") for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def instant(ns: int | None) -> str:
    """An InfluxDB time in UTC, to the second; the far past and future stay numbers."""
    if ns is None:
        return "-"
    try:
        return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{ns} ns"


def printable(text: str) -> str:
    """Text for a terminal: control characters and the like are escaped, line breaks stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )
