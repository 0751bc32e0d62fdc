"""Signals meet work and never its clean-up, wherever they arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from resources.runtime.interrupts import SIGNALS, interruptible, undisturbed

ROOT = Path(__file__).parents[2]


class SignalReceived(Exception):
    """What the handler of these tests raises; under Dagster it is an Exception as well."""


def emit(number: int, _frame: FrameType | None) -> None:
    raise SignalReceived(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = [signal.signal(number, emit) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        assert signal.getsignal(number) is emit  # given back
        signal.signal(number, handler)


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.fault(27)
def test_a_signal_in_the_work_ends_it_and_none_ends_the_clean_up(
    capfd: pytest.CaptureFixture[str],
) -> None:
    done: list[str] = []

    def run() -> None:
        with undisturbed("dropping 'x'"):
            try:
                with interruptible():
                    send(signal.SIGINT)
                    done.append("work")
            except SignalReceived:
                for number in (*SIGNALS, *SIGNALS):
                    send(number)
                done.append("clean-up")
                raise

    with pytest.raises(SignalReceived, match="SIGINT"):
        run()
    assert done == ["clean-up"]
    message = capfd.readouterr().err.splitlines()
    assert len(message) == 6
    assert set(message) == {
        "interrupted, cleaning up: dropping 'x'; kill -9 would leave that to the next run"
    }


def test_a_signal_amid_the_clean_up_of_a_failure_comes_after_it_with_what_failed() -> None:
    done: list[str] = []

    def run() -> None:
        with undisturbed():
            try:
                with interruptible():
                    raise ValueError("the disk is full")
            except ValueError:
                send()
                done.append("clean-up")
                raise

    with pytest.raises(SignalReceived, match="SIGTERM") as caught:
        run()
    assert done == ["clean-up"]
    assert caught.value.__notes__ == ["the disk is full"]


def test_a_signal_waits_for_the_end_of_what_must_not_be_cut() -> None:
    done: list[str] = []

    def run() -> None:
        with undisturbed():
            send()
            done.append("all of it")

    def inside() -> None:
        with undisturbed(), interruptible():
            with undisturbed():
                send()
                done.append("inside, too")
            done.append("never")

    for each in run, inside:
        with pytest.raises(SignalReceived):
            each()
    assert done == ["all of it", "inside, too"]


def test_outside_of_them_handlers_are_those_of_before() -> None:
    with undisturbed(), interruptible():
        pass
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is emit
    with pytest.raises(SignalReceived):
        send()


def test_ignored_signals_stay_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with undisturbed(), interruptible():
        send(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, emit)


def test_other_threads_pass_through() -> None:
    passed: list[bool] = []

    def work() -> None:
        with undisturbed(), interruptible():
            passed.append(signal.getsignal(signal.SIGTERM) is emit)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert passed == [True]


EVERYWHERE = """
import dis, os, signal, sys
from resources.runtime.interrupts import interruptible, undisturbed

def tell(number, frame):
    raise KeyboardInterrupt

def once(at, fails):
    steps, state = 0, []

    def step(frame, event, arg):
        nonlocal steps
        frame.f_trace_opcodes = True
        # Python looks for signals at calls and jumps; no handler ever runs at a NOP.
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] != dis.opmap["NOP"]:
            steps += 1
            if steps in (at, at + 1, at + 7):
                os.kill(os.getpid(), signal.SIGTERM)
        return step

    def run():
        with undisturbed():
            try:
                with interruptible():
                    state.append("work")
                    if fails:
                        raise ValueError
            except BaseException:
                state.append("clean")
                state.append("cleaned")
                raise
            state.append("done")

    try:
        sys.settrace(step)
        run()
    except (KeyboardInterrupt, ValueError):
        pass
    finally:
        sys.settrace(None)
    return steps >= at, state

signal.signal(signal.SIGTERM, tell)
met = 0
for fails in (False, True):
    for at in range(1, 10_000):
        arrived, state = once(at, fails)
        assert signal.getsignal(signal.SIGTERM) is tell, (at, fails)
        # Work that has begun is done, or cleaned up, whole.
        assert state in (
            [], ["work", "done"], ["work", "clean", "cleaned"], ["clean", "cleaned"]
        ), (at, fails, state)
        if not arrived:
            break
        met += 1
print(met)
"""


@pytest.mark.fault(27)
def test_there_is_no_instruction_at_which_signals_cut_clean_up() -> None:
    """Three signals, at each instruction in turn and soon after it."""
    done = subprocess.run(
        [sys.executable, "-c", EVERYWHERE], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 500
