"""Is every restored point in the live database, with its value?

A count would not tell: the live database has points of its own. So the points of a slice are
read twice, and compared value by value. Of each value 16 bytes stay in memory, so that a slice
of any content has its bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from resources.clients.http import Series
from resources.errors import BadReply, shown
from resources.protocol.strict_json import is_integer

Numbers = npt.NDArray[np.uint64]
DIGEST_BYTES = 8
_MISSING, _SAME, _OTHER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Found:
    """How a slice of the live database compares with the restored one.

    Attributes:
        same: values that are there.
        other: whose series, field and time have another value.
        missing: whose series, field and time have none.
    """

    same: int
    other: int
    missing: int

    @property
    def complete(self) -> bool:
        return not self.other and not self.missing


class SliceContents:
    """Every value of a slice, as two digests: of its place, and of both place and value.

    Order does not matter, and neither do further tags of the live database's other series.
    """

    def __init__(self, pieces: Iterable[Series]) -> None:
        places: list[Numbers] = []
        values: list[Numbers] = []
        for piece in pieces:
            place, value = _digests(piece)
            places.append(place)
            values.append(value)
        self._places = np.concatenate(places) if places else np.empty(0, np.uint64)
        self._values = np.concatenate(values) if values else np.empty(0, np.uint64)
        order = np.argsort(self._places)
        self._places, self._values = self._places[order], self._values[order]

    def __len__(self) -> int:
        return len(self._places)

    def compare(self, pieces: Iterable[Series]) -> Found:
        """Hold the live database's slice against this one."""
        found = self._look(pieces)
        same, other = int((found == _SAME).sum()), int((found == _OTHER).sum())
        return Found(same, other, len(found) - same - other)

    def example(
        self, live: Iterable[Series], restored: Iterable[Series]
    ) -> tuple[Literal["missing", "other"], str] | None:
        """The first value of the restored slice that the live one lacks, in words."""
        found = self._look(live)
        for piece in restored:
            places, _ = _digests(piece)
            at = np.searchsorted(self._places, places)
            for index, position in enumerate(at):
                if position < len(found) and found[position] != _SAME:
                    kind = "other" if found[position] == _OTHER else "missing"
                    return kind, _nth(piece, index)
        return None

    def _look(self, pieces: Iterable[Series]) -> npt.NDArray[np.uint8]:
        found = np.zeros(len(self), np.uint8)
        if not len(self):
            return found
        for piece in pieces:
            places, values = _digests(piece)
            at = np.minimum(np.searchsorted(self._places, places), len(self) - 1)
            hit = self._places[at] == places
            same = self._values[at[hit]] == values[hit]
            found[at[hit]] = np.where(same, _SAME, _OTHER)
        return found


def _digests(piece: Series) -> tuple[Numbers, Numbers]:
    """Digests of the places, and of places and values, of all values that there are.

    Raises:
        BadReply: a row does not begin with a time in ns.
    """
    series = blake2b(_series_key(piece.tags), digest_size=DIGEST_BYTES)
    fields = [b"\0" + name.encode("utf-8", "surrogatepass") + b"\0" for name in piece.columns[1:]]
    places, values = bytearray(), bytearray()
    for row in piece.values:
        if not row or not is_integer(row[0]):
            raise BadReply(f"a row of {shown(piece.name)} has no time")
        moment = series.copy()
        moment.update(b"%d" % row[0])
        for field, value in zip(fields, row[1:], strict=True):
            if value is None:
                continue
            digest = moment.copy()
            digest.update(field)
            places += digest.digest()
            digest.update(_text(value))
            values += digest.digest()
    return np.frombuffer(places, np.uint64), np.frombuffer(values, np.uint64)


def _series_key(tags: Mapping[str, str]) -> bytes:
    """A tag without a value is a tag that the series does not have."""
    return repr(sorted((key, value) for key, value in tags.items() if value)).encode(
        "utf-8", "surrogatepass"
    )


def _text(value: Any) -> bytes:
    return repr(value).encode("utf-8", "surrogatepass")


def _nth(piece: Series, index: int) -> str:
    """The `index`-th value of a piece, in words."""
    for time, *row in piece.values:
        for field, value in zip(piece.columns[1:], row, strict=True):
            if value is None:
                continue
            if index == 0:
                tags = ",".join(f"{k}={v}" for k, v in sorted(piece.tags.items()) if v)
                return f"{piece.name},{tags} {field}={value!r:.80} at {time}"
            index -= 1
    raise IndexError(index)
