"""Identifiers use the field's words: coinages that once stood here do not come back.

docs/glossary.md has the terms. Names of tests are sentences, in which everyday words are free.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# What to say instead, by retired word.
RETIRED = {
    "crew": "workers",
    "door": "endpoint, connection",
    "doors": "endpoints",
    "casualties": "lost updates",
    "evidence": "details",
    "families": "cluster assets",
    "family": "cluster assets",
    "glance": "poll, fingerprint",
    "goodbye": "close_notify",
    "handover": "IO manager",
    "holdings": "inventory",
    "household": "sample data",
    "insist": "require",
    "judge": "evaluator, check",
    "judging": "evaluation",
    "judgement": "evaluation",
    "ledger": "asset history",
    "nursery": "fork server",
    "oracle": "reference model, expectation",
    "puller": "downloader",
    "rack": "testbed",
    "racks": "testbeds",
    "scrubbed": "redacted",
    "scrubbing": "redaction",
    "seal": "checksum",
    "sealed": "with a checksum",
    "sighting": "observation",
    "talk": "output",
    "tiling": "coverage",
    "twin": "substitute, identical archive",
    "twins": "substitutes",
    "verdict": "evaluation",
    "wish": "signal, request",
    "wishes": "signals, requests",
    "witness": "expectation, independent check",
}
# The same, except in the names of tests.
RETIRED_AS_TERMS = {
    "lack": "gap, unrestorable shard",
    "lacking": "missing",
    "lacks": "gaps, missing",
    "look": "scan, poll, reading",
    "looked": "scanned, compared",
    "looker": "comparer",
    "looks": "scans, polls",
    "pacing": "back-off",
    "said": "message, reply, output",
    "standing": "cursor",
    "talking": "exchange",
    "tell": "emit",
    "telling": "emit",
    "tells": "reports",
    "told": "reported, described",
    "watch": "change sensor, poll",
    "watched": "cached, observed",
    "watcher": "poller",
    "watching": "on_wait",
    "world": "harness",
}
RETIRED_BEGINNINGS = {
    "refuse_": "require_",
    "_refuse_": "_require_",
    "MOST_": "MAX_",
    "_MOST_": "_MAX_",
}
ALLOWED = {
    "family": "an argument of `socket.create_server`",
    "tell": "a method of files",
    "tell_of_failures": "a sensor, as users know it",
    "told": "a key of a sensor's cursor, which is stored",
    "looks": "a key of a sensor's cursor, which is stored",
    "watch_every": "a key of shardkeeper.yaml",
}
ALLOWED_IN = {
    "family": r"tests/wire/test_reach\.py",
    "tell": r"resources/embedded/.*",
    "told": r"pipelines/sensors/.*",
    "looks": r"pipelines/sensors/.*",
}
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
OFFENDERS_SHOWN = 20


@cache
def instead(name: str) -> str | None:
    """What to say instead of an identifier; None if it holds no retired word."""
    for beginning, better in RETIRED_BEGINNINGS.items():
        if name.startswith(beginning):
            return better
    terms = {} if name.startswith("test_") else RETIRED_AS_TERMS
    for word in map(str.lower, WORD.findall(name)):
        if better := RETIRED.get(word) or terms.get(word):
            return better
    return None


def identifiers(text: str) -> Iterator[tuple[int, str]]:
    """The names in a module, with their lines."""
    for node in ast.walk(ast.parse(text)):
        for field in ("id", "attr", "arg", "name", "asname"):
            name = getattr(node, field, None)
            if isinstance(name, str):
                for part in name.split("."):
                    yield getattr(node, "lineno", 0), part


def offenders(path: str, text: str) -> Iterator[str]:
    for line, name in identifiers(text):
        if (better := instead(name)) is None:
            continue
        if name in ALLOWED and re.fullmatch(ALLOWED_IN.get(name, ".*"), path):
            continue
        yield f"{path}:{line}: {name} (say: {better})"


def written() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [line for line in listed.stdout.splitlines() if not line.endswith("_pb2.py")]


def test_no_identifier_uses_a_retired_word() -> None:
    files = [path for path in written() if (ROOT / path).is_file()]
    found = [line for path in files for line in offenders(path, (ROOT / path).read_text())]
    assert not found, "\n".join(["", *found[:OFFENDERS_SHOWN], f"{len(found)} in all"])


def test_no_module_is_named_by_a_retired_word() -> None:
    names = {part: path for path in written() for part in path.removesuffix(".py").split("/")}
    assert not {name: path for name, path in names.items() if instead(name) is not None}


def test_every_exception_is_still_needed() -> None:
    everything = "\n".join((ROOT / path).read_text() for path in written() if "vocab" not in path)
    assert not [name for name in ALLOWED if not re.search(rf"\b{name}\b", everything)]


@pytest.mark.parametrize("name", ["door_flags", "JudgeOfAll", "refuse_it", "MOST_NAMED", "_said"])
def test_a_retired_word_is_found_in_any_case(name: str) -> None:
    assert list(offenders("module.py", f"{name} = 1\n"))
    assert not list(offenders("module.py", f"x = '{name}'  # {name}\n"))
