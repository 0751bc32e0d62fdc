"""A bucket as the place of an expectation: one of a server in this process, or a real one."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from resources.repository.storage.opening import open_store
from resources.repository.storage.store import Store
from tests.expectation import Expectation
from tests.faults.places import Place
from tests.s3_server import S3Server

URL_VARIABLE = "SHARDKEEPER_STORE_URL"


@contextmanager
def some_bucket() -> Iterator[tuple[str, S3Server | None]]:
    """The URL of a bucket, for the block; the environment leads there."""
    if url := os.environ.get(URL_VARIABLE):
        yield url, None
        return
    with S3Server() as server, server.environment():
        yield "s3://bucket/faults", server


@dataclass
class BucketExpectation(Expectation):
    """As an expectation of a directory; `backups` is a URL."""

    url: str = field(default="")

    @classmethod
    def at(cls, place: Place, url: str) -> BucketExpectation:
        """Of a database of its own, in a prefix of its own."""
        of = place.expectation()
        url = f"{url}/{secrets.token_hex(6)}"
        flags = (of.source, of.flags, of.database, url, of.target)
        return cls(*flags, url=url)  # type: ignore[arg-type]

    @property
    def store(self) -> Store:
        return open_store(self.url)

    @property
    def committed(self) -> set[str]:
        return {name.removesuffix(".manifest") for name in self._names(".manifest")}

    def _names(self, suffix: str = "") -> list[str]:
        return [name for name in self.store.names() if name.endswith(suffix)]

    def archives_of(self, backup: str) -> list[str]:
        return list(self.store.names(f"{backup}.s"))

    def tidy(self) -> bool:
        """Whether no run is on record, and every object belongs to a backup or is a receipt."""
        listed = set[str]()
        for name in self._names(".manifest"):
            with self.store.open(name) as source:
                document = json.loads(source.read(source.size_bytes))
            listed |= {name, f"{name}.copy", document["meta"]["fileName"]}
            listed |= {file["fileName"] for file in document["files"] or ()}
        there = {name for name in self._names() if not name.endswith(".receipt.json")}
        return there - {".shardkeeper.probe"} == listed and not self.store.has_stages()
