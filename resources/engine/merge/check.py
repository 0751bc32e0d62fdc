"""Is every restored point in the live database, with its value?

A count would not tell: the live database has points of its own. So the points of a slice are
read twice, and compared value by value. Of each value 17 bytes stay in memory, so that a slice
of any content has its bounds.

A server writes the float 1.0 as `1`, like the integer. So values of a field that has other types in
the live database are compared like all others, and are not trusted if the server has refused
some for their type.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from resources.errors import BadReply, shown
from resources.protocol.query_results import Series
from resources.protocol.strict_json import is_integer

Numbers = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
DIGEST_BYTES = 8
_MISSING, _SAME, _OTHER, _OTHER_TYPE = 0, 1, 2, 3

Kind = Literal["missing", "other", "type"]


@dataclass(frozen=True, slots=True)
class Found:
    """How a slice of the live database compares with the restored one.

    Attributes:
        same: values that are there.
        other: whose series, field and time have another value, or one of another type.
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

    Args:
        doubtful: fields that have another type somewhere in the live database.
    """

    def __init__(
        self, pieces: Iterable[Series], *, doubtful: Collection[str] = frozenset()
    ) -> None:
        places: list[Numbers] = []
        values: list[Numbers] = []
        doubts: list[Flags] = []
        for piece in pieces:
            place, value = _digests(piece)
            places.append(place)
            values.append(value)
            doubts.append(_doubts(piece, doubtful))
        self._places = np.concatenate(places) if places else np.empty(0, np.uint64)
        self._values = np.concatenate(values) if values else np.empty(0, np.uint64)
        self._doubts = np.concatenate(doubts) if doubts else np.empty(0, np.bool_)
        order = np.argsort(self._places)
        self._places, self._values = self._places[order], self._values[order]
        self._doubts = self._doubts[order]

    def __len__(self) -> int:
        return len(self._places)

    @property
    def doubted(self) -> int:
        """Values that may be found as they are and yet be of another type."""
        return int(self._doubts.sum())

    def compare(self, pieces: Iterable[Series], *, types_differ: bool = False) -> Found:
        """Hold the live database's slice against this one.

        Args:
            types_differ: whether the server has said that types differ: then what is doubtful
                counts as another value.
        """
        found = self._look(pieces, types_differ=types_differ)
        same, missing = int((found == _SAME).sum()), int((found == _MISSING).sum())
        return Found(same, len(found) - same - missing, missing)

    def example(
        self, live: Iterable[Series], restored: Iterable[Series], *, types_differ: bool = False
    ) -> tuple[Kind, str] | None:
        """The first value of the restored slice that the live one lacks, in words."""
        found = self._look(live, types_differ=types_differ)
        kinds: dict[int, Kind] = {_MISSING: "missing", _OTHER: "other", _OTHER_TYPE: "type"}
        for piece in restored:
            places, _ = _digests(piece)
            at = np.searchsorted(self._places, places)
            for index, position in enumerate(at):
                if position < len(found) and found[position] != _SAME:
                    return kinds[int(found[position])], _nth(piece, index)
        return None

    def _look(self, pieces: Iterable[Series], *, types_differ: bool) -> npt.NDArray[np.uint8]:
        found = np.zeros(len(self), np.uint8)
        if not len(self):
            return found
        for piece in pieces:
            places, values = _digests(piece)
            at = np.minimum(np.searchsorted(self._places, places), len(self) - 1)
            hit = self._places[at] == places
            same = self._values[at[hit]] == values[hit]
            found[at[hit]] = np.where(same, _SAME, _OTHER)
        if types_differ:
            found[(found == _SAME) & self._doubts] = _OTHER_TYPE
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


def _doubts(piece: Series, doubtful: Collection[str]) -> Flags:
    """Which values are of doubtful fields, in the order of `_digests`."""
    flags = [name in doubtful for name in piece.columns[1:]]
    return np.fromiter(
        (
            flag
            for row in piece.values
            for flag, value in zip(flags, row[1:], strict=True)
            if value is not None
        ),
        np.bool_,
    )


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
