"""What values share that msgspec's Structs do not have.

Values are Structs and no dataclasses: Python compiles source text for each dataclass, and a
hundred of them took a third of the time to start a command.

Test: tests/resources/test_values.py.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


def repr_without(*hidden: str) -> Callable[..., str]:
    """A `__repr__` that leaves out fields: secrets, and bytes that may hold secrets."""

    def represent(value: Struct) -> str:
        names = (name for name in value.__struct_fields__ if name not in hidden)
        shown = ", ".join(f"{name}={getattr(value, name)!r}" for name in names)
        return f"{type(value).__name__}({shown})"

    return represent
