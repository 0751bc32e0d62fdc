"""A run's settings are kept and shown, so none of them is a secret in plain."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.launch_checks import require_no_plain_secrets
from resources.errors import UsageError

CANARY = "c4n4ry-secret"


def launched(**target: Any) -> dict[str, Any]:
    return {"resources": {"target": {"config": target}}, "ops": {}}


@pytest.mark.parametrize("field", ["password", "secret"])
def test_a_secret_in_plain_is_refused_without_being_repeated(field: str) -> None:
    with pytest.raises(UsageError, match=f"{field} is written in plain") as refused:
        require_no_plain_secrets(launched(**{field: CANARY}))
    assert CANARY not in refused.value.what + refused.value.hint
    assert f"{field}_file: PATH" in refused.value.hint


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"resources": {}},
        {"resources": {"target": {}}},
        launched(),
        launched(password=""),
        launched(password={"env": "NAME"}),
        launched(password_file="/run/secrets/p", user="ann"),
    ],
)
def test_a_secret_that_is_kept_elsewhere_is_taken(config: dict[str, Any]) -> None:
    require_no_plain_secrets(config)
