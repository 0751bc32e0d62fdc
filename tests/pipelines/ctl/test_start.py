"""Where the programs begin and end: a wish to stop is heard at every instruction there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from resources.errors import ExitCode

ENDS = """
import json, os, signal, sys
from pipelines.ctl import main, start

signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.argv = ["{program}", "help", "help"]

def ask_at(moment):
    passed = 0
    def here(frame, event, arg):
        nonlocal passed
        if start.__file__ not in (frame.f_code.co_filename, frame.f_back.f_code.co_filename):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if passed == moment:
                sys.settrace(None)
                os.write(3, b"asked")
                os.kill(os.getpid(), signal.{how})
            passed += 1
        return here
    sys.settrace(here)

def end_of(moment):
    ins, outs = zip(*(os.pipe() for _ in range(3)))
    child = os.fork()
    if child == 0:
        for fd, out in zip((1, 2, 3), outs):
            os.dup2(out, fd)
        ask_at(moment)
        start.{program}()
        sys.exit()
    for out in outs:
        os.close(out)
    _, complained, asked = (open(end, "rb").read().decode() for end in ins)
    return bool(asked), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), complained

moment = 0
while (end := end_of(moment))[0]:
    print(json.dumps(end[1:]))
    moment += 1
"""
"""How a run ends that is asked to stop at each instruction there: `[status, what it says]`."""


@pytest.mark.parametrize(
    ("program", "how"), [("influxd_ctl", signal.SIGINT), ("shardkeeper", signal.SIGTERM)]
)
def test_a_wish_to_stop_is_heard_at_every_instruction(program: str, how: signal.Signals) -> None:
    ends_of_one = ENDS.format(program=program, how=how.name)
    done = subprocess.run(
        [sys.executable, "-c", ends_of_one], capture_output=True, text=True, check=True
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    assert {status for status, _ in ends} == {ExitCode.INTERRUPTED, -how}
    assert {said for _, said in ends} == {""}
