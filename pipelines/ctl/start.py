"""The start and the end of both programs: here an interrupt ends Python, not a command.

Imports take most of a short run, and Python answers an interrupt there with a traceback. The
commands' own handlers are in place from the moment that a command is known until its status is.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

COLLECT_EVERY = 50_000
"""Objects between two looks for garbage, instead of 700: nearly all that a run makes stays alive,
and looking for garbage among them took a tenth of a backup of 10,000 unchanged shards."""

# numpy's linear algebra would start a thread for each core, and no code here uses it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def shardkeeper() -> None:
    """Run `shardkeeper`; exit statuses as in `ExitCode`, or by signal before it has begun."""
    _run("shardkeeper")


def influxd_ctl() -> None:
    """Run `influxd-ctl`; exit statuses are the original's, or by signal before it has begun."""
    _run("influxd_ctl")


def _run(program: str) -> None:
    signals = [number for number in STOP_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    _answer(signals, signal.SIG_DFL)
    gc.set_threshold(COLLECT_EVERY)
    # No context manager: an interrupt between the lines that leave it would escape it.
    try:
        try:
            from pipelines.ctl import main

            getattr(main, program)()
        except SystemExit:  # the status is known, and the rest takes no time
            _answer(signals, signal.SIG_IGN)
            raise
        except BaseException:
            _answer(signals, signal.SIG_DFL)
            raise
    except KeyboardInterrupt:  # the command has already printed its message
        sys.exit(130)


def _answer(signals: list[signal.Signals], how: signal.Handlers) -> None:
    for number in signals:
        signal.signal(number, how)
