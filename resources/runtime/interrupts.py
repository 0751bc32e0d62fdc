"""Clean-up that no signal ends early: Ctrl-C, SIGTERM and SIGHUP wait until it is done.

    with undisturbed("dropping the database again"):
        try:
            with interruptible():
                ...  # the first signal raises here, through the handler that was set before
        except BaseException:
            ...  # no signal raises here
            raise

A handler may raise between any two instructions, also between the end of the work and the first
line of its clean-up. So the interruptible block lies inside the undisturbed one: a signal either
raises inside the inner block or waits. After the first signal has raised, a later one only prints
a line on standard error: the clean-up is already under way. Every step of a clean-up has a time
limit.

The handlers are those that were set before, so this works for the commands and under Dagster.
Only the main thread receives signals.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Literal, TypeAlias

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler: TypeAlias = Callable[[int, FrameType | None], object]
_Mode = Literal["outside", "undisturbed", "interruptible"]


class _Signals:
    """How signals are treated at present; only the main thread changes it."""

    def __init__(self) -> None:
        self.mode: _Mode = "outside"
        self.raised = False
        self.in_hook = False
        self.waiting: list[int] = []
        self.doing: list[str] = []
        self.before: dict[signal.Signals, Handler | int] = {}

    def take_over(self) -> None:
        self.raised = False
        self.waiting.clear()
        self.before.clear()
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_IGN:  # None: set outside Python
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
        """Call the handler that was set before; it usually raises."""
        self.raised = True
        self.waiting.clear()
        handler = self.before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:  # the default action, which ends the process
            signal.signal(number, handler)
            os.kill(os.getpid(), number)


_signals = _Signals()


def raise_again(prepare: Callable[[], None]) -> None:
    """Send SIGINT again in a moment, since a finalizer has dropped the exception of the first.

    Python prints an exception that leaves a finalizer or a callback of the collector and
    continues; only `sys.unraisablehook` sees the exception. An exception that leaves the hook is
    dropped like the first, so the signal waits until the hook has returned, and another signal
    until then raises nothing.

    Args:
        prepare: called just before the signal, so that its handler raises again.
    """
    main = threading.main_thread().ident
    assert main is not None  # noqa: S101 - it has started
    _signals.in_hook = True

    def send() -> None:
        while _signals.in_hook:
            time.sleep(0.001)
        time.sleep(0.01)
        _signals.raised = False
        prepare()
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=send, daemon=True).start()
    _signals.in_hook = False  # Python handles no signal between this and the hook's end


def say_what_goes_on(doing: list[str] | None = None) -> None:
    """Report on standard error, which may be closed after a hang-up, that clean-up goes on."""
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
                return  # no undisturbed block around it
            try:
                _signals.take_over()
            except BaseException:  # a signal arrived before the last handler was set
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
    """A block in which signals wait, except in a block of `interruptible` inside it.

    Args:
        doing: the clean-up, for the line that answers a signal.
    """
    return _Block("undisturbed", doing)


def interruptible() -> _Block:
    """A block inside an undisturbed one, in which the first signal raises."""
    return _Block("interruptible")
