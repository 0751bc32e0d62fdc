"""Reads a YAML document in pieces: a piece that cannot be read does not affect the others.

A piece can be left out: one cluster, one repository, one entry of `notify`, or another setting of
the file. YAML itself has no such parts: a tab or an unclosed bracket makes the whole file
unreadable. So the lines of the piece around such a mistake are left out, and the rest is read
again, with the same line numbers.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

import yaml
from msgspec import Struct
from yaml.reader import Reader

from resources.config.values import (
    Cluster,
    ClusterLimits,
    Objectives,
    Repository,
    Schedules,
    Secret,
)
from resources.errors import UsageError

Place = tuple[str | int, ...]
"""The path to a setting: `("clusters", "eu", "bind")`; in lists, by position."""
PIECES = ("clusters", "repositories", "notify")
"""The sections in which each entry is a piece."""
SECTIONS = (*PIECES, "executor", "url")
SETTINGS = frozenset(
    name
    for model in (Cluster, Repository, Objectives, ClusterLimits, Schedules, Secret)
    for name in model.model_fields
)
"""The settings of an entry; a line with one of these names begins no entry."""
MAX_TRIES = 40


class _Lines(Struct, frozen=True):
    """The lines of a piece: the first, and the one after the last."""

    place: Place
    start: int
    end: int


class Document:
    """The readable parts of a file.

    Attributes:
        content: its values, without the dropped pieces.
        problems: the pieces that were left out, with the reason.
    """

    def __init__(
        self, node: yaml.Node, content: Any, problems: Sequence[tuple[Place, UsageError]]
    ) -> None:
        self.content: Any = content
        self.problems = list(problems)
        self._node = node
        problem = (_mapping(content) or {}).get("notify")
        self._names = {
            section: {
                *(str(name) for name in _keys(content, section)),
                *(str(place[1]) for place, _ in problems if place[:-1] == (section,)),
            }
            for section in PIECES[:2]
        }
        self._kept = (
            list(range(len(cast("list[Any]", problem)))) if isinstance(problem, list) else []
        )

    def names(self, section: str) -> Collection[str]:
        """All names in a section, also those of dropped pieces."""
        return self._names[section]

    def place(self, loc: Sequence[str | int]) -> Place:
        """Translate a path in `content` into the path in the file."""
        where = tuple(loc)
        if len(where) > 1 and where[0] == "notify" and isinstance(where[1], int):
            return "notify", self._kept[where[1]], *where[2:]
        return where

    def piece(self, where: Place) -> Place:
        """The piece of a setting."""
        return where[: 2 if where and where[0] in PIECES else 1]

    def drop(self, piece: Place) -> bool:
        """Drop a piece; False if `piece` is none."""
        content = _mapping(self.content)
        if content is None or not piece or piece == ("clusters",):
            return False
        held = content.get(piece[0])
        section = _mapping(held)
        if len(piece) == 1 or not isinstance(held, dict | list):
            return content.pop(piece[0], self) is not self
        if section is None:
            at = self._kept.index(int(piece[1]))
            del held[at], self._kept[at]
            return True
        found = next((key for key in section if str(key) == str(piece[1])), None)
        return found is not None and section.pop(found, self) is not self

    def line(self, where: Place) -> int:
        """The line of a setting, from 1 on; of a missing one, that of its nearest parent."""
        node = self._node
        line = node.start_mark.line
        for part in where:
            if isinstance(node, yaml.MappingNode):
                inner = next(((k, v) for k, v in node.value if k.value == str(part)), None)
                if inner is None:
                    break
                line, node = inner[0].start_mark.line, inner[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
                if part >= len(node.value):
                    break
                node = node.value[part]
                line = node.start_mark.line
            else:
                break
        return line + 1


def _mapping(content: object) -> dict[Any, Any] | None:
    return cast("dict[Any, Any]", content) if isinstance(content, dict) else None


def _keys(content: object, section: str) -> Iterable[object]:
    return _mapping((_mapping(content) or {}).get(section)) or ()


def load_document(raw: bytes, name: str, *, hint: str) -> Document:
    """Read the readable parts of a file.

    Args:
        name: the file's name in messages.

    Raises:
        UsageError: the file is not YAML, and leaving out a piece does not help.
    """
    problems: list[tuple[Place, UsageError]] = []
    lines = _text(raw, name, problems, hint)
    for _ in range(MAX_TRIES):
        try:
            node, content = _load(lines)
        except yaml.MarkedYAMLError as error:
            piece = _to_blame(lines, error)
            problem = UsageError(
                f"{name}:{_where(lines, error, piece)}: {error.problem}", hint=hint
            )
            if piece is None:
                raise problem from None
            problems.append((piece.place, problem))
            lines = _blank(lines, piece)
            continue
        except RecursionError:
            raise UsageError(f"{name} is nested too deeply", hint=hint) from None
        if node is None:
            raise (problems[0][1] if problems else UsageError(f"{name} is empty", hint=hint))
        document = Document(node, _without_holes(content), problems)
        _drop_twice(document, node, name, hint)
        return document
    raise problems[0][1]


def _text(raw: bytes, name: str, problems: list[tuple[Place, UsageError]], hint: str) -> list[str]:
    """The file's lines, without the pieces that have a line that is not UTF-8."""
    lines = [line.decode("utf-8", "replace") for line in raw.split(b"\n")]
    bad: list[int] = [at for at, line in enumerate(raw.split(b"\n")) if not _is_text(line)]
    while bad:
        piece = next((p for p in _pieces(lines) if p.start <= bad[0] < p.end), None)
        if piece is None:
            raise UsageError(f"{name} is not text in UTF-8", hint=hint)
        problem = UsageError(f"{name}:{bad[0] + 1}: this line is not text in UTF-8", hint=hint)
        problems.append((piece.place, problem))
        lines = _blank(lines, piece)
        bad = [at for at in bad if not piece.start <= at < piece.end]
    return lines


def _is_text(line: bytes) -> bool:
    try:
        return Reader.NON_PRINTABLE.search(line.decode()) is None
    except UnicodeDecodeError:
        return False


def _load(lines: Sequence[str]) -> tuple[yaml.Node | None, object]:
    loader = yaml.SafeLoader("\n".join(lines))
    node = loader.get_single_node()
    return node, (loader.construct_document(node) if node is not None else None)  # pyright: ignore


def _without_holes(content: object) -> object:
    """Replace a section whose pieces were all left out by an empty one."""
    if isinstance(content, dict):
        for name in "clusters", "repositories":
            if name in content and content[name] is None:
                content[name] = {}
        if "notify" in content and content["notify"] is None:
            content["notify"] = []
    return content  # pyright: ignore[reportUnknownVariableType]


# --- pieces of the text -----------------------------------------------------------------------

_SECTION = re.compile(rf"({'|'.join(SECTIONS)})\s*:")
_ENTRY = re.compile(r"""([ ]*)(?:- |(["']?)([^\s"':#][^"':]*)\2\s*:)""")


def _pieces(lines: Sequence[str]) -> list[_Lines]:
    """The pieces of a file, by indentation.

    Only known sections begin a piece at the left margin: another line there belongs to the piece
    before it and has lost its indentation.
    """
    starts = [at for at, line in enumerate(lines) if _SECTION.match(line)]
    found: list[_Lines] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=False):
        section = lines[start].partition(":")[0].strip()
        if section in PIECES:
            found += _entries(lines, section, start + 1, end)
        else:
            found.append(_Lines((section,), start, end))
    return found


def _entries(lines: Sequence[str], section: str, start: int, end: int) -> Iterator[_Lines]:
    """The entries of a section, by the indentation of its first one.

    A line that is one space off, or after a tab, also begins a piece if it has the form of an entry
    and cannot be a setting of the entry before. So a mistake in it does not affect that entry.
    """
    begun: list[tuple[str | int, int]] = []
    indent: int | None = None
    for at in range(start, end):
        stripped = lines[at].lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        entry = _ENTRY.match(lines[at])
        depth = len(entry[1]) if entry else None
        indent = depth if indent is None else indent
        if entry and depth is not None and depth == indent and (depth or section == "notify"):
            begun.append((entry[3] or len(begun), at))
        elif not begun or _strays(lines[at], depth, indent):
            begun.append((stripped.partition(":")[0], at))
    for (name, first), last in zip(begun, [*(at for _, at in begun[1:]), end], strict=False):
        yield _Lines((section, name), first, last)


_STRAY = re.compile(r"""\s*(["']?)([^\s"':#{}\[\],-][^"':]*)\1\s*:\s*(\{.*|\#.*)?""")


def _strays(line: str, depth: int | None, indent: int | None) -> bool:
    """Whether a line has the form of an entry with a wrong indentation."""
    found = _STRAY.fullmatch(line)
    if found is None or found[2].strip() in SETTINGS:
        return False
    near = depth is not None and indent is not None and depth > 0 and abs(depth - indent) == 1
    return near or "\t" in line[: len(line) - len(line.lstrip())]


def _blank(lines: Sequence[str], piece: _Lines) -> list[str]:
    hole = [""] * (piece.end - piece.start)
    return [*lines[: piece.start], *hole, *lines[piece.end :]]


def _to_blame(lines: Sequence[str], error: yaml.MarkedYAMLError) -> _Lines | None:
    """The piece whose removal makes most of the file readable; None: none does."""
    pieces = _pieces(lines)
    marks = [m.line for m in (error.context_mark, error.problem_mark) if m is not None]
    near = {at + d for at in marks for d in (-1, 0)}
    suspects = [p for p in pieces if any(p.start <= at < p.end for at in near)]
    best, furthest = None, max(marks, default=0)
    for suspect in suspects:
        try:
            _load(_blank(lines, suspect))
        except yaml.MarkedYAMLError as other:
            reached = other.problem_mark.line if other.problem_mark else 0
            if reached > furthest:
                best, furthest = suspect, reached
        else:
            return suspect
    return best


def _where(lines: Sequence[str], error: yaml.MarkedYAMLError, piece: _Lines | None) -> int:
    """The line of a mistake; one that YAML reports at the file's end began in the piece."""
    marks = [m.line for m in (error.problem_mark, error.context_mark) if m is not None]
    if piece is None:
        return marks[0] + 1 if marks else 1
    there = [at for at in marks if piece.start <= at < piece.end and lines[at].strip()]
    return (there[0] if there else piece.start) + 1


# --- duplicate keys ---------------------------------------------------------------------------


def _drop_twice(document: Document, node: yaml.Node, name: str, hint: str) -> None:
    """Drop pieces with a duplicate key: YAML takes the last one, and the user may mean the first.

    Raises:
        UsageError: the key is not in a piece.
    """
    for where, line, first in _twice(node):
        problem = UsageError(
            f"{name}:{line}: {where[-1]} is repeated here, first in line {first}", hint=hint
        )
        piece = document.piece(where)
        if document.drop(piece):
            document.problems.append((piece, problem))
        elif piece not in [place for place, _ in document.problems]:
            raise problem


def _twice(root: yaml.Node) -> Iterator[tuple[Place, int, int]]:
    """Yield the duplicate keys of a mapping: path, line, and line of the first one."""
    waiting: list[tuple[Place, yaml.Node]] = [((), root)]
    walked = set[int]()
    while waiting:
        where, node = waiting.pop()
        if id(node) in walked:  # an alias
            continue
        walked.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting += [((*where, at), value) for at, value in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            seen: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                text = key.value if isinstance(key.value, str) else ""
                if text in seen and text != "<<":
                    yield (*where, text), line, seen[text]
                seen.setdefault(text, line)
                waiting.append(((*where, text), value))
