"""Objects for the tests of a store: put, got, and what a process of its own says."""

from __future__ import annotations

import os
from collections.abc import Callable

from resources.repository.storage.store import Store

NAME = "20261122T095100Z.s7.tar.gz"


def put(store: Store, name: str, content: bytes) -> None:
    with store.create(name) as sink:
        sink.write(content)


def put_late(store: Store, name: str, before: Callable[[], object]) -> None:
    """Create an object while something else happens."""
    with store.create(name) as sink:
        before()
        sink.write(b"later")


def get(store: Store, name: str) -> bytes:
    with store.open(name) as source:
        return source.read(source.size_bytes)


def in_child(deed: Callable[[], None]) -> str:
    """Do something in a process of its own; return what it raised, as `type: text`."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        message = ""
        try:
            deed()
        except BaseException as error:  # noqa: BLE001
            message = f"{type(error).__name__}: {error} | {getattr(error, 'hint', '')}"
        os.write(writing, message.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        message = answer.read().decode()
    os.waitpid(pid, 0)
    return message


def failing(code: int) -> Callable[..., None]:
    def call(*_args: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    return call
