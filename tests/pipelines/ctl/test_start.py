"""Where the programs begin and end: a wish to stop is heard at every instruction there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from resources.errors import ExitCode

ENDS = """
import gc, json, os, signal, sys
from pipelines.ctl import main, start

signal.signal(signal.SIGINT, signal.SIG_DFL)
sys.argv = ["{program}", "help", "help"]
gc.freeze()  # else what ends first touches, and so copies, whatever there is
us, ends, out = os.getpid(), [], os.dup(1)
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

def here(frame, event, arg):
    if start.__file__ not in (frame.f_code.co_filename, frame.f_back.f_code.co_filename):
        return None
    frame.f_trace_opcodes = True
    if event == "opcode":
        said, say = os.pipe()
        child = os.fork()
        if child == 0:
            sys.settrace(None)
            os.dup2(say, 2)
            os.kill(os.getpid(), signal.{how})
            return None
        os.close(say)
        with open(said) as complained:
            text = complained.read()
        ends.append((os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text))
    return here

sys.settrace(here)
try:
    start.{program}()
finally:
    sys.settrace(None)
    if os.getpid() == us:
        os.write(out, json.dumps(ends).encode())
"""
"""How a run ends that is asked to stop at each instruction there: `[status, what it says]`.

One run meets them all, and at each a fork of it is asked.
"""


@pytest.mark.parametrize(
    ("program", "how"), [("influxd_ctl", signal.SIGINT), ("shardkeeper", signal.SIGTERM)]
)
def test_a_request_to_stop_is_heard_at_every_instruction(program: str, how: signal.Signals) -> None:
    ends_of_one = ENDS.format(program=program, how=how.name)
    done = subprocess.run(
        [sys.executable, "-c", ends_of_one], capture_output=True, text=True, check=True
    )
    ends = json.loads(done.stdout)
    # Once the command has said its last word, a signal changes nothing any more.
    assert {status for status, _ in ends} == {ExitCode.INTERRUPTED, -how, ExitCode.DONE}
    assert {result for _, result in ends} == {""}
