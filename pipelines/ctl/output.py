"""Print the engine's events on a terminal: the original's lines, and messages beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from pipelines.ctl import render
from pipelines.ctl.go_flags import ORIGINAL_NAME
from resources.engine.events import (
    Event,
    LeaseAwaited,
    MergeProgress,
    OwnersGiven,
    PointsRead,
    Progress,
    VerifyProgress,
)

HOW_FAR = (Progress, OwnersGiven, MergeProgress, VerifyProgress, LeaseAwaited, PointsRead)
"""Events of progress, shown only on the last line."""
BACK_AND_CLEAR = "\r\033[K"


class TerminalOutput:
    """Prints events; remembers which kinds there were.

    On a terminal, progress is on the last line until another message comes; a log gets no
    progress.

    Args:
        line_of: the line on standard output for an event, or None; without it no event has one.
    """

    def __init__(self, line_of: Callable[[Event], str | None] = lambda _: None) -> None:
        self._line_of = line_of
        self._on_terminal = sys.stderr.isatty()
        self._progress_shown = False
        self._described: set[type[Event]] = set()

    def __call__(self, event: Event) -> None:
        self._described.add(type(event))
        line = self._line_of(event)
        if line is not None:
            self._clear()
            click.echo(render.printable(line))
        elif isinstance(event, HOW_FAR):
            if self._on_terminal:
                self._clear()
                click.echo(render.printable(str(event)), err=True, nl=False)
                self._progress_shown = True
        elif (aside := self._aside(event)) is not None:
            self._clear()
            click.echo(render.printable(aside), err=True)

    def _aside(self, event: Event) -> str | None:
        within = click.get_current_context(silent=True)
        original = within is not None and within.find_root().info_name == ORIGINAL_NAME
        return render.aside(event, talkative=self._on_terminal, original=original)

    def emitted(self, kind: type[Event]) -> bool:
        return kind in self._described

    def _clear(self) -> None:
        """Clear the progress from the terminal's last line."""
        if self._progress_shown:
            click.echo(BACK_AND_CLEAR, err=True, nl=False)
            self._progress_shown = False
