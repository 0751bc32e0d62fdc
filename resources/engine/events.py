"""Events of the engine: frozen values that print as one line of plain text.

The listener decides where they go: `context.log.info` in Dagster, the terminal on the command
line, a list in a test. The command line prints the original's lines from the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from resources.errors import counted
from resources.model import ShardID, ShardPlace
from resources.protocol.times import format_time
from resources.repository.formats.manifest import ShardEntry
from resources.runtime import run

Emit = Callable[["Event"], None]
PROGRESS_EVERY_S = 1.0
"""The least time between two events of progress."""


class Warned(NamedTuple):
    """Not an error, but the operator should know."""

    text: str

    def __str__(self) -> str:
        return f"warning: {self.text}"


# --- backup -------------------------------------------------------------------------------


class MetaSaved(NamedTuple):
    """The metastore is stored."""

    size_bytes: int

    def __str__(self) -> str:
        return f"metastore saved, {self.size_bytes} bytes"


class FirstBackup(NamedTuple):
    """The repository holds no backup to build upon."""

    location: str

    def __str__(self) -> str:
        return (
            f"{self.location} holds no backup yet: this is its first, and copies everything; if it "
            "held some, is its file system mounted?"
        )


class BackupPlanned(NamedTuple):
    """An incremental backup has compared the shards with their archives."""

    copy: int
    unchanged: int
    absent: int

    def __str__(self) -> str:
        absent = f", {self.absent} known but not on disk" if self.absent else ""
        return f"{counted(self.copy, 'shard')} to copy, {self.unchanged} unchanged{absent}"


class ShardSaved(NamedTuple):
    """A shard's archive is checked and stored."""

    node: str
    entry: ShardEntry
    seconds: float

    def __str__(self) -> str:
        return (
            f"shard {self.entry.shard_id} ({self.entry.database}/{self.entry.policy}) saved "
            f"from {self.node}, {self.entry.size_bytes} bytes"
        )


class ShardRetried(NamedTuple):
    """A download failed; the next attempt starts from an empty file."""

    shard_id: ShardID
    why: str
    attempt: int
    pause_s: float

    def __str__(self) -> str:
        return (
            f"shard {self.shard_id}: {self.why}; attempt {self.attempt} "
            f"starts in {self.pause_s:.1f} s"
        )


class ShardGone(NamedTuple):
    """A shard expired or was dropped at the source while the backup ran."""

    place: ShardPlace

    def __str__(self) -> str:
        return (
            f"shard {self.place.shard_id} ({self.place.database}/{self.place.policy}) is gone at "
            "the source; its earlier archives stay"
        )


class ShardReadAgain(NamedTuple):
    """A shard was read whole and equals its archive; nothing is stored."""

    place: ShardPlace

    def __str__(self) -> str:
        return (
            f"shard {self.place.shard_id} ({self.place.database}/{self.place.policy}) was read "
            "again and equals its archive"
        )


class ShardFailed(NamedTuple):
    """A shard could not be saved; the backup continues with the others."""

    shard_id: ShardID
    why: str

    def __str__(self) -> str:
        return f"shard {self.shard_id} failed: {self.why}"


class ShardDamaged(NamedTuple):
    """A shard's newest archive has damaged parts, because the source had them."""

    shard_id: ShardID
    why: str

    def __str__(self) -> str:
        return f"shard {self.shard_id} is {self.why}"


class Progress(NamedTuple):
    """Progress of a long copy; sent at most once a second."""

    done: int
    total: int
    bytes_done: int

    def __str__(self) -> str:
        return f"{self.done} of {counted(self.total, 'shard')}, {self.bytes_done / 1e6:.1f} MB"


class PointsRead(NamedTuple):
    """Progress of an export; sent at most once a second."""

    done: int
    total: int
    values: int

    def __str__(self) -> str:
        of = counted(self.total, "shard")
        return f"{self.done} of {of}, {counted(self.values, 'value')}"


# --- verify -------------------------------------------------------------------------------


class VerifyProgress(NamedTuple):
    """Progress of a verification; sent at most once a second."""

    done: int
    total: int
    bytes_done: int
    bytes_total: int
    """Inside the archives."""

    def __str__(self) -> str:
        return (
            f"{self.done} of {counted(self.total, 'archive')} read, {self.bytes_done / 1e6:.1f} of "
            f"{self.bytes_total / 1e6:.1f} MB"
        )


class Repaired(NamedTuple):
    """A repair has fixed a file or moved it away."""

    file_name: str
    what: str

    def __str__(self) -> str:
        return f"repaired: {self.file_name}: {self.what}"


# --- restore ------------------------------------------------------------------------------


class LeaseAwaited(NamedTuple):
    """The restore waits for another restore's lease; sent every second."""

    left_s: int | None
    """None: not known."""

    def __str__(self) -> str:
        left = "up to a minute" if self.left_s is None else f"{self.left_s} s"
        return f"waiting for another restore's lease: {left} left"


class SourceChosen(NamedTuple):
    """The backup that a restore reads."""

    directory: str
    manifest: str
    """Path of the manifest for a full restore; empty when a directory is restored."""
    meta_file: str

    def __str__(self) -> str:
        return f"restoring from {self.manifest or self.directory}, meta backup {self.meta_file}"


class MetaRestoring(NamedTuple):
    """The restore is about to change the target's metastore."""

    def __str__(self) -> str:
        return "creating databases, policies and shards on the target"


class MetaRestored(NamedTuple):
    """The target has the databases and policies and has numbered its new shards."""

    mapped: int
    seconds: float

    def __str__(self) -> str:
        return f"{counted(self.mapped, 'shard')} mapped"


class ShardRestored(NamedTuple):
    """A shard is on the target."""

    database: str
    policy: str
    shard_id: ShardID
    new_shard_id: ShardID
    nodes: tuple[str, ...]
    size_bytes: int
    seconds: float
    read_back: bool = True

    def __str__(self) -> str:
        return (
            f"shard {self.shard_id} ({self.database}/{self.policy}) restored as shard "
            f"{self.new_shard_id} on {', '.join(self.nodes)}"
            f"{' and read back' if self.read_back else ''}"
        )


class RestoreGoesOn(NamedTuple):
    """A restore continues one that was killed."""

    done: int
    total: int

    def __str__(self) -> str:
        return (
            "warning: a run of this restore was killed; this run continues it: "
            f"{self.done} of {counted(self.total, 'shard')} on the target and verified; it checks "
            "and sends the others"
        )


class OwnersGiven(NamedTuple):
    """Progress of assigning owners to verified copies; sent once a second."""

    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.done} of {self.total} copies given to their owners"


class ReceiptStored(NamedTuple):
    """The receipt of a restore is stored."""

    path: str
    copies: int

    def __str__(self) -> str:
        return f"receipt of {self.copies} copies, read back and compared: {self.path}"


class MetaReplaced(NamedTuple):
    """A backup's metastore has replaced the cluster's; the previous one is kept in a file."""

    path: str

    def __str__(self) -> str:
        return f"restore -meta-only-overwrite-force {self.path} puts the previous metastore back"


class InternalEmptied(NamedTuple):
    """The shards of a cluster's `_internal` database are dropped."""

    shards: int

    def __str__(self) -> str:
        return f"dropped {counted(self.shards, 'shard')} of _internal; monitoring starts again"


class RolledBack(NamedTuple):
    """What a failed restore had created is dropped again."""

    databases: tuple[str, ...]

    def __str__(self) -> str:
        return f"rolled back: dropped {', '.join(self.databases)}"


# --- merge --------------------------------------------------------------------------------


class MergeBegun(NamedTuple):
    """The temporary database exists; the merge now copies from it."""

    temporary: str
    into: str
    resumed: bool

    def __str__(self) -> str:
        verb = "continuing to copy" if self.resumed else "copying"
        return f"{verb} from {self.temporary} into {self.into}"


class MergeProgress(NamedTuple):
    """Progress of a merge; sent at most once a second."""

    groups_done: int
    groups: int
    measurement: str
    points: int

    def __str__(self) -> str:
        return (
            f"{self.groups_done} of {counted(self.groups, 'shard group')}, "
            f"{counted(self.points, 'value')}; {self.measurement}"
        )


class GroupMerged(NamedTuple):
    """A shard group is merged; points that could not be merged have had their own warning."""

    policy: str
    into_policy: str
    start_ns: int
    end_ns: int
    measurements: int
    points: int
    """Found in the live database, each with the backup's value."""
    added: int
    """Of these, points that the live database did not have before."""
    replaced: int
    """Of these, points that had another value before."""
    seconds: float

    @property
    def there(self) -> int:
        """Of these, points that the live database had before with the same value."""
        return self.points - self.added - self.replaced

    def __str__(self) -> str:
        return (
            f"{self.policy} from {format_time(self.start_ns)} to {format_time(self.end_ns)}: "
            f"{counted(self.points, 'value')} merged and found, {self.added} new, {self.replaced} "
            f"replaced, {self.there} as they were"
        )


class TemporaryDropped(NamedTuple):
    """The database that a merge copied from is dropped."""

    temporary: str

    def __str__(self) -> str:
        return f"temporary database {self.temporary} dropped"


Event: TypeAlias = (
    Warned
    | PointsRead
    | MetaSaved
    | FirstBackup
    | BackupPlanned
    | ShardSaved
    | ShardReadAgain
    | ShardRetried
    | ShardGone
    | ShardFailed
    | ShardDamaged
    | Progress
    | VerifyProgress
    | Repaired
    | LeaseAwaited
    | SourceChosen
    | MetaRestoring
    | MetaRestored
    | ShardRestored
    | RestoreGoesOn
    | OwnersGiven
    | ReceiptStored
    | MetaReplaced
    | InternalEmptied
    | RolledBack
    | MergeBegun
    | MergeProgress
    | GroupMerged
    | TemporaryDropped
)

Run: TypeAlias = run.Run[Event]
"""Emit and stop, as the engine's functions take them."""
