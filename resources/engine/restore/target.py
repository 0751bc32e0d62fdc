"""Where a restore goes, and the steps that it takes there: what `run.restore` asks of each kind.

There are three: a single server (`server_target`), a cluster (`engine/cluster/cluster_target`),
and a shard that either of them has already (`existing_shard`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeAlias

from msgspec import Struct, field

from resources.clients.target import Target
from resources.engine.events import Run
from resources.engine.restore.check import ArchiveContents, CheckedRestore
from resources.engine.restore.plan import RestoreOptions, RestorePlan
from resources.engine.restore.receipt import TargetFacts
from resources.engine.restore.restored import RestoredShard
from resources.engine.restore.step_run import JoinedRestore, RestoreInSteps
from resources.engine.restore.target_state import TargetState
from resources.engine.workers.steps import StepSettings
from resources.errors import ShardkeeperError
from resources.model import Metastore, NodeInfo, ShardID
from resources.repository.backup_set import BackupSet
from resources.repository.formats.details import FileID
from resources.repository.repository import BackupRepository


class Placement(Struct, frozen=True):
    """Where the shards of a plan would go.

    Attributes:
        shards: by the shard of the backup, the number that it would get, and the data nodes that
            would own it; a single server has none to name.
        conflicts: what is in the way there.
    """

    shards: Mapping[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]] = field(
        default_factory=dict[ShardID, tuple[ShardID, tuple[NodeInfo, ...]]]
    )
    conflicts: tuple[ShardkeeperError, ...] = ()


class NotOurs(Struct, frozen=True):
    """Why a database or a replica must stay.

    Attributes:
        known: whether that is so; False: a node that could tell did not answer.
    """

    why: str
    known: bool = True


class RestoreSteps(Protocol):
    """One restore that has begun; its steps in their order.

    | step | what is there afterwards | undone by |
    | --- | --- | --- |
    | `create` | databases and empty shards, which no query reads | `undo` |
    | `leave` | a record for other steps, one of which takes the steps below | `undo` |
    | `upload` | every shard, each read back and compared with what was sent | `undo` |
    | `activate` | readers: owners of the shards, or continuous queries | `undo` |
    | `complete` | a record that says so | nothing: from here on all of it stays |
    | `finish` | what may fail without harm | nothing |
    """

    @property
    def undoing(self) -> str:
        """What `undo` does, for a user who sends signals meanwhile."""
        ...

    @property
    def facts(self) -> TargetFacts:
        """The target, for the receipt."""
        ...

    def on_record(self) -> AbstractContextManager[None]:
        """Have a record of what is created, if the target's kind has it for the whole restore."""
        ...

    def create(self) -> int:
        """Make all that shards are uploaded into; returns how many shards that is."""
        ...

    def leave(self, settings: StepSettings, began_ns: int) -> RestoreInSteps | None:
        """Leave the upload to other steps, and all that follows; None: it is small, or cannot be.

        Args:
            began_ns: when the restore began, since the epoch.
        """
        ...

    def upload(self) -> Sequence[RestoredShard]:
        """Send every shard, and read it back from where it was sent to."""
        ...

    def activate(self, shards: Sequence[RestoredShard]) -> None:
        """Give what was uploaded its readers, and see that all of it is there."""
        ...

    def complete(self) -> None:
        """Say on record that all is there; no signal is heard meanwhile."""
        ...

    def undo(self, error: BaseException) -> None:
        """Take away what this run made, and only that; no signal is heard meanwhile.

        What stays is said in a note on `error`. It is right after any step, also half done.
        """
        ...

    def finish(self) -> None:
        """Do what is left once everything is there."""
        ...


Begin: TypeAlias = Callable[[CheckedRestore], AbstractContextManager[RestoreSteps]]
"""Begin a restore whose archives are checked; the block has the target for itself, if it can."""


class KilledRestore(Struct, frozen=True):
    """A restore that was killed, or left to other steps, as far as it had come.

    Attributes:
        plan: what it restored.
        begin: goes on with it.
        contents: of its archives, if it was left; they were checked then, and its notes told.
    """

    plan: RestorePlan
    begin: Begin
    contents: Mapping[ShardID, ArchiveContents] | None = None


class RestoreTarget(Protocol):
    """A target, as the restores of one run from one repository see it."""

    @property
    def connection(self) -> Target: ...

    @property
    def repository(self) -> BackupRepository: ...

    @property
    def run(self) -> Run: ...

    def state(self) -> TargetState:
        """The target as it is now.

        Raises:
            WireError: a node does not answer, or refuses.
        """
        ...

    def plan(
        self, backup: BackupSet, options: RestoreOptions, state: TargetState | None = None
    ) -> RestorePlan:
        """Plan a restore; nothing is changed.

        Args:
            state: what to plan against; None: the target as it is now.

        Raises:
            UsageError: the options mean nothing for a target of this kind.
            ShardkeeperError: what `plan_restore` raises, and errors of reading the backup or the
                target.
        """
        ...

    def placement(
        self, plan: RestorePlan, options: RestoreOptions, state: TargetState, *, possible: bool
    ) -> Placement:
        """Where the shards of a plan would go; nothing is changed.

        Args:
            possible: whether nothing is known to be in the plan's way.
        """
        ...

    def killed(
        self, backup: BackupSet, options: RestoreOptions
    ) -> AbstractContextManager[KilledRestore | None]:
        """This very restore, if a run of it was killed and it can be gone on with in the block.

        Raises:
            WireError, RepositoryError: a node or the repository failed.
        """
        ...

    def left_to_steps(
        self, joined: JoinedRestore, backup: BackupSet
    ) -> AbstractContextManager[KilledRestore]:
        """The restore that a step works for, which ends with the steps that it begins.

        Raises:
            LockLost: another run took its place.
            RestoreFailed: it cannot be gone on with.
            WireError, RepositoryError: a node or the repository failed.
        """
        ...

    def take_back_interrupted(self) -> None:
        """Deal with what other killed restores from this repository left on the target.

        Raises:
            RestoreFailed: it cannot be done now.
            WireError, RepositoryError: a node or the repository failed.
        """
        ...

    def more_than_sent(
        self, now: Metastore, sent: Mapping[ShardID, Collection[FileID]]
    ) -> NotOurs | None:
        """Why shards hold more than these files; None if no replica holds anything else.

        Args:
            now: the target's metastore.
            sent: the files that each shard may hold.

        Raises:
            WireError: a cluster does not answer.
        """
        ...

    def begin(self, checked: CheckedRestore) -> AbstractContextManager[RestoreSteps]:
        """See `Begin`; the target is looked at, and nothing is changed yet.

        Raises:
            TargetBusy: another restore works there.
            UsageError: its addresses lead to different servers.
            WireError: a node does not answer, or refuses.
        """
        ...
