"""How the records of a run's batches are written: JSON of values, and errors among them."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from resources import errors
from resources.errors import BadReply, ManifestUnreadable, ShardkeeperError

Record = TypeVar("Record")


class StoredError(Struct, frozen=True):
    """An error, such that another process can raise it."""

    kind: str
    what: str
    hint: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: ShardkeeperError) -> StoredError:
        known = (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
        notes = tuple(getattr(error, "__notes__", ()))
        return cls(next(known).__name__, error.what, error.hint, notes)

    def error(self) -> ShardkeeperError:
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, ShardkeeperError)):
            kind = ShardkeeperError
        error = kind(self.what, hint=self.hint)
        for note in self.notes:
            error.add_note(note)
        return error


def encode_record(record: object) -> bytes:
    """JSON of a value.

    Raises:
        BadReply: a server reported a number that no record can hold.
    """
    try:
        return msgspec.json.encode(record)
    except OverflowError:
        raise BadReply(
            "the source reports a number of more than 64 bits", hint="is it an InfluxDB server?"
        ) from None


def decode_record(raw: bytes, kind: type[Record], name: str) -> Record:
    """Read JSON of a value.

    Raises:
        ManifestUnreadable: it is none.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ManifestUnreadable(f"{name}: {error}", hint="run it again") from None
