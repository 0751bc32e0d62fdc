"""What nodes said of their replicas comes back as it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.errors import BadReply
from resources.protocol.strict_json import convert_json
from resources.repository.formats.owner_facts import OwnerFacts, OwnerShape

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


def decoded(document: object) -> OwnerFacts:
    return OwnerFacts.decode(convert_json(document, OwnerShape, "T.manifest"), "T.manifest")


@settings(max_examples=20)
@given(OWNERS)
def test_facts_come_back_as_they_were_written(owner: OwnerFacts) -> None:
    assert decoded(json.loads(json.dumps(owner.encode()))) == owner


def test_what_is_not_known_takes_no_room() -> None:
    assert OwnerFacts("a", 1, 2, at_rest=True, seen_ns=3).encode() == {
        "node": "a",
        "facts": [1, 2, 1, 3],
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"facts": [1, 2, 3]}, "facts: expected list of length 4"),
        ({"facts": [1, 2, 3, 4, 5]}, "facts: expected list of length 4"),
        ({"facts": [1, 2, 1, -3]}, r"facts\[3\]: expected whole number >= 0"),
        ({"holds": "everything"}, "holds: Invalid enum value 'everything'"),
        ({"holds": "x\n" * 40}, "holds: Invalid enum value"),
        ({"node": None}, "node: expected text, found null"),
    ],
)
def test_other_facts_are_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadReply, match=complaint) as refused:
        decoded({**WRITTEN, **changed})
    assert "\n" not in refused.value.what
