"""The flags of `influxd backup` and `influxd restore`, for users who are used to them.

`shardkeeper` accepts a flag that has an equivalent; for any other flag the error gives the
alternative. `influxd-ctl` accepts only the original's flags; the error for any of these gives it.

Source: influxdb 1.12 cmd/influxd/backup/backup.go and cmd/influxd/restore/restore.go, parseArgs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

EQUAL: Mapping[str, Mapping[str, str]] = {
    "backup": {"database": "-db", "retention": "-rp"},
    "restore": {"database": "-db", "retention": "-rp"},
}
"""Flags by command, without dashes, and their equivalents here."""

NEEDLESS: Mapping[str, Mapping[str, str]] = {
    "backup": {"portable": "every backup is portable"},
    "restore": {"portable": "every restore reads portable backups"},
}
"""Switches that may be left out, and why."""

INSTEAD: Mapping[str, Mapping[str, str]] = {
    "backup": {
        "since": "-since is not needed: a backup copies the shards that changed since the one "
        "before it; use -start and -end to choose shards by the time of their points",
        "skip-errors": "-skip-errors is not needed: if a shard cannot be copied, the others are "
        "saved, and the exit status says that the backup is not complete",
    },
    "restore": {
        "online": "-online restores the legacy format (meta.00): use influxd restore -online "
        "instead for such a backup; for any other leave it out",
        "metadir": "use -host instead of -metadir and -datadir: a restore goes to a running server",
        "datadir": "use -host instead of -metadir and -datadir: a restore goes to a running server",
    },
}


class UnknownFlag(click.NoSuchOption):
    """A word that is not one of a command's flags, with the alternative if there is one."""

    def __init__(self, word: str, advice: str, ctx: click.Context) -> None:
        super().__init__(word, ctx=ctx)
        self.advice = advice

    def format_message(self) -> str:
        emitted = super().format_message()
        return f"{emitted}\n  next: {self.advice}" if self.advice else emitted


def translated(command: str, words: Sequence[str]) -> list[str]:
    """The words, with the flags of `influxd` replaced by our equivalents."""
    equal, needless = EQUAL.get(command, {}), NEEDLESS.get(command, {})
    ours: list[str] = []
    for n, word in enumerate(words):
        if word == "--":
            return [*ours, *words[n:]]
        name, equals, value = _flag(word).partition("=")
        if name in needless and value in ("", "true"):
            continue
        ours.append(equal[name] + equals + value if name in equal else word)
    return ours


def advice(command: str, word: str) -> str:
    """The alternative to an unknown flag; empty if `influxd` does not have the flag either."""
    name = _flag(word).partition("=")[0]
    if name in EQUAL.get(command, {}):
        return f"use {EQUAL[command][name]} instead of -{name}"
    if name in NEEDLESS.get(command, {}):
        return f"-{name} is not needed: {NEEDLESS[command][name]}"
    return INSTEAD.get(command, {}).get(name, "")


def _flag(word: str) -> str:
    """A flag without its dashes; empty if the word is not a flag."""
    if not word.startswith("-"):
        return ""
    return word[2:] if word.startswith("--") else word[1:]
