"""Ours and the original's commands in turn, over the same sets on the same server."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.cost import Cost, measured
from tests.bench.sets import Filled
from tests.influxd import Influxd, wait_until

BIN = Path(sys.executable).parent
AGAIN = "again"
"""The database that is restored, and dropped."""
SETTLED_WITHIN_S = 300.0

BACKUPS = ("original", "full", "structure")
RESTORES = ("original", "receipts", "no receipts")


@dataclass(slots=True)
class Rounds:
    """What one set cost, by tool, round by round; rounds are compared with themselves."""

    filled: Filled
    backups: dict[str, list[Cost]] = field(default_factory=lambda: {way: [] for way in BACKUPS})
    restores: dict[str, list[Cost]] = field(default_factory=lambda: {way: [] for way in RESTORES})
    stored_bytes: dict[str, list[int]] = field(default_factory=lambda: {way: [] for way in BACKUPS})


class Beside:
    """One round after the other.

    Args:
        server: with the sets.
        root: where backups go, and are deleted from.
    """

    def __init__(self, server: Influxd, root: Path) -> None:
        self._server = server
        self._root = root

    def round(self, name: str, into: Rounds | None) -> None:
        """Back up and restore one set with each tool; None: to warm up."""
        server = self._server
        ours = (BIN / "shardkeeper", "-host", server.bind_addr, "-http", server.http_addr)
        there = ("-host", server.bind_addr, "-db", name)
        kept = {way: self._root / f"{name} {way}" for way in BACKUPS}
        for way in BACKUPS[1:]:
            kept[way].mkdir(mode=0o700)
        asked: Mapping[str, Sequence[str | Path]] = {
            "original": ("influxd", "backup", "-portable", *there, kept["original"]),
            "full": (*ours, "backup", "-db", name, kept["full"]),
            "structure": (*ours, "backup", "-verify", "structure", "-db", name, kept["structure"]),
        }
        for way, words in asked.items():
            cost = measured(words)
            if into is not None:
                into.backups[way].append(cost)
                into.stored_bytes[way].append(_archives_bytes(kept[way]))
        back = ("restore", "-db", name, "-newdb", AGAIN)
        asked = {
            "original": ("influxd", back[0], "-portable", *there, *back[3:], kept["original"]),
            "receipts": (*ours, *back, kept["full"]),
            "no receipts": (*ours, *back, "-receipts", "off", kept["full"]),
        }
        for way, words in asked.items():
            cost = self._until_settled(words, name)
            if into is not None:
                into.restores[way].append(cost)
        for directory in kept.values():
            shutil.rmtree(directory)

    def _until_settled(self, words: Sequence[str | Path], name: str) -> Cost:
        """Until the server has all files: the original leaves before that."""
        files = len(self._server.tsm_files(name))
        cost = measured(words)
        wait_until(self._has(files), within_s=SETTLED_WITHIN_S, what="the restore to end")
        settled = replace(cost, wall_s=time.monotonic() - cost.began_s)
        self._server.drop_database(AGAIN)
        return settled

    def _has(self, files: int) -> Callable[[], bool]:
        return lambda: len(self._server.tsm_files(AGAIN)) >= files


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _archives_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.tar.gz"))
