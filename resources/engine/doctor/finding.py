"""The findings of the doctor: one line a question, with the next step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal

from msgspec import Struct, field

from resources.errors import ShardkeeperError

Status = Literal["ok", "warning", "failed"]
"""A warning has a cost, such as copies of all shards; after a failure no backup is possible."""


class Finding(Struct, frozen=True):
    """The answer to one question."""

    question: str
    status: Status
    answer: str
    next_step: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<8}{self.question}: {self.answer}"
        return line + (f"; next: {self.next_step}" if self.next_step else "")


class Findings(Struct):
    """Emits findings as they come, because a silent server takes its time."""

    emit: Callable[[Finding], None] = field(default=lambda _: None)
    all: list[Finding] = field(default_factory=list[Finding])

    def ok(self, question: str, answer: str) -> None:
        self.add(Finding(question, "ok", answer))

    def warning(self, question: str, answer: str, next_step: str = "") -> None:
        self.add(Finding(question, "warning", answer, next_step))

    def failed(self, question: str, answer: str, next_step: str = "") -> None:
        self.add(Finding(question, "failed", answer, next_step))

    def asking(self, question: str, *, status: Status = "failed") -> Asking:
        """A context manager that turns errors of its block into findings."""
        return Asking(self, question, status)

    def add(self, finding: Finding) -> None:
        self.all.append(finding)
        self.emit(finding)


class Asking(Struct, frozen=True):
    """See `Findings.asking`."""

    found: Findings
    question: str
    status: Status

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, ShardkeeperError):
            return False
        self.found.add(Finding(self.question, self.status, str(error), error.hint))
        return True


def passed(findings: Iterable[Finding]) -> bool:
    """Whether a backup is possible."""
    return all(one.status != "failed" for one in findings)
