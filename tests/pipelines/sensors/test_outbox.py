"""A message is kept until each webhook that wants it has taken it, or a day has passed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from pipelines.sensors.outbox import KEPT_FOR_S, MAX_KEPT, MAX_TEXT, Outbox
from resources.config.values import Configuration

NOW = 1_795_341_060.0


def configured(*wanted: Sequence[str]) -> Configuration:
    """A webhook for each of these, whose address is not set, so that none takes a message."""
    clusters = {name: {"bind": "m:8091"} for name in ("eu", "us")}
    hooks = [{"url": {"env": "NO_SUCH_HOOK"}, "clusters": list(names)} for names in wanted]
    return Configuration.model_validate({"clusters": clusters, "notify": hooks})


ALL, EU, US = (), ("eu",), ("us",)
THREE = configured(ALL, EU, US)


@pytest.fixture(autouse=True)
def no_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_HOOK", raising=False)


def put(outbox: Outbox, clusters: Sequence[str], text: str = "text", now_s: float = NOW) -> Outbox:
    return outbox.put(THREE, clusters, text, {"job": "j"}, now_s)


@pytest.mark.parametrize(
    ("clusters", "hooks"), [(EU, (0, 1)), (US, (0, 2)), (EU + US, (0, 1, 2)), ((), (0, 1, 2))]
)
def test_a_message_goes_to_those_who_want_to_hear_of_its_clusters(
    clusters: Sequence[str], hooks: tuple[int, ...]
) -> None:
    [message] = put(Outbox(), clusters).messages
    assert message.left == hooks
    assert message.cluster == ", ".join(clusters)


def test_what_concerns_none_of_them_is_not_kept() -> None:
    only_us = configured(US)
    assert Outbox().put(only_us, EU, "text", {}, NOW) == Outbox()
    assert Outbox().put(configured(), EU, "text", {}, NOW) == Outbox()


def test_an_outbox_comes_back_from_a_cursor_as_it_was_kept() -> None:
    outbox = put(put(Outbox(), EU), (), "second")
    kept: list[dict[str, Any]] = json.loads(json.dumps(outbox.kept))
    assert Outbox.of(kept) == outbox


def test_of_too_many_messages_the_oldest_go() -> None:
    outbox = Outbox()
    for n in range(MAX_KEPT + 3):
        outbox = put(outbox, EU, str(n))
    assert len(outbox.messages) == MAX_KEPT
    assert outbox.messages[0].text == "3"
    assert outbox.messages[-1].text == str(MAX_KEPT + 2)


def test_a_long_text_is_cut_and_says_so() -> None:
    [whole] = put(Outbox(), EU, "x" * MAX_TEXT).messages
    assert whole.text == "x" * MAX_TEXT
    [cut] = put(Outbox(), EU, "x" * (MAX_TEXT + 1)).messages
    assert cut.text == "x" * MAX_TEXT + "…"


def test_a_message_that_no_webhook_took_is_kept_for_a_day() -> None:
    outbox = put(Outbox(), EU)
    assert outbox.send(THREE, NOW + KEPT_FOR_S - 1).messages == outbox.messages
    assert outbox.send(THREE, NOW + KEPT_FOR_S).messages == ()


def test_a_webhook_that_fails_is_asked_once_for_all_messages() -> None:
    sent = put(put(Outbox(), EU), EU, "second").send(THREE, NOW)
    assert len(sent.messages) == 2
    assert ["NO_SUCH_HOOK is not set" in error.what for error in sent.errors] == [True, True]


def test_a_webhook_that_is_configured_no_more_is_not_waited_for() -> None:
    outbox = put(Outbox(), US)
    assert [message.left for message in outbox.send(configured(ALL), NOW).messages] == [(0,)]
    assert outbox.send(configured(), NOW).messages == ()
