"""Where the engine's events go on a terminal: the original's lines, and asides."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from pipelines.ctl import render
from resources.engine.events import Event


class Talk:
    """Prints events; remembers which kinds there were.

    Args:
        line_of: what standard output shows for an event, or None.
    """

    def __init__(self, line_of: Callable[[Event], str | None]) -> None:
        self._line_of = line_of
        self._talkative = sys.stderr.isatty()
        self._said: set[type[Event]] = set()

    def __call__(self, event: Event) -> None:
        self._said.add(type(event))
        line = self._line_of(event)
        if line is not None:
            click.echo(render.printable(line))
        elif (aside := render.aside(event, talkative=self._talkative)) is not None:
            click.echo(render.printable(aside), err=True)

    def said(self, kind: type[Event]) -> bool:
        return kind in self._said
