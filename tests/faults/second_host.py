"""Another machine that works in the same directories: another name, another boot, other clocks.

    with SecondHost(random.Random(1)) as host:
        done = host.start("backup", …).wait()

Its runs are processes of this kernel in namespaces of their own: the host has another name, its
monotonic clock began at another moment, and the boot that /proc names is another one, so that no
process of here can be known to be dead there. Its time of day is ahead or behind by up to a year.

Needs root, unshare(1), and faketime(1) for the time of day; without faketime that one is ours.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import uuid
from collections.abc import Sequence

from tests.processes import ForkServer

LONGEST_SKEW_S = 365 * 86_400.0
LONGEST_BOOT_S = 10_000_000

_AS_ANOTHER = (
    "hostname second-host && mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec {rest}"
)

_SLEEPING_BY_SELECT = """
import runpy, select, sys, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
module, sys.argv[1:2] = sys.argv[1], []
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
"""libfaketime takes the monotonic clock that `time.sleep` asks for the time of day."""


def is_possible() -> bool:
    """Whether this user may make such namespaces."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    probe = ["unshare", *_namespaces(1), "sh", "-c", "hostname probe"]
    return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0


class SecondHost(ForkServer):
    """Where runs on the other machine come from, until the block ends.

    Attributes:
        skew_s: how far its time of day is ahead of ours.
    """

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        size_s = 10 ** rng.uniform(0, 7.5)
        self.skew_s = min(size_s, LONGEST_SKEW_S) * rng.choice((1, -1))
        self._boot_s = rng.randrange(1, LONGEST_BOOT_S)
        self._boot_id = self.directory / "boot_id"
        self._boot_id.write_text(f"{uuid.uuid4()}\n")

    def command(self) -> Sequence[str]:
        python, *args = super().command()
        return self.elsewhere([python, "-c", _SLEEPING_BY_SELECT, *args[1:]])

    def elsewhere(self, program: Sequence[str]) -> list[str]:
        """The command line that runs a program on this host."""
        rest = '"$0" "$@"'
        if shutil.which("faketime") is not None:
            rest = f"env DONT_FAKE_MONOTONIC=1 faketime -f {self.skew_s:+.0f}s {rest}"
        script = _AS_ANOTHER.format(boot_id=self._boot_id, rest=rest)
        return ["unshare", *_namespaces(self._boot_s), "sh", "-c", script, *program]

    def __str__(self) -> str:
        what = f"{self.skew_s:+.0f} s" if shutil.which("faketime") else "our time of day"
        return f"a second host, {what}"


def _namespaces(boot_s: int) -> list[str]:
    return [
        *("--mount", "--uts", "--time", "--fork", "--kill-child"),
        *("--monotonic", str(boot_s), "--boottime", str(boot_s)),
    ]
