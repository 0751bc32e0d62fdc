"""The doctor's answers come as they are found, and an error of ours is an answer."""

from __future__ import annotations

import pytest

from resources.engine.doctor.finding import Finding, Findings, passed
from resources.errors import PeerUnreachable


def test_a_line_has_status_question_answer_and_next_step() -> None:
    assert str(Finding("HTTP", "ok", "answers")) == "ok      HTTP: answers"
    finding = Finding("HTTP", "warning", "is silent", "give -http")
    assert str(finding) == "warning HTTP: is silent; next: give -http"


def test_findings_are_told_as_they_come_and_kept() -> None:
    heard: list[Finding] = []
    found = Findings(heard.append)
    found.ok("a", "yes")
    assert [one.question for one in heard] == ["a"]
    found.warning("b", "hm", "look")
    found.failed("c", "no", "mend")
    assert heard == found.all
    assert [one.status for one in found.all] == ["ok", "warning", "failed"]


def test_only_a_failure_stands_in_the_way_of_a_backup() -> None:
    assert passed([])
    assert passed([Finding("a", "ok", ""), Finding("b", "warning", "")])
    assert not passed([Finding("a", "ok", ""), Finding("b", "failed", "")])


def test_an_error_of_ours_is_the_answer_and_the_next_question_is_asked() -> None:
    found = Findings()
    with found.asking("port"):
        raise PeerUnreachable("h:8088 is closed", hint="open it")
    with found.asking("HTTP", status="warning"):
        raise PeerUnreachable("h:8086 is closed")
    assert found.all == [
        Finding("port", "failed", "h:8088 is closed", "open it"),
        Finding("HTTP", "warning", "h:8086 is closed"),
    ]


def test_a_bug_is_no_answer() -> None:
    found = Findings()
    with pytest.raises(ZeroDivisionError), found.asking("x"):
        _ = 1 / 0
    assert found.all == []


def test_what_goes_well_says_nothing_by_itself() -> None:
    found = Findings()
    with found.asking("x"):
        pass
    assert found.all == []
