"""What held when a shard was found unchanged comes back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import ManifestUnreadable
from resources.repository.formats.fields import Fields
from resources.repository.formats.proof import Clocks, Proof, ShardFigures
from tests import builders as b

COUNTS = st.integers(0, 2**64 - 1)
PROOFS = st.builds(
    Proof,
    st.builds(Clocks, COUNTS, COUNTS, COUNTS, st.text(max_size=9)),
    st.builds(ShardFigures, *[COUNTS] * 7),
)


@settings(max_examples=20)
@given(PROOFS)
def test_a_proof_comes_back_as_it_was_written(proof: Proof) -> None:
    written = json.loads(json.dumps(proof.encode()))
    assert Proof.decode(Fields(written, "x")) == proof
    assert Clocks.decode(Fields(written, "x")) == proof.clocks


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
        ({"clocks": [1, 2]}, "too few figures, or too many"),
        ({"clocks": [1, 2, 3, 4]}, "too few figures, or too many"),
        ({"figures": [1] * 6}, "too few figures, or too many"),
        ({"figures": [1] * 8}, "too few figures, or too many"),
        ({"figures": [1] * 6 + [-1]}, "non-negative"),
        ({"bootID": None}, "bootID is missing"),
    ],
)
def test_another_number_of_figures_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ManifestUnreadable, match=complaint):
        Proof.decode(Fields({**b.proof().encode(), **changed}, "T.manifest"))


def test_two_clocks_are_not_three() -> None:
    with pytest.raises(ManifestUnreadable, match="clocks are not three"):
        Clocks.decode(Fields({"clocks": [1, 2]}, "T.manifest"))
