"""Debian's Chromium without a window, driven over the DevTools protocol.

    with Browser(width=1400, height=800) as browser:
        browser.open("http://127.0.0.1:3000/overview")
        browser.click("Materialize")
        browser.wait_for("Launch")
        png = browser.picture()

Elements are found by what a person reads on them; there is no other way in the UI that outlives
one version of Dagster.
"""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import requests
from websockets.sync.client import ClientConnection, connect

PROGRAM = "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)
POLL_S = 0.1
WITHIN_S = 120.0


class PageFailed(AssertionError):
    """The page does not show what it should."""


class Browser:
    """One tab.

    Args:
        width, height: of the page in CSS pixels.
    """

    def __init__(self, *, width: int, height: int) -> None:
        self._size = (width, height)
        self._profile = tempfile.TemporaryDirectory(
            prefix="shardkeeper-chromium-", ignore_cleanup_errors=True
        )  # Chromium still writes there while it ends
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: ClientConnection | None = None
        self._number = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._profile.cleanup()

    def _start(self) -> None:
        profile = Path(self._profile.name)
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        endpoint = profile / "DevToolsActivePort"
        self._until("Chromium to start", lambda: endpoint.exists() and "\n" in endpoint.read_text())
        port = int(endpoint.read_text().splitlines()[0])
        tabs = requests.get(f"http://127.0.0.1:{port}/json", timeout=60).json()
        tab = next(tab for tab in tabs if tab["type"] == "page")
        self._socket = connect(
            tab["webSocketDebuggerUrl"], max_size=None, ping_interval=None, proxy=None
        )
        self._call("Page.enable")
        self.resize(*self._size)

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        assert self._socket is not None
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            reply = json.loads(self._socket.recv(timeout=WITHIN_S))
            if reply.get("id") == self._number:
                if "error" in reply:
                    raise PageFailed(f"{method}: {reply['error']['message']}")
                return reply["result"]

    def _until(self, what: str, there: Any) -> Any:
        deadline = time.monotonic() + WITHIN_S
        while not (found := there()):
            if time.monotonic() > deadline:
                raise PageFailed(f"waited {WITHIN_S:g} s for {what}:\n{self.text()}")
            time.sleep(POLL_S)
        return found

    def resize(self, width: int, height: int) -> None:
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise PageFailed(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def text(self) -> str:
        """What the page reads."""
        return self.run("document.body ? document.body.innerText : ''") or ""

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def wait_for(self, *texts: str) -> None:
        """Until the page shows all of these."""

        def shown() -> bool:
            text = self.text()
            return all(part in text for part in texts)

        self._until(f"{texts}", shown)

    def quiet(self, seconds: float = 1.0) -> None:
        """Until nothing turns or moves any more for a while."""
        since, last = time.monotonic(), ""
        deadline = since + WITHIN_S
        while time.monotonic() - since < seconds:
            now = str(self.run(BUSY))
            if now != last or now.startswith("busy"):
                since, last = time.monotonic(), now
            if time.monotonic() > deadline:
                raise PageFailed(f"the page does not come to rest, {now}:\n{self.text()}")
            time.sleep(POLL_S)

    def click(self, text: str, *, kind: str = "*", number: int = 0) -> None:
        """Press on what reads so; `kind` is a CSS selector."""
        at = self._until(
            f"something to press on that reads {text!r}",
            lambda: self.run(f"({WHERE})({json.dumps(text)}, {json.dumps(kind)}, {number})"),
        )
        self.press(at[0], at[1])

    def press(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=x,
                y=y,
                button="none" if kind == "mouseMoved" else "left",
                clickCount=0 if kind == "mouseMoved" else 1,
            )

    def written(self) -> str:
        """What stands in the page's editor."""
        return self.run(f"{EDITOR}.getValue()")

    def write(self, text: str) -> None:
        """Replace what stands in the page's editor."""
        self.run(f"{EDITOR}.setValue({json.dumps(text)})")

    def picture(self, clip: tuple[int, int, int, int] | None = None) -> bytes:
        """A PNG of the page, or of (left, top, width, height) of it."""
        parameters: dict[str, Any] = {"format": "png"}
        if clip is not None:
            left, top, width, height = clip
            parameters["clip"] = {"x": left, "y": top, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self._call("Page.captureScreenshot", **parameters)["data"])


# Search fields are editors too, of one line.
EDITOR = """[...document.querySelectorAll('.CodeMirror')]
    .sort((one, other) => other.clientHeight - one.clientHeight)[0].CodeMirror"""
WHERE = """(text, kind, number) => {
    const found = [...document.querySelectorAll(kind)].filter((element) => {
        const box = element.getBoundingClientRect();
        const [line] = (element.innerText || '').trim().split('\\n');
        return box.width > 0 && box.height > 0 && line === text;
    });
    const inner = found.filter((one) => !found.some((o) => o !== one && one.contains(o)));
    const element = inner[number];
    if (!element) return null;
    element.scrollIntoViewIfNeeded();
    const box = element.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
}"""
BUSY = """(() => {
    const marked = document.querySelectorAll('[class*="spinner" i], [aria-busy="true"]');
    const turning = [...marked].filter(
        (element) => element.checkVisibility() && element.getBoundingClientRect().width > 0);
    const text = document.body ? document.body.innerText : '';
    const busy = turning.length > 0 || /Loading/.test(text);
    const what = turning.map((element) => element.outerHTML.slice(0, 200)).join();
    return (busy ? 'busy ' + what : 'quiet ') + text.length;
})()"""
