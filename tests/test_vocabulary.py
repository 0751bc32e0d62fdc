"""Identifiers and prose use the field's words: retired words do not come back.

docs/glossary.md has the terms. Names of tests are sentences, in which everyday words are free.
One pass of a regular expression over each file serves all tests: parsing takes ten times as long.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
# Files and packages whose docstrings, comments and messages have no retired words.
PLAIN = ("assets/", "pipelines/", "resources/", "tests/")
# These list the words.
LISTS = ("tests/test_vocabulary.py", "tests/test_docs.py")
RETIRED_IN_PROSE = re.compile(
    r"\b(?:(?-i:Who)|(?<=[;:] )who|whoever|nobody|somebody|anybody|everybody|alike|in\s+vain"
    r"|verdicts?|judg(?:e[sd]?|ing|e?ment)|(?<![\"])seal(?:s|ed|ing)?"
    r"|of\s+(?:its|their)\s+own\s+accord|as\s+it\s+were|so\s+many|stands?\s+in(?:stead)?\s+for)\b",
    re.IGNORECASE,
)
# A number that may be 1 before a noun in the plural; limits are constants, and never 1.
COUNTED = re.compile(
    r"\{(?!MAX_)[^{}]+\} (?:deleted )?(?:archives|backups|changes|clusters|databases|deletes|files"
    r"|groups|manifests|nodes|partitions|points|problems|replicas|shards|subscriptions|times"
    r"|users|values|warnings)\b"
)
# The original's output, which says "1 shards mapped" itself.
COUNTED_BY_THE_ORIGINAL = "{mapped} shards"
# A section of a docstring, up to an empty line or a line that is indented less.
RAISES = re.compile(r"^( *).*Raises:(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
ENTRIES = re.compile(r"(?:\n {4}[A-Za-z_][\w.]*(?:, [A-Z]\w+)*: .+(?:\n {8,}\S.*)*)+")
CODE_SPAN = re.compile(r"`[^`\n]+`")
TOKEN = re.compile(
    r"""
    (?P<text> [rRbBuUfF]{0,2} (?:
        \"{3} (?:[^"\\]|\\.|"(?!""))* \"{3}
      | '{3} (?:[^'\\]|\\.|'(?!''))* '{3}
      | " (?:[^"\\\n]|\\.)* "
      | ' (?:[^'\\\n]|\\.)* '
    ))
    | (?P<comment> \#[^\n]*)
    | (?P<name> [^\W\d]\w*)
    """,
    re.VERBOSE | re.DOTALL,
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")
OFFENDERS_SHOWN = 20


def code_mark(match: re.Match[str]) -> str:
    return "`" * len(match.group())


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


class Lexed(NamedTuple):
    """Names, and texts for readers, each with its line."""

    names: tuple[tuple[int, str], ...]
    texts: tuple[tuple[int, str], ...]


def lexed(text: str) -> Lexed:
    """Split a module; names inside f-strings are left out, since they are defined elsewhere."""
    names: list[tuple[int, str]] = []
    texts: list[tuple[int, str]] = []
    line, counted = 1, 0
    for match in TOKEN.finditer(text):
        token = match.group()
        line += text.count("\n", counted, match.start())
        counted = match.start()
        if match.lastgroup == "name":
            names.append((line, token))
        elif match.lastgroup == "comment" or " " in token:
            texts.append((line, token))
    return Lexed(tuple(names), tuple(texts))


@cache
def lexed_file(path: str) -> Lexed:
    return lexed((ROOT / path).read_text())


def offenders(path: str, names: Iterable[tuple[int, str]]) -> Iterator[str]:
    for line, name in names:
        if (better := instead(name)) is None:
            continue
        if name in ALLOWED and re.fullmatch(ALLOWED_IN.get(name, ".*"), path):
            continue
        yield f"{path}:{line}: {name} (say: {better})"


def blunders(path: str, texts: Iterable[tuple[int, str]]) -> Iterator[str]:
    for line, text in texts:
        for match in RETIRED_IN_PROSE.finditer(CODE_SPAN.sub(code_mark, text)):
            at = line + text.count("\n", 0, match.start())
            yield f"{path}:{at}: {match.group()}"
        for match in RAISES.finditer(text):
            entries = match.group(2).replace(f"\n{match.group(1)}", "\n")
            if not ENTRIES.fullmatch(entries):
                at = line + text.count("\n", 0, match.start())
                yield f"{path}:{at}: Raises is a list of `ErrorName: when.`, a line each"


@cache
def written() -> tuple[str, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [line for line in listed.stdout.splitlines() if not line.endswith("_pb2.py")]
    return tuple(path for path in paths if (ROOT / path).is_file())


def test_no_identifier_uses_a_retired_word() -> None:
    found = [line for path in written() for line in offenders(path, lexed_file(path).names)]
    assert not found, "\n".join(["", *found[:OFFENDERS_SHOWN], f"{len(found)} in all"])


def test_no_module_is_named_by_a_retired_word() -> None:
    names = {part: path for path in written() for part in path.removesuffix(".py").split("/")}
    assert not {name: path for name, path in names.items() if instead(name) is not None}


def test_every_exception_is_still_needed() -> None:
    used = {name for path in written() if "vocab" not in path for _, name in lexed_file(path).names}
    assert not ALLOWED.keys() - used


@pytest.mark.parametrize("name", ["door_flags", "JudgeOfAll", "refuse_it", "MOST_NAMED", "_said"])
def test_a_retired_word_is_found_in_any_case(name: str) -> None:
    assert list(offenders("module.py", lexed(f"{name} = 1\n").names))
    assert not list(offenders("module.py", lexed(f"x = '{name}'  # {name}\n").names))


def test_prose_is_plain_technical_english() -> None:
    files = [path for path in written() if path.startswith(PLAIN) and path not in LISTS]
    found = [line for path in files for line in blunders(path, lexed_file(path).texts)]
    assert not found, "\n".join(["", *found[:OFFENDERS_SHOWN], f"{len(found)} in all"])


@pytest.mark.parametrize(
    "text",
    ["# Who asks must wait", '"""Reads.\n\n    Whoever reads."""', "x = f'nobody at {y}'"],
)
def test_a_retired_word_is_found_in_comments_docstrings_and_messages(text: str) -> None:
    assert list(blunders("module.py", lexed(text).texts))


def uncounted(path: str, texts: Iterable[tuple[int, str]]) -> Iterator[str]:
    for line, text in texts:
        for match in COUNTED.finditer(text):
            if match.group() != COUNTED_BY_THE_ORIGINAL:
                yield f"{path}:{line}: {match.group()} (say: counted(...), from resources.errors)"


def test_a_message_about_one_thing_has_its_noun_in_the_singular() -> None:
    files = [path for path in written() if not path.startswith(("tests/", "resources/tsm/"))]
    assert not [found for path in files for found in uncounted(path, lexed_file(path).texts)]
    assert list(uncounted("a.py", lexed('x = f"{len(found)} shards left"').texts))
    assert not list(uncounted("a.py", lexed('x = f"over {MAX_RUNS} runs"').texts))


@pytest.mark.parametrize(
    ("section", "right"),
    [
        ("Raises:\n        BadReply: it is no JSON, or\n            is cut.", True),
        ("Raises:\n        BadReply, PeerRefused: it fails.\n        OSError: no disk.", True),
        ("Raises: BadReply.", False),
        ("It may fail. Raises: BadReply: it is cut.", False),
        ("Raises:\n        BadReply", False),
        ("Raises:\n        As `other`.", False),
    ],
)
def test_raises_has_one_form(section: str, right: bool) -> None:
    text = f'    """Reads.\n\n    {section}\n    """\n'
    assert right != bool(list(blunders("module.py", lexed(text).texts)))


def test_keys_and_code_spans_are_not_prose() -> None:
    text = '''x["seal"]  # the key `seal` of a manifest\n"""Reads `nobody`."""\n'''
    assert not list(blunders("module.py", lexed(text).texts))


def test_a_text_is_reported_with_its_line() -> None:
    assert list(blunders("a.py", lexed('x = 1\n\n"""One\n\ntwo in vain\n"""\n').texts)) == [
        "a.py:5: in vain"
    ]
