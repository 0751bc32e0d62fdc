"""What a run is told by the configuration of its cluster."""

from __future__ import annotations

import pytest

from assets.run_config import CopyConfig
from resources.config.reading import parse_configuration


@pytest.mark.parametrize(
    ("message", "damaged", "require_complete"),
    [
        ("", "keep", False),
        (", damaged: refuse", "refuse", False),
        (", require_complete: true", "keep", True),
    ],
)
def test_a_backup_is_as_strict_as_its_cluster_is_configured(
    message: str, damaged: str, require_complete: bool
) -> None:
    text = (
        f"clusters: {{eu: {{host: h, repository: r{message}}}}}\nrepositories: {{r: {{path: b}}}}\n"
    )
    settings = parse_configuration(text.encode(), "shardkeeper.yaml").clusters["eu"]
    options = CopyConfig().options(settings, 0.0, remembered="")
    assert (options.damaged, options.require_complete) == (damaged, require_complete)
