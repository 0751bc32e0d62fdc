"""`make screenshots`: the pictures of docs/ui.md, taken anew.

    python -m tests.screenshots.take [--directory DIRECTORY]

Needs Debian's chromium and pngquant. A cluster, an empty one and Dagster run meanwhile below
`--directory`, whose path is read in the pictures; it must not exist before and does not afterwards.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.screenshots.browser import Browser, PageFailed
from tests.screenshots.story import BACKUP, Story

PICTURES = Path(__file__).parents[2] / "docs" / "ui"
DIRECTORY = Path("/srv/shardkeeper")
MAX_BYTES = 150_000
PROGRAMS = ("chromium", "pngquant")
SHARD = "house/autogen/6"
"""The shard that the readings of this week go into."""
RESTORE = {"db": "house", "newdb": "house_before", "as_of": "latest", "dry_run": True}
MERGE = {"db": "machines", "dry_run": False}
TROUBLE = ("An unexpected", "GraphQL error", "PythonError", "Could not", "No results")


class Camera:
    """A browser that writes what it shows into docs/ui."""

    def __init__(self, browser: Browser, story: Story) -> None:
        self.browser = browser
        self.story = story

    def open(self, path: str, *texts: str, width: int = 1200, height: int = 800) -> None:
        """Open a page of the UI, and wait until it shows these texts."""
        self.browser.resize(width, height)
        self.browser.open(self.story.url + path)
        self.browser.wait_for(*texts)
        self.browser.quiet()

    def take(self, name: str, clip: tuple[int, int, int, int] | None = None) -> None:
        """Write a picture.

        Raises:
            PageFailed: the page tells of trouble, or the picture is too large for a document.
        """
        self.browser.quiet()
        text = self.browser.text()
        events = [words for words in TROUBLE if words in text]
        if events:
            raise PageFailed(f"{name}: the page tells of trouble, {events}:\n{text}")
        path = PICTURES / f"{name}.png"
        path.write_bytes(_small(self.browser.picture(clip)))
        if path.stat().st_size > MAX_BYTES:
            raise PageFailed(f"{path.name} has {path.stat().st_size} bytes")
        sys.stdout.write(f"{path.name}: {path.stat().st_size} bytes\n")
        sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots.take")
    parser.add_argument("--directory", type=Path, default=DIRECTORY, help=f"({DIRECTORY})")
    directory: Path = parser.parse_args().directory
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing or directory.exists():
        sys.stderr.write(
            f"not installed: {', '.join(missing)} (apt-get install {' '.join(missing)})\n"
            if missing
            else f"{directory} exists: --directory names another one\n"
        )
        return 2
    PICTURES.mkdir(exist_ok=True)
    try:
        with Story(directory) as story, Browser(width=1200, height=800) as browser:
            _emit(Camera(browser, story))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def _emit(camera: Camera) -> None:
    story = camera.story
    story.first_backup()
    camera.open("/automation", "watch_dev", "adopt_dev")
    camera.browser.click("Hide navigation")
    story.changes()
    _what_changed(camera)
    story.back_up()
    _backed_up(camera)
    story.new_database()
    _missing(camera)
    story.back_up()
    _restored(camera)
    story.lose_a_database()
    _merged(camera)
    story.poll(on=True)
    camera.open("/automation", "watch_dev", "adopt_dev", height=800)
    camera.take("automation")


def _what_changed(camera: Camera) -> None:
    browser = camera.browser
    camera.open("/asset-groups/dev/lineage", "backup_set", width=1000, height=1500)
    browser.press(*_GEAR)
    browser.click("Change graph to vertical orientation")
    seen = ("Unsynced", "Passed", "100% filled", "Observed", "Never observed")
    camera.open("/asset-groups/dev/lineage", *seen, width=1000, height=1500)
    camera.take("graph", (380, 115, 560, 1310))
    page = f"/assets/{BACKUP}?view=checks&checkDetail=every_shard_current"
    camera.open(page, "changed since its archive", width=1740, height=820)
    camera.take("check")


_GEAR = (973.0, 1392.0)
"""Below the graph's zoom, in a window of 1000 by 1500; it has no name."""


def _backed_up(camera: Camera) -> None:
    browser = camera.browser
    shown = ("Passing", "shards_copied", "by_policy")
    camera.open("/assets/dev/backup_set", *shown, width=1450, height=985)
    camera.take("restore-point")
    page = f"/assets/{BACKUP}?view=partitions&partition={quote(SHARD, safe='')}"
    camera.open(page, "sha256", "Show tags", height=1440)
    browser.click("Show tags (5)")
    browser.wait_for("input_data_version")
    camera.take("shard")
    browser.resize(1200, 700)
    browser.click("View all historical events (2)")
    browser.wait_for("Historical events for")
    camera.take("history", (140, 125, 920, 325))


def _missing(camera: Camera) -> None:
    camera.open(f"/assets/{BACKUP}", "Materialize…", height=720)
    camera.browser.click("Materialize…", kind="button")
    camera.browser.wait_for("Launch runs to materialize")
    camera.browser.click("Missing", kind="button")
    camera.browser.wait_for("orders/quarter")
    camera.take("backfill", (240, 50, 720, 560))


def _restored(camera: Camera) -> None:
    _prepare(camera, "restore_dev", {"db": "house", "newdb": "house_before"})
    camera.take("restore")
    planned = {"ops": {"dev__restored_meta": {"config": RESTORE}}}
    camera.story.run("restore_dev", planned)
    camera.open(
        "/assets/dev/restored_meta?view=events", "house_before", "plan", width=1600, height=900
    )
    camera.take("plan")
    done = {"ops": {"dev__restored_meta": {"config": {**RESTORE, "dry_run": False}}}}
    camera.story.run("restore_dev", done)
    camera.open("/assets/dev/restored_meta?view=events", "shards_restored", width=1720, height=940)
    camera.take("restored")


def _merged(camera: Camera) -> None:
    camera.story.run("merge_dev", {"ops": {"dev_merge_backup": {"config": MERGE}}})
    camera.open("/assets/dev/restored_meta?view=events", "values_added", height=800)
    camera.take("merged", (0, 0, 1200, 710))


def _prepare(camera: Camera, job: str, settings: Mapping[str, str]) -> None:
    """Open a job's launchpad, and fill in settings that are proposed as empty."""
    browser = camera.browser
    camera.open(
        f"/locations/shardkeeper/jobs/{job}/playground", "Launch Run", "No errors", height=1100
    )
    text = browser.written()
    for name, value in settings.items():
        text = text.replace(f"\n      {name}: ''\n", f"\n      {name}: {value}\n")
    browser.write(text)
    browser.wait_for(*settings.values(), "No missing config", "No errors")


def _small(png: bytes) -> bytes:
    """The same picture with 256 colours."""
    return subprocess.run(
        ["pngquant", "--quality", "60-95", "--strip", "-"],
        input=png,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
