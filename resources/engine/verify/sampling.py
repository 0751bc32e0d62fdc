"""Choose a part of the archives, a different one each day, until all of them were read.

Each name has a place on a circle, by its SHA-256, and a sample is an arc of the circle. So a day's
sample is the same on every machine, and no state is kept. As many days as there are arcs make a
round, in which each arc is read once. The order differs from round to round, so a check that runs
every seventh day does not meet the same arc each time.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import time
from collections.abc import Collection
from fractions import Fraction

from msgspec import Struct

from resources.errors import UsageError, shown

SECONDS_PER_DAY = 86_400
MAX_LENGTH = 10**9
CIRCLE = 1 << 64


def today() -> int:
    """The number of this day, UTC."""
    return int(time.time()) // SECONDS_PER_DAY


class Sample(Struct, frozen=True):
    """How much to read: a share of all archives, or a number of them."""

    share: Fraction | None = None
    """Above 0, at most 1."""
    count: int = 0

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Read `10%`, `2.5%` or `25`.

        Raises:
            UsageError: it is not of that form, or is zero or more than all.
        """
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(%?)", text)
        if match is not None:
            value = Fraction(match[1])
            if match[2] and 0 < value <= 100:
                return cls(share=value / 100)
            if not match[2] and value.denominator == 1 and 0 < value <= MAX_LENGTH:
                return cls(count=int(value))
        raise UsageError(
            f"{shown(text)} is not a sample",
            hint="10% is a tenth of the archives, 25 is a number of archives",
        )

    def parts(self, n: int) -> int:
        """The number of samples of `n` archives in a round."""
        if self.share is not None:
            return math.ceil(1 / self.share)
        return max(1, math.ceil(n / self.count))

    def choose(self, names: Collection[str], day: int) -> set[str]:
        """The archives of that day; at least one, if there are any."""
        places = {name: _place(name) for name in names}
        ordered = sorted(places, key=lambda name: (places[name], name))
        if not ordered:
            return set()
        parts = self.parts(len(ordered))
        part = _order(parts, day // parts)[day % parts]
        if self.share is None:
            first = part * self.count
            return set(ordered[first : first + self.count])
        start, width = int(part * self.share * CIRCLE), math.ceil(self.share * CIRCLE)
        chosen = {name for name in ordered if (places[name] - start) % CIRCLE <= width}
        return chosen or {min(ordered, key=lambda name: (places[name] - start) % CIRCLE)}


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])


def _order(parts: int, number: int) -> list[int]:
    """The order of the parts in the round of that number."""
    return random.Random(number).sample(range(parts), parts)  # noqa: S311 - no secret
