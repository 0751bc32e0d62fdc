"""What held when a shard was found unchanged comes back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BadReply
from resources.protocol.strict_json import convert_json
from resources.repository.formats.proof import Clocks, Proof, ProofShape, ShardFigures
from tests import builders as b

COUNTS = st.integers(0, 2**64 - 1)
PROOFS = st.builds(
    Proof,
    st.builds(Clocks, COUNTS, COUNTS, COUNTS, st.text(max_size=9)),
    st.builds(ShardFigures, *[COUNTS] * 7),
)


def decoded(document: object) -> Proof:
    return Proof.decode(convert_json(document, ProofShape, "T.manifest"), "T.manifest")


@settings(max_examples=20)
@given(PROOFS)
def test_a_proof_comes_back_as_it_was_written(proof: Proof) -> None:
    written = json.loads(json.dumps(proof.encode()))
    assert decoded(written) == proof


def test_the_figures_keep_their_order_in_every_version() -> None:
    """Manifests have them as a list, so another order would make every shard look changed."""
    assert Proof(Clocks(1, 2, 3, "b"), ShardFigures(4, 5, 6, 7, 8, 9, 10)).encode() == {
        "bootID": "b",
        "clocks": [1, 2, 3],
        "figures": [4, 5, 6, 7, 8, 9, 10],
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"clocks": [1, 2]}, "clocks: expected list of length 3"),
        ({"clocks": [1, 2, 3, 4]}, "clocks: expected list of length 3"),
        ({"figures": [1] * 6}, "figures: expected list of length 7"),
        ({"figures": [1] * 8}, "figures: expected list of length 7"),
        ({"figures": [1] * 6 + [-1]}, r"figures\[6\]: expected whole number >= 0"),
        ({"figures": [1] * 6 + [2**64]}, "a number is greater than"),
        ({"bootID": None}, "bootID: expected text, found null"),
    ],
)
def test_another_number_of_figures_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint):
        decoded({**b.proof().encode(), **changed})
