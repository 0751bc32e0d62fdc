"""Every command in the README and in the pages of docs is run, in order, as a reader types it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from resources.embedded.cluster import EmbeddedCluster
from tests.influxd import Influxd

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = (
    "README.md",
    "docs/backup.md",
    "docs/list.md",
    "docs/export.md",
    "docs/verify.md",
    "docs/restore.md",
    "docs/merge.md",
)
"""The pages with sessions, in the order in which a reader works through them."""
SCRIPTS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
META = "meta-1:8091"


def documents() -> list[Path]:
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def sessions(page: Path) -> list[str]:
    """What a page shows as typed and printed; output that is not run is a block of `text`."""
    return re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def shape(line: str) -> str:
    """A line of output with its numbers, times and durations replaced, and one thing as several."""
    return re.sub(
        r"127\.0\.0\.1:\d+|localhost:8088|[\d.]+(ms|µs|s)\b|\d{8}T\d{6}Z|merge_[0-9a-f]+|\d+",
        "#",
        re.sub(r"\b1 ([a-z]+)\b(?<!s)", r"1 \1s", line),
    )


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


@pytest.mark.wire
def test_the_sessions_in_the_documents_work(
    influxd_factory: Callable[..., Influxd], tmp_path: Path, stack: ExitStack
) -> None:
    server = influxd_factory()
    cluster = stack.enter_context(EmbeddedCluster(tmp_path / "cluster"))
    cluster.query("CREATE DATABASE telegraf")
    cluster.write("telegraf", "cpu,host=a usage=1 1600000000000000000")
    server.create_database("telegraf")
    server.write(
        "telegraf", [f"cpu,host=h{i} usage={i}.5 {1_600_000_000 + i}" for i in range(9)], "s"
    )
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    place = f"{server.bind_addr} -http {server.http_addr}"
    meta = cluster.meta[0].http_addr
    commands = 0
    for page in PAGES:
        for chunk in re.split(r"^\$ ", "".join(sessions(ROOT / page)), flags=re.MULTILINE)[1:]:
            command, *expected = chunk.rstrip().splitlines()
            done = subprocess.run(
                ["bash", "-c", command.replace("localhost:8088", place).replace(META, meta)],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"{page}: {command}\n{done.stdout}{done.stderr}"
            printed = {shape(line) for line in done.stdout.splitlines()}
            for line in expected:
                assert shape(line) in printed, (
                    f"{page}: {command} did not print {line!r}:\n{done.stdout}"
                )
            commands += 1
    assert commands >= 19
    assert {"telegraf_before", "rp_only", "from_full"} <= {
        row[0] for row in server.rows("SHOW DATABASES")
    }


def test_every_page_with_a_session_is_run() -> None:
    assert {str(page.relative_to(ROOT)) for page in documents() if sessions(page)} == set(PAGES)


def test_the_demo_ends_with_its_proof() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "resources.embedded.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\nequal\n" in done.stdout


def test_the_make_targets_in_the_documents_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"\bmake ([a-z]+)", "\n".join(SCRIPTS)))
    for page in documents():
        named |= set(re.findall(r"`make ([a-z]+)", page.read_text()))
    assert {"install", "demo", "test", "dev", "check"} <= named
    missing = {name for name in named if not re.search(rf"^{name}:", makefile, re.MULTILINE)}
    assert not missing


LINK = re.compile(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)")


def anchors(page: Path) -> set[str]:
    """Where links into a page may lead: its headings, as the forges write them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def test_the_links_in_the_documents_lead_somewhere() -> None:
    broken: list[str] = []
    for document in documents():
        for target, anchor in LINK.findall(document.read_text()):
            page = (document.parent / target) if target else document
            if not page.exists() or (anchor and anchor not in anchors(page)):
                broken.append(f"{document.name}: {target}#{anchor}")
    assert not broken


def test_the_pictures_in_the_documents_are_there_shown_and_small() -> None:
    shown = set(re.findall(r"ui/([a-z-]+\.png)", (ROOT / "docs" / "ui.md").read_text()))
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "ui").iterdir()}
    assert shown == set(pictures)
    assert {name: size for name, size in pictures.items() if size > 150_000} == {}
    taken = (ROOT / "tests" / "screenshots" / "take.py").read_text()
    assert {f"{name}.png" for name in re.findall(r'take\("([a-z-]+)"', taken)} == shown
