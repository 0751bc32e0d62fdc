"""Where the two programs begin and end: an interrupt meets Python there, and not a command.

Importing takes most of a short run, and Python tells of an interrupt there with a traceback. From
the moment that a command is known its own handlers are in place, until its status is known.
"""

from __future__ import annotations

import os
import signal
import sys

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# numpy's linear algebra would start a thread for each core, and nothing here asks it for any.
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
    # No context manager: an interrupt amid the lines of one that leave it would escape it.
    try:
        try:
            from pipelines.ctl import main

            getattr(main, program)()
        except SystemExit:  # its status is known, and what is left takes no time
            _answer(signals, signal.SIG_IGN)
            raise
        except BaseException:
            _answer(signals, signal.SIG_DFL)
            raise
    except KeyboardInterrupt:  # its last word was said
        sys.exit(130)


def _answer(signals: list[signal.Signals], how: signal.Handlers) -> None:
    for number in signals:
        signal.signal(number, how)
