"""Clean-up that no signal ends early: Ctrl-C, SIGTERM and SIGHUP wait until it is done.

    with undisturbed("dropping the database again"):
        try:
            with interruptible():
                ...  # a signal is raised here, as its handler does, once
        except BaseException:
            ...  # and here no signal is
            raise

A handler may raise between any two instructions, also between the end of the work and the first
line of its clean-up. So the block that can be interrupted lies inside the one that cannot: a signal
is raised inside, or waits, and there is no third place. Once one was raised, every later one
is answered with a line on standard error and otherwise changes nothing, since whoever sends it
again waits for the clean-up that the first one has begun. Whatever clean-up does has time limits.

Handlers are those that were there before, so this holds for the commands and under Dagster. Threads
other than the main one hear no signals.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Literal, TypeAlias

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler: TypeAlias = Callable[[int, FrameType | None], object]
_Mode = Literal["outside", "undisturbed", "interruptible"]


class _Signals:
    """What is done with signals just now; only the main thread changes it."""

    def __init__(self) -> None:
        self.mode: _Mode = "outside"
        self.raised = False
        self.waiting: list[int] = []
        self.doing: list[str] = []
        self.before: dict[signal.Signals, Handler | int] = {}

    def take_over(self) -> None:
        self.raised = False
        self.waiting.clear()
        self.before.clear()
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_IGN:  # None: not Python's
                self.before[number] = handler
                signal.signal(number, self.arrived)

    def give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def arrived(self, number: int, frame: FrameType | None) -> None:
        if self.mode == "interruptible" and not self.raised:
            self.hand_on(number, frame)
            return
        if not self.raised:
            self.waiting.append(number)
        say_what_goes_on(self.doing)

    def hand_on(self, number: int, frame: FrameType | None) -> None:
        """To the handler that was there before; it usually raises."""
        self.raised = True
        self.waiting.clear()
        handler = self.before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:  # the system's: it ends the process
            signal.signal(number, handler)
            os.kill(os.getpid(), number)


_signals = _Signals()
_work_is_done = False


def note_work_is_done() -> None:
    """Say that this process has done what it was started for: no signal undoes that any more."""
    global _work_is_done
    _work_is_done = True


def is_work_done() -> bool:
    """Whether signals have nothing left to interrupt."""
    return _work_is_done


def raise_again() -> None:
    """Send the last signal once more, in a moment: what it raised was dropped by a finalizer.

    Python prints an exception that leaves a finalizer or a callback of the collector, and goes
    on; to `sys.unraisablehook` it is known.
    """
    _signals.raised = False
    main = threading.main_thread().ident
    assert main is not None  # noqa: S101 - it has started
    again = threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGINT))
    again.daemon = True
    again.start()


def say_what_goes_on(doing: list[str] | None = None) -> None:
    """Answer a signal that changes nothing; the stream may be gone, as after a hang-up."""
    doing = _signals.doing if doing is None else doing
    what = f": {doing[-1]}" if doing else ""
    line = f"interrupted, cleaning up{what}; kill -9 would leave that to the next run\n"
    with suppress(OSError):
        os.write(2, ascii(line)[1:-3].encode() + b"\n")


class _Block:
    def __init__(self, mode: _Mode, doing: str = "") -> None:
        self._mode: _Mode = mode
        self._doing = doing
        self._outer: _Mode | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        outer = _signals.mode
        if outer == "outside":
            if self._mode == "interruptible":
                return  # nobody wants to be undisturbed
            try:
                _signals.take_over()
            except BaseException:  # a signal that came before the last handler was in its place
                _signals.give_back()
                raise
        self._outer = outer
        _signals.mode = self._mode
        if self._doing:
            _signals.doing.append(self._doing)
        self._hand_on_what_waits()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._outer is None:
            return
        _signals.mode = self._outer
        if self._doing in _signals.doing:
            _signals.doing.remove(self._doing)
        if self._outer == "outside":
            _signals.give_back()
        if error is None or isinstance(error, Exception):
            try:
                self._hand_on_what_waits()
            except BaseException as interrupt:
                if error is not None:
                    interrupt.add_note(str(error))
                raise

    def _hand_on_what_waits(self) -> None:
        if _signals.waiting and _signals.mode != "undisturbed" and not _signals.raised:
            _signals.hand_on(_signals.waiting[0], None)


def undisturbed(doing: str = "") -> _Block:
    """A block in which signals wait; a block of `interruptible` inside hears them.

    Args:
        doing: what is cleaned up if need be, for whoever sends signals meanwhile.
    """
    return _Block("undisturbed", doing)


def interruptible() -> _Block:
    """A block inside one that is undisturbed, in which the first signal is raised."""
    return _Block("interruptible")
