"""What is said to webhooks: Slack reads angle brackets as mentions of all members."""

from __future__ import annotations

import pytest

from resources.clients.webhook import MAX_TEXT, escaped, post
from tests.pipelines.hooks import listening

HOSTILE = "<!channel> a&b <https://x|house> </etc>"


@pytest.mark.parametrize("style", ["slack", "json"])
def test_names_from_a_cluster_are_text_for_slack_and_untouched_for_machines(style: str) -> None:
    with listening() as hook:
        post(hook.url, HOSTILE, {"job": "<b>"}, style=style)  # type: ignore[arg-type]
    [reply] = hook.received
    if style == "slack":
        assert reply == {"text": "&lt;!channel&gt; a&amp;b &lt;https://x|house&gt; &lt;/etc&gt;"}
    else:
        assert reply == {"text": HOSTILE, "job": "<b>"}


def test_no_character_is_cut_in_two() -> None:
    with listening() as hook:
        post(hook.url, "&" * (MAX_TEXT + 5), {}, style="slack")
    [reply] = hook.received
    assert reply["text"] == "&amp;" * MAX_TEXT + "…"
    assert escaped("&lt;") == "&amp;lt;"
