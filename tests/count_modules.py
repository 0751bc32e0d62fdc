"""How many modules have a test of their own, and how many a reader opens to follow a thing through.

    python -m tests.count_modules          the three counts, and what is in them

Mirrored modules: a module `resources/a/b.py` has a test of its own if there is
`tests/resources/a/test_b.py`, or `test_b_….py` beside it. Packages' `__init__.py` do not count.

"Back up one shard": a real backup of one shard of an embedded server is traced. A module has to be
opened if

- a function of it runs, or waits on the stack, while the shard is read and stored (`DOWNLOAD`); or
- it belongs to the engine, and a function of it is handed the shard: its place, its state, or a
  list of these. These modules decide about the shard.

Modules of nothing but values and errors do not count (`VALUES`).

"Restore with -newdb on a server": the modules in which the new name of the database has a name of
its own as a variable, parameter, attribute or key (`NEWDB`), and how many such names there are.
Those that show it (`*_render`, metadata, help texts), those for clusters and merges, and the
embedded servers do not count.

Held by tests/test_count_modules.py.
"""

from __future__ import annotations

import ast
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from inspect import CO_NEWLOCALS
from pathlib import Path
from types import CodeType, FrameType

from resources.clients.connect import open_source
from resources.clients.source_address import Address
from resources.embedded.server import EmbeddedServer
from resources.engine.backup.change_detection import ShardState
from resources.engine.backup.run import back_up
from resources.engine.events import Run
from resources.engine.options import BackupOptions
from resources.model import ShardPlace
from resources.repository.repository import BackupRepository
from resources.repository.storage.store import DirectoryStore

ROOT = Path(__file__).parents[1]
PACKAGES = ("assets", "pipelines", "resources")
VALUES = frozenset(
    ("resources/errors.py", "resources/model.py", "resources/engine/events.py")
)  # fmt: skip
NEWDB = frozenset(("newdb", "new_database", "new_name", "restore_database"))
SHOWN_ELSEWHERE = (
    "assets/",
    "pipelines/ctl/merge",
    "pipelines/ctl/original_help",
    "pipelines/ctl/overwrite",
    "pipelines/ctl/planning",
    "resources/embedded/",
    "resources/engine/cluster/",
    "resources/engine/merge/",
)
DOWNLOAD = "resources/engine/backup/download.py"
"""What reads a shard and stores its archive."""


def modules() -> list[str]:
    """Every module of the product, by its path."""
    found = (path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found if path.name != "__init__.py")


def has_own_test(module: str) -> bool:
    """Whether a test file mirrors it."""
    path = ROOT / "tests" / module
    beside = path.parent.glob(f"test_{path.stem}*.py")
    return any(test.stem[len(f"test_{path.stem}") :][:1] in ("", "_") for test in beside)


def mirrored() -> list[str]:
    return [module for module in modules() if has_own_test(module)]


# --- back up one shard ----------------------------------------------------------------------


class _Trace:
    """Which modules run below a function, seen by the interpreter's trace of calls."""

    def __init__(self) -> None:
        self.copying: set[str] = set()
        self.deciding: set[str] = set()
        self._known: set[CodeType] = set()

    def __call__(self, frame: FrameType, event: str, arg: object) -> None:
        if event != "call" or frame.f_code in self._known or not (module := _module(frame)):
            return
        stack = _stack(frame)
        if DOWNLOAD in stack:
            self.copying |= stack
            self._known.add(frame.f_code)
        if module.startswith("resources/engine/") and stack and any(map(_is_shard, _given(frame))):
            self.deciding.add(module)


def _module(frame: FrameType) -> str:
    """The module of the product whose function a frame runs; empty: another one's, or an import."""
    if not frame.f_code.co_flags & CO_NEWLOCALS:  # a module or the body of a class, imported late
        return ""
    return _of_file(frame.f_code.co_filename)


@cache
def _of_file(name: str) -> str:
    if not name.startswith(str(ROOT)):
        return ""
    module = str(Path(name).relative_to(ROOT))
    return module if module.startswith(PACKAGES) else ""


def _stack(frame: FrameType) -> set[str]:
    """The modules on the stack; none if a server runs there."""
    found: set[str] = set()
    at: FrameType | None = frame
    while at is not None:
        if "/resources/embedded/" in at.f_code.co_filename:
            return set()
        found.add(_module(at))
        at = at.f_back
    return found - {""}


def _given(frame: FrameType) -> Iterator[object]:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    yield from (frame.f_locals.get(name) for name in names)


def _is_shard(value: object) -> bool:
    if isinstance(value, list | tuple):
        return any(_is_shard(one) for one in value[:1])  # pyright: ignore
    return isinstance(value, ShardPlace | ShardState)


def shard_backup() -> list[str]:
    """The modules that are opened to follow the backup of one shard."""
    with tempfile.TemporaryDirectory() as scratch:
        backups = Path(scratch) / "backups"
        backups.mkdir()
        repository = BackupRepository(DirectoryStore(backups), str(backups), scratch_dir=scratch)
        with EmbeddedServer(Path(scratch) / "server") as server:
            server.query("CREATE DATABASE db")
            server.write("db", "cpu,host=a usage=1 1600000000000000000")
            source = open_source(Address(host=server.tcp_addr, http=server.http_addr))
            trace, ignored = _Trace(), Run(lambda _: None)
            _traced(trace, lambda: back_up(source, repository, BackupOptions(), ignored))
    return sorted((trace.copying | trace.deciding) - VALUES)


def _traced(trace: _Trace, run: Callable[[], object]) -> None:
    before = sys.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
        threading.settrace(None)  # type: ignore[arg-type]


# --- restore with -newdb on a server ----------------------------------------------------------


def newdb_on_a_server() -> tuple[list[str], list[str]]:
    """The modules that name the new database, and the names that they have for it."""
    found: list[str] = []
    names: set[str] = set()
    for module in modules():
        if module.startswith(SHOWN_ELSEWHERE):
            continue
        text = (ROOT / module).read_text()
        if not any(name in text for name in NEWDB):
            continue
        if here := NEWDB.intersection(_names(ast.parse(text))):
            found.append(module)
            names |= here
    return found, sorted(names)


def _names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.keyword(arg=str() as name):
                yield name
            case ast.Constant(value=str() as name) if name.isidentifier():
                yield name
            case _:
                pass


def _listed(title: str, found: Iterable[str]) -> str:
    names = list(found)
    return "\n".join([f"{title}: {len(names)}", *(f"  {name}" for name in names)])


def main() -> None:
    without = [module for module in modules() if not has_own_test(module)]
    print(f"modules: {len(modules())}, with a test of their own: {len(mirrored())}")  # noqa: T201
    print(_listed("without one", without))  # noqa: T201
    print(_listed("opened for the backup of one shard", shard_backup()))  # noqa: T201
    files, names = newdb_on_a_server()
    print(_listed(f"opened for -newdb on a server, as {', '.join(names)}", files))  # noqa: T201


if __name__ == "__main__":
    main()
