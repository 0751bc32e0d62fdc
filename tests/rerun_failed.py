"""Run the tests that just failed once more, each alone, and name those that passed.

    python -m tests.rerun_failed PYTEST [argument …]

PYTEST is how to start pytest. The failed tests are read from the cache that pytest writes. A test
that passes alone is printed below the heading FLAKY and does not end the run with an error: either
the test or the product is wrong, and a developer has to find out which. A test that fails again
ends it with an error.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")
MAX_RERUNS = 20
"""More failures than this are no accident, and each costs the start of a process."""
TIMEOUT_S = 300
GROUP = re.compile(r"@[^@\[\]/]+$")
"""pytest-xdist writes the group of a test behind its id, where pytest does not find it."""


def failed_tests() -> list[str]:
    """The ids of the tests that failed in the last run; empty if the run wrote none down."""
    if not LAST_FAILED.exists():
        return []
    return sorted(GROUP.sub("", test) for test in json.loads(LAST_FAILED.read_text()))


def passes_alone(pytest: list[str], test: str) -> bool:
    try:
        ended = subprocess.run(
            [*pytest, "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test],
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def main(pytest: list[str]) -> int:
    failed = failed_tests()
    if not failed:
        return _say("the run failed, and no test of it did")
    if len(failed) > MAX_RERUNS:
        return _say(f"{len(failed)} tests failed: too many to run each again")
    flaky = [test for test in failed if passes_alone(pytest, test)]
    if flaky:
        sys.stdout.write("\nFLAKY\n" + "".join(f"{test}\n" for test in flaky) + "\n")
    again = [test for test in failed if test not in flaky]
    if again:
        return _say("failed twice:\n" + "\n".join(again))
    return 0


def _say(what: str) -> int:
    sys.stdout.write(f"\n{what}\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
