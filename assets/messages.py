"""Translate messages of the engine, which name flags, into the fields of the launchpad.

The engine's messages are the command line's. A user who filled in `newrp` in the launchpad has
never typed `-newrp`, and has no shell in which to run `shardkeeper restore -list`.
"""

from __future__ import annotations

import re

from resources.errors import DatabaseExists, ShardkeeperError

_VERBS = (
    *("needs", "goes", "takes", "names", "reads", "does", "is", "has", "keeps", "leaves", "holds"),
    *("and", "with", "or", "in", "to", "on", "of"),
)
_VALUED = "db|newdb|rp|newrp|shard|newshard|newrf|newduration"
_PHRASES = (
    (
        r"shardkeeper show-shards lists those of a server, restore -list those of a backup",
        "the partitions of shard_backup list them",
    ),
    (r"shardkeeper restore -list shows", "the newest restore point, on backup_set, shows"),
    (r"shardkeeper restore -as-of TIME", "with as_of: TIME in the job restore_…"),
    (r"shardkeeper restore (?=-)", "the job restore_… with "),
    (r"shardkeeper merge\b", "the job merge_…"),
    (r"(?<![\w-])-plan\b", "dry_run: true"),
    (r"(?<![\w-])-http none does without", "http: none in shardkeeper.yaml does without"),
    # `-db house` is a setting with its value, `-newrp needs -rp` is a sentence.
    (rf"(?<![\w-])-({_VALUED}) (?!(?:{'|'.join(_VERBS)})\b)([^\s-]\S*)", r"\1: \2"),
    (r"(?<![\w-])-pwd-file\b", "password_file"),
    (r"(?<![\w-])-pwd\b", "password"),
    (r"(?<![\w-])-bind-tls\b", "tls"),
)
_FIELDS = (
    *("db", "rp", "shard", "newdb", "newrp", "newrf", "newshard", "newduration", "skip-expired"),
    *("users", "as-of", "full", "verify", "start", "end", "points", "abandon", "sample"),
    *("bind", "host", "http", "user", "auth-type", "secret-file", "data-tls", "timeout"),
)
_FLAG = re.compile(rf"(?<![\w-])-({'|'.join(_FIELDS)})(?![\w-])")


def in_fields(text: str) -> str:
    """The same message for a user of the launchpad."""
    for pattern, instead in _PHRASES:
        text = re.sub(pattern, instead, text)
    return _FLAG.sub(lambda found: found[1].replace("-", "_"), text)


def what_happened(error: ShardkeeperError) -> str:
    """The message and the next step, in two lines at most."""
    message, hint = str(error), error.hint
    if isinstance(error, DatabaseExists):  # the hint begins with the cause
        message, _, hint = hint.partition("; ")
    return in_fields(message) + (f"\nNext: {in_fields(hint)}" if hint else "")
