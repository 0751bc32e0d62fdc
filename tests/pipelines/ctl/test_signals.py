"""A signal is heard wherever it comes."""

from __future__ import annotations

import subprocess
import sys

import pytest

FINALIZED = """
import os, signal, sys, threading, time, weakref
import click
from pipelines.ctl import main
from resources.runtime.interrupts import interruptible, undisturbed

if sys.argv[2] == "slow":  # as on a busy machine
    start = threading.Thread.start
    threading.Thread.start = lambda self: (start(self), time.sleep(0.2))

class Held:
    pass

@main.tree.command("work")
def work():
    def end_with():
        held = Held()
        weakref.finalize(held, os.kill, os.getpid(), getattr(signal, sys.argv[1]))
        del held
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(0.01)
    if sys.argv[2] == "plain":
        end_with()
    else:
        with undisturbed("cleaning"), interruptible():
            end_with()

main.tree(["work"], prog_name="shardkeeper")
"""


WAITING = """
import sys, threading
from pipelines.ctl import main

@main.tree.command("work")
def work():
    lock = threading.Lock()
    with lock:  # as in Condition.wait, before it has taken its lock again
        lock.release()
        raise (KeyboardInterrupt if sys.argv[1] == "interrupted" else ValueError)

main.tree(["work"], prog_name="shardkeeper")
"""


@pytest.mark.fault(27)
@pytest.mark.parametrize(("how", "code"), [("interrupted", 130), ("wrong", 1)])
def test_a_signal_amid_waiting_for_a_lock_is_an_interrupt(how: str, code: int) -> None:
    argv = [sys.executable, "-c", WAITING, how]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done
    assert ("Traceback" in done.stderr) == (how == "wrong")
    assert done.stderr.startswith("interrupted") == (how == "interrupted")


@pytest.mark.fault(27)
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("place", ["plain", "undisturbed", "slow"])
def test_a_signal_amid_a_finalizer_is_not_lost(number: str, place: str) -> None:
    argv = [sys.executable, "-c", FINALIZED, number, place]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130, done
    assert "Traceback" not in done.stderr
