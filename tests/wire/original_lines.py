"""The lines of `influxd-ctl backup` and `restore`, as their manual shows them.

Source: InfluxDB Enterprise 1.2, Backup and Restore, "Examples". Times, sizes and addresses
vary; every other character is that of the manual.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.wire.commands import Done

DURATION = r"(?:\d+h)?(?:\d+m)?\d+(?:\.\d+)?(?:ms|µs|s)"
NODE = r"127\.0\.0\.1:\d+"
STAMP = r"\d{8}T\d{6}Z"


def lines(done: Done, *expected: str) -> list[re.Match[str]]:
    """Hold every line of standard output against a pattern; there must be no others."""
    found = done.out.splitlines()
    assert len(found) == len(expected), done.out
    matches = [re.fullmatch(p, line) for p, line in zip(expected, found, strict=True)]
    assert all(matches), list(zip(matches, found, strict=True))
    return [match for match in matches if match]


META = r"Backing up meta data\.\.\. Done\. (?P<n>\d+) bytes transferred"


def shard_line(db: str, rp: str, shard: str = r"\d+") -> str:
    return (
        rf"Backing up node {NODE}, db {db}, rp {rp}, shard {shard}\.\.\. Done\. "
        rf"Backed up in {DURATION}, (?P<n>\d+) bytes transferred"
    )


def backed_up(path: Path | str) -> str:
    return rf"Backed up to {re.escape(str(path))} in {DURATION}, transferred (?P<n>\d+) bytes"


def restore_lines(db: str, old: int, new: int, *, copies: int = 1) -> tuple[str, ...]:
    copying = rf"Copying data to {NODE}\.\.\. " * copies
    return (
        rf"Restoring meta data\.\.\. Done\. Restored in {DURATION}, 1 shards mapped",
        rf"Restoring db {db}, rp autogen, shard {old} to shard {new}\.\.\.",
        rf"{copying}Done\. Restored shard {old} into shard {new} in "
        rf"{DURATION}, (?P<n>\d+) bytes transferred",
    )


def restored(path: Path | str) -> str:
    return rf"Restored from {re.escape(str(path))} in {DURATION}, transferred (?P<n>\d+) bytes"


FROM_HERE = (r"Using backup directory: \.", rf"Using meta backup: {STAMP}\.meta")


def refusal(done: Done, words: str) -> str:
    """Hold the first line of an error against the original's; returns the rest, the next step."""
    assert done.code == 1, done
    first, _, rest = done.err.partition("\n")
    assert first == f"restore: operation exited with error: {words}", done
    assert rest.startswith("  next: ")
    return rest


NOT_EMPTY = "problem setting snapshot: cannot restore into non-empty cluster"
