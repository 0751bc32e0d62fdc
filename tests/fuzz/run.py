"""`make fuzz SECONDS=600`: throw changed real files at the parsers, for a time.

    python -m tests.fuzz.run 600 [target …]

Seconds are CPU time of each target alone, so on a busy machine it takes longer and tries as
much. Two targets at a time. A finding is shrunk, printed with the seed of its round, and becomes a
test of the parser.
"""

from __future__ import annotations

import resource
import secrets
import sys
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.mutations import changed
from tests.fuzz.targets import TARGETS

ROUND = 400
"""Examples between two looks at the clock."""
MEASURE_EVERY = 25
MAX_PEAK_BYTES = 96 << 20
MAX_SECONDS = 5.0
AT_ONCE = 2


def fuzz(name: str, seconds: float, first_seed: int) -> int:
    """Try a target for some seconds of this process' CPU time; returns how many inputs it took.

    Raises:
        Exception: what escaped from the target; its notes have the input, shrunk.
    """
    target = TARGETS[name]
    deadline = time.process_time() + seconds
    n = 0

    @settings(
        max_examples=ROUND,
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(changed(target.corpus, target.repair))
    def once(raw: bytes) -> None:
        nonlocal n
        n += 1
        began = time.thread_time()
        if n % MEASURE_EVERY:
            target.check(raw)
        else:
            tracemalloc.start()
            try:
                target.check(raw)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < MAX_PEAK_BYTES, f"{peak} bytes for {len(raw)}"
        assert time.thread_time() - began < MAX_SECONDS

    round_ = 0
    while round_ == 0 or time.process_time() < deadline:
        try:
            seed(first_seed + round_)(once)()
        except Exception as finding:
            finding.add_note(f"{name}, seed {first_seed + round_}")
            raise
        round_ += 1
    return n


def _in_child(name: str, seconds: float, first_seed: int) -> str:
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    spent, began = time.process_time(), time.monotonic()
    n = fuzz(name, seconds, first_seed)
    spent, took = time.process_time() - spent, time.monotonic() - began
    return (
        f"{name}: {n} inputs in {spent:.0f} s of CPU, {took:.0f} s of the clock, "
        f"from seed {first_seed}, no finding"
    )


def main() -> int:
    """Fuzz the targets that are named, or all; 1 if there was a finding."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    chosen = sys.argv[2:] or list(TARGETS)
    found = 0
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn")) as pool:
        running = [(x, pool.submit(_in_child, x, seconds, secrets.randbits(32))) for x in chosen]
        for name, future in running:
            try:
                message = future.result()
            except Exception as finding:  # noqa: BLE001 - whatever escapes a parser is a finding
                found += 1
                notes = "\n".join(getattr(finding, "__notes__", ()))
                message = f"{name}: FOUND {type(finding).__name__}: {finding}\n{notes}"
            sys.stdout.write(message + "\n")
            sys.stdout.flush()
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
