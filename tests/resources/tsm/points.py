"""Points that together need every encoding the server has, and their line protocol."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resources.tsm.blocks import Values

S = 1_000_000_000
T0 = 1_600_000_000 * S

FIXTURES = Path(__file__).parents[2] / "fixtures" / "tsm"

Value = float | int | bool | str


@dataclass(frozen=True)
class Name:
    """A series and a field, as line protocol escapes them and as a query names them."""

    measurement: str
    tags: tuple[tuple[str, str], ...]
    field: str

    @property
    def series(self) -> str:
        parts = [_escaped(self.measurement, ", ")]
        parts += [f"{_escaped(tag, ', =')}={_escaped(value, ', =')}" for tag, value in self.tags]
        return ",".join(parts)

    @property
    def key(self) -> bytes:
        return f"{self.series}#!~#{self.field}".encode()


Points = Sequence[tuple[int, Value]]


def name(measurement: str, field: str = "v", **tags: str) -> Name:
    return Name(measurement, tuple(sorted(tags.items())), field)


def lines(points: Mapping[Name, Points]) -> Iterator[str]:
    """Line protocol with times in ns, one point a line."""
    for of, values in points.items():
        head = f"{of.series} {_escaped(of.field, ', =')}="
        for time, value in values:
            yield f"{head}{_written(value)} {time}"


def small() -> dict[Name, Points]:
    """Sixteen points of six keys; their file has 472 bytes."""
    at = [T0, T0 + 10 * S, T0 + 20 * S]
    return {
        name("m", "b", k="a"): list(zip(at, [True, False, True], strict=True)),
        name("m", "f", k="a"): list(zip(at, [1.5, 2.5, -3.0], strict=True)),
        name("m", "i", k="a"): list(zip(at, [1, -2, 7], strict=True)),
        name("m", "s", k="a"): list(zip(at, ["aa", "", "bbb"], strict=True)),
        name("m", "i", k="irr"): [(T0, 5), (T0 + 3, 5), (T0 + 1000, 6)],
        name("m", "f", k="z"): [(T0, 1.0)],
    }


def everything() -> dict[Name, Points]:
    """All types and encodings of one week's shard."""
    dice = random.Random(1)
    jitter = [T0 + i * S + dice.randrange(10**8) for i in range(300)]
    return {
        name("even", "float"): every(10 * S, [i % 7 * 0.5 for i in range(2500)]),
        name("even", "integer"): every(10 * S, [i * i % 1000 for i in range(2500)]),
        name("even", "boolean"): every(10 * S, [i % 3 == 0 for i in range(2500)]),
        name("even", "string"): every(10 * S, [f"line {i % 11}" for i in range(2500)]),
        name("uneven", "float"): [(time, dice.gauss(20, 5)) for time in jitter],
        name("uneven", "integer"): [(time, dice.randrange(-(10**6), 10**6)) for time in jitter],
        name("uneven", "words"): _times_for_all_selectors(),
        name("integers", kind="constant"): every(S, [42] * 1000),
        name("integers", kind="line"): every(S, [-5000 + 7 * i for i in range(500)]),
        name("integers", kind="steps of one"): every(1, [9, *range(0, -400, -1)]),
        name("integers", kind="two"): every(S, [3, 3]),
        name("integers", kind="extreme"): every(S, [-(2**63), 2**63 - 1, 0, -1, -(2**63)]),
        name("integers", kind="all selectors"): every(S, _integers_for_all_selectors()),
        name("floats", kind="extreme"): every(
            S, [0.0, -0.0, 1.7976931348623157e308, -1.7976931348623157e308, 5e-324, -5e-324, 0.0]
        ),
        name("floats", kind="repeated"): every(S, [math.pi] * 999 + [math.e]),
        name("floats", kind="random"): every(S, [dice.uniform(-1e9, 1e9) for _ in range(1001)]),
        name("floats", kind="scales"): every(S, [10.0**i for i in range(-300, 301, 7)]),
        **{
            name("booleans", n=str(n)): every(60 * S, [i % 2 == 0 for i in range(n)])
            for n in (1, 2, 7, 8, 9, 17)
        },
        name("strings", kind="empty"): every(S, ["", "", ""]),
        name("strings", kind="unicode"): every(S, ["žluťoučký", "日本", "🙂", "a\tb", "é"]),
        name("strings", kind="quoted"): every(S, ['say "hi"', "back\\slash", "a,b c=d", "#!~#"]),
        name("strings", kind="long"): every(S, ["x" * 128, "y" * 5000, "ab" * 100]),
        name("single", "float"): [(T0, -1.25)],
        name("single", "integer"): [(T0 + 1, -7)],
        name("single", "boolean"): [(T0 + 2, False)],
        name("single", "string"): [(T0 + 3, "only")],
        Name("we ird,x", (("ta g", "v,a=l ue"),), "fi eld,k"): every(S, [1, 2]),
        Name("měření", (("značka", "hodnota 🙂"),), "pole"): every(S, [0.5, 1.5]),
    }


def far_apart() -> dict[Name, Points]:
    """Differences of 2^60 ns and more, which need raw timestamps and a shard of a century."""
    times = [800_000_000 * S, 800_000_000 * S + 5, 2_500_000_000 * S, 5_000_000_000 * S]
    return {name("ages"): [(time, i) for i, time in enumerate(times)]}


def every(step: int, values: Sequence[Value]) -> Points:
    return [(T0 + i * step, value) for i, value in enumerate(values)]


def _times_for_all_selectors() -> Points:
    time, points = T0, [(T0, 0)]
    for step in _steps():
        time += step
        points.append((time, len(points)))
    return points


def _integers_for_all_selectors() -> list[Value]:
    value, values = 0, [0]
    for step in _steps():
        # Alternating signs keep the sum small, and zigzag adds a bit.
        value += step // 2 if value < 0 else -(step // 2) - (step == 1)
        values.append(value)
    return [*values]


def _steps() -> Iterator[int]:
    for bits, n in (
        *((1, 3), (2, 30), (3, 20), (4, 15), (5, 12), (6, 10), (7, 8), (8, 7), (10, 6), (12, 5)),
        *((15, 4), (20, 3), (30, 2), (42, 1)),
    ):
        for _ in range(n * 2):
            yield (1 << bits) - 1
    # Runs of ones have selectors of their own, which the encoder takes only at the end.
    yield from [1] * 725


def _escaped(text: str, special: str) -> str:
    return "".join(f"\\{char}" if char in special else char for char in text)


def _written(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value}i"
        case float():
            return repr(value)
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def deletable() -> dict[Name, Points]:
    """Five series of thirty points, from which `DELETIONS` take."""
    return {
        name("d", field, k=k): every(10 * S, values)
        for k in "abcde"
        for field, values in {
            "f": [i * 0.25 for i in range(30)],
            "s": [f"{k}{i}" for i in range(30)],
        }.items()
    }


DELETIONS = (
    f"DELETE FROM d WHERE k = 'a' AND time >= {T0 + 50 * S} AND time <= {T0 + 100 * S}",
    "DROP SERIES FROM d WHERE k = 'b'",
    f"DELETE FROM d WHERE k = 'c' AND time < {T0 + 20 * S}",
    f"DELETE FROM d WHERE (k = 'a' OR k = 'c') AND time >= {T0 + 290 * S}",
)


def left_over() -> dict[Name, Points]:
    """What `DELETIONS` leave of `deletable`."""
    kept = {
        "a": lambda i: not 5 <= i <= 10 and i < 29,
        "b": lambda i: False,
        "c": lambda i: 2 <= i < 29,
        "d": lambda i: True,
        "e": lambda i: True,
    }
    left = {
        of: [point for i, point in enumerate(points) if kept[of.tags[0][1]](i)]
        for of, points in deletable().items()
    }
    return {of: points for of, points in left.items() if points}


def stored(file: str) -> bytes:
    """A file from a real server; see the README beside it."""
    return (FIXTURES / file).read_bytes()


def plain(times: NDArray[np.int64], values: Values) -> list[tuple[int, Value]]:
    """Decoded points as Python's own values."""
    texts = [value.decode() for value in values] if isinstance(values, list) else values.tolist()
    return list(zip(times.tolist(), texts, strict=True))
