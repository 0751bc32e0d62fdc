"""How often a shard is tried, and what the options of a run mean together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.engine.options import BackupOptions, Retry
from resources.model import ShardID, ShardLocation
from resources.repository.formats.manifest import Limits


def test_pauses_double_up_to_the_longest() -> None:
    retry = Retry(attempts=6, first_pause_s=0.5, longest_pause_s=3.0)
    assert [retry.pause_s(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert retry.patience_s == 9.5


def test_a_single_attempt_waits_for_nothing() -> None:
    assert Retry(attempts=1).patience_s == 0


@settings(max_examples=40)
@given(st.integers(1, 60), st.floats(0.001, 5), st.floats(0.001, 60))
def test_no_pause_is_longer_than_the_longest_and_none_shorter_than_the_one_before(
    attempts: int, first: float, longest: float
) -> None:
    retry = Retry(attempts, first, longest)
    pauses = [retry.pause_s(n) for n in range(1, attempts)]
    assert pauses == sorted(pauses)
    assert all(pause <= longest for pause in pauses)
    assert retry.patience_s == pytest.approx(sum(pauses))


@pytest.mark.parametrize(
    ("parallel", "per_node", "of_one"), [(4, None, 4), (4, 1, 1), (4, 9, 4), (1, 1, 1)]
)
def test_one_node_gets_no_more_requests_than_either_flag_allows(
    parallel: int, per_node: int | None, of_one: int
) -> None:
    assert BackupOptions(parallel=parallel, per_node=per_node).of_one_node == of_one


@pytest.mark.parametrize(
    "options",
    [
        BackupOptions(limits=Limits("db")),
        BackupOptions(limits=Limits(shard_id=ShardID(1))),
        BackupOptions(only_meta=True),
        BackupOptions(start_ns=0),
        BackupOptions(end_ns=0),
        BackupOptions(only=frozenset()),
        BackupOptions(only=frozenset({ShardLocation("db", "rp", ShardID(1))})),
    ],
)
def test_a_run_that_leaves_shards_out_says_that_it_is_limited(options: BackupOptions) -> None:
    assert options.limited


@pytest.mark.parametrize(
    "options", [BackupOptions(), BackupOptions(full=True), BackupOptions(internal=False)]
)
def test_other_choices_do_not_limit_a_run(options: BackupOptions) -> None:
    assert not options.limited


def test_only_meta_counts_more_than_full() -> None:
    assert BackupOptions().strategy == "incremental"
    assert BackupOptions(full=True).strategy == "full"
    assert BackupOptions(full=True, only_meta=True).strategy == "only-meta"
