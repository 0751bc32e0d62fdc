"""When equal names of a replica's files mean equal files."""

from __future__ import annotations

import pytest

from resources.engine.backup.replica_files import ALL, FIRST, is_proof


@pytest.mark.parametrize(
    ("files", "at_rest", "proof"),
    [
        (ALL + "abc", False, True),
        (ALL + "abc", True, True),
        (FIRST + "abc", True, True),
        (FIRST + "abc", False, False),  # there may be more files behind the first
        ("", True, False),
        ("", False, False),
        ("another version", True, False),
    ],
)
def test_all_bytes_prove_it_and_the_first_file_only_of_a_shard_at_rest(
    files: str, at_rest: bool, proof: bool
) -> None:
    assert is_proof(files, at_rest=at_rest) is proof
