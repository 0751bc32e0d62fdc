"""Checks that depend on time: without a backup they fail although nothing else has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from assets.evaluation import CheckEvaluator
from assets.history.asset_history import AssetHistory
from resources.model import Metastore, ShardPlace
from resources.repository.manifest_cache import ManifestCache

MAX_POLLS = 1000
"""The count stops here, so that the cursor of an unchanged state need not be written."""


@dataclass(frozen=True, slots=True)
class SensorCursor:
    """What a sensor has already recorded, stored in its cursor."""

    passed: bool | None = None
    """Whether every shard was in a recent enough backup; None: not evaluated yet."""
    late: int = 0
    """How many shards were not."""
    looks: int = 0
    """How many consecutive ticks have found the same."""
    told: bool = False
    """Unused; cursors of earlier versions have it."""
    adopted: str = ""
    """The cursor of `adopt`."""

    @classmethod
    def of(cls, cursor: str | None) -> SensorCursor:
        if cursor and not cursor.startswith("{"):
            return cls(adopted=cursor)
        try:
            kept = cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):  # another version wrote it, or an operator edited it
            return cls()
        return kept if kept.sound else cls()

    @property
    def sound(self) -> bool:
        """Whether every value has its type, which JSON does not ensure."""
        counts = type(self.late) is int and type(self.looks) is int
        return (
            counts
            and min(self.late, self.looks) >= 0
            and (self.passed is None or isinstance(self.passed, bool))
            and isinstance(self.adopted, str)
        )

    @property
    def cursor(self) -> str:
        return json.dumps(asdict(self))

    def advance(
        self,
        evaluator: CheckEvaluator,
        history: AssetHistory,
        cached: ManifestCache,
        metastore: Metastore | None,
        places: Sequence[ShardPlace],
    ) -> SensorCursor:
        """Evaluate the checks that depend on time; record them only if they have changed.

        Args:
            metastore: of the cluster, or of its newest backup; None: there is no backup.
            places: the shards that should be in a backup.
        """
        within = evaluator.within_objective(cached, places)
        late = within.metadata["shards_late"].value
        assert isinstance(late, int)  # noqa: S101 - written as an int
        looks = 1 if self.passed is not within.passed else min(self.looks + 1, MAX_POLLS)
        if (self.passed, self.late) != (within.passed, late):
            history.record_checks(
                [within, *evaluator.loss_window_by_records(history, cached, metastore)]
            )
        return replace(self, passed=within.passed, late=late, looks=looks)
