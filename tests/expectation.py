"""After every fault: is what was committed there, sound, and does each of it come back?

The one expectation of all tests that break things: `verify` finds nothing, every backup that was
committed is restored, and all its points are compared with those that the source had.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.influxd import Influxd
from tests.wire.commands import restore, shardkeeper, verify
from tests.wire.points import Points, points

WITHOUT_A_LOCK = ("..shardkeeper.", ".probe.", ".clock.")
"""How unfinished files begin that runs write before they hold the lock."""


@dataclass
class Expectation:
    """One database, one directory of backups, and what each of those must give back.

    Attributes:
        source: whom to ask for the points, and to write into.
        flags: how `shardkeeper` is led to it.
        database: the one that is backed up.
        backups: the directory.
        target: a server that backups are restored into.
        states: what each committed backup holds, by its name.
    """

    source: Influxd
    flags: Sequence[str]
    database: str
    backups: Path
    target: Influxd
    states: dict[str, Points] = field(default_factory=dict[str, Points])

    @property
    def committed(self) -> set[str]:
        return {path.stem for path in self.backups.glob("*.manifest")}

    def now(self) -> Points:
        return points(self.source, self.database)

    def back_up(self) -> str:
        """A backup that nothing disturbs; returns its name."""
        before = self.committed
        done = shardkeeper("backup", *self.flags, "-db", self.database, self.backups)
        assert done, done
        [name] = self.committed - before
        self.states[name] = self.now()
        return name

    def take_note(self) -> bool:
        """Whether the last run, of which we do not know, committed a backup of what is now."""
        new = self.committed - set(self.states)
        assert len(new) <= 1, new
        for name in new:
            self.states[name] = self.now()
        return bool(new)

    def check_all(self) -> None:
        """Insist that exactly what was committed is there, is sound, and comes back."""
        assert self.committed == set(self.states)
        verify(self.backups)
        for name, expected in self.states.items():
            assert self.restored(name) == expected, name

    def restored(self, name: str) -> Points:
        """The points of one backup, from a database that is gone again afterwards."""
        copy = f"judged-{secrets.token_hex(5)}"
        flags = ("-db", self.database, "-newdb", copy, "-as-of", name)
        restore(self.target, self.backups, *flags)
        found = points(self.target, copy)
        self.target.drop_database(copy)
        return found

    def tidy(self) -> bool:
        """Whether the directory holds manifests, what those name, receipts, and nothing else.

        Records and probes of runs that died while they wrote them stay for an hour, since
        both are written without a lock (`DirectoryStore.sweep_pending`).
        """
        listed = {path.name for path in self.backups.glob("*.manifest")}
        for name in list(listed):
            listed.add(f"{name}.copy")
            document = json.loads((self.backups / name).read_text())
            listed |= {document["meta"]["fileName"]}
            listed |= {file["fileName"] for file in document["files"] or ()}
        there = {path.name for path in self.backups.iterdir()}
        there -= {name for name in there if name.endswith(".receipt.json")}
        return {name for name in there if not name.startswith(WITHOUT_A_LOCK)} == listed
