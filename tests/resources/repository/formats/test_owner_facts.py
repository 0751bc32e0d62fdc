"""What nodes said of their replicas comes back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import ManifestUnreadable
from resources.repository.formats.fields import Fields
from resources.repository.formats.owner_facts import OwnerFacts

COUNTS = st.integers(0, 2**64 - 1)
OWNERS = st.builds(
    OwnerFacts,
    st.text(max_size=9),
    COUNTS,
    COUNTS,
    st.booleans(),
    COUNTS,
    st.text(max_size=9),
    st.sampled_from(["", "same", "less", "other", "unread"]),
)
WRITTEN = {"node": "a:8088", "facts": [1, 2, 1, 3], "holds": "same"}


@settings(max_examples=20)
@given(OWNERS)
def test_facts_come_back_as_they_were_written(owner: OwnerFacts) -> None:
    assert OwnerFacts.decode(Fields(json.loads(json.dumps(owner.encode())), "x")) == owner


def test_what_is_not_known_takes_no_room() -> None:
    assert OwnerFacts("a", 1, 2, at_rest=True, seen_ns=3).encode() == {
        "node": "a",
        "facts": [1, 2, 1, 3],
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"facts": [1, 2, 3]}, "too few facts, or too many"),
        ({"facts": [1, 2, 3, 4, 5]}, "too few facts, or too many"),
        ({"facts": [1, 2, 1, -3]}, "non-negative"),
        ({"holds": "everything"}, "holds is 'everything'"),
        ({"holds": "x\n" * 40}, "holds is"),
        ({"node": None}, "node is missing"),
    ],
)
def test_other_facts_are_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ManifestUnreadable, match=complaint) as refused:
        OwnerFacts.decode(Fields({**WRITTEN, **changed}, "T.manifest"))
    assert "\n" not in refused.value.what
