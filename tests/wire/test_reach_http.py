"""Port 8086 as it stands: proxies before it, https, and certificates of one's own authority.

Of each, the backup goes on as well as it can, and the doctor says in one line what is in the way.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.influxd import Influxd
from tests.wire.commands import doctor, shardkeeper

pytestmark = pytest.mark.wire

LINES = [f"m,k=a v={i} {1_600_000_000 + i}" for i in range(10)]

Reply = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


@pytest.fixture
def server(influxd_factory: Callable[..., Influxd]) -> Influxd:
    made = influxd_factory()
    made.create_database("precious")
    made.write("precious", LINES, "s")
    made.flush("precious")
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "backups"
    path.mkdir(mode=0o700)
    return path


def archives(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.tar.gz"))


INSTEAD: dict[str, Reply] = {
    "redirect": (301, {"Location": "https://elsewhere.invalid/"}, b""),
    "login": (200, {"Content-Type": "text/html"}, b"<html>please log in</html>"),
    "401": (401, {"Content-Type": "text/html"}, b"<html>401</html>"),
    "502": (502, {"Content-Type": "text/html"}, b"<html>bad gateway</html>"),
    "empty": (200, {}, b""),
    "teapot": (418, {}, b"\x00\xff"),
}
"""What a proxy answers to every request."""


@contextmanager
def proxy(upstream: str, how: str) -> Iterator[str]:
    """A reverse proxy before 8086, as people have them."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass(None)

        def do_POST(self) -> None:
            self._pass(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _pass(self, body: bytes | None) -> None:
            path = self.path.partition("?")[0]
            instead = INSTEAD.get(how)
            if how == "only-query" and path not in ("/query", "/write"):
                instead = (404, {"Content-Type": "text/html"}, b"<html>404</html>")
            if how == "no-vars" and path == "/debug/vars":
                instead = (403, {}, b"forbidden")
            self._say(*(instead or self._ask(body)))

        def _ask(self, body: bytes | None) -> Reply:
            path = self.path.removeprefix("/influx") if how == "prefix" else self.path
            asked = urllib.request.Request(f"http://{upstream}{path}", body, method=self.command)
            for name in ("Content-Type", "Authorization"):
                if name in self.headers:
                    asked.add_header(name, self.headers[name])
            answer: HTTPResponse | urllib.error.HTTPError
            try:
                answer = urllib.request.urlopen(asked)
            except urllib.error.HTTPError as error:
                answer = error
            hidden = {"content-length", "transfer-encoding", "connection"}
            head = {
                name: value
                for name, value in answer.headers.items()
                if name.lower() not in hidden and not (how == "no-version" and "nflux" in name)
            }
            return int(answer.status or 0), head, answer.read()

        def _say(self, status: int, head: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in head.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()


@pytest.mark.parametrize(
    "how", ["only-query", "redirect", "login", "401", "502", "empty", "teapot", "no-vars"]
)
def test_behind_a_proxy_that_hides_the_figures_everything_is_copied(
    server: Influxd, directory: Path, how: str
) -> None:
    with proxy(server.http_addr, how) as url:
        flags = ("-host", server.bind_addr, "-http", url)
        for _ in range(2):
            done = shardkeeper(*flags, "backup", directory)
            assert done.code == 0, done
            assert "every shard is copied" in done.err
        diagnosed, output = doctor(*flags)
    assert len(archives(directory)) == 2
    assert diagnosed.code == 0
    warned = [finding for finding in output.values() if finding["status"] == "warning"]
    assert any("every backup copies everything" in finding["answer"] for finding in warned)
    assert all(finding["next_step"] for finding in warned), warned
    if how == "redirect":
        assert any("https://elsewhere.invalid" in finding["answer"] for finding in warned)


@pytest.mark.parametrize("how", ["no-version", "prefix"])
def test_behind_a_proxy_that_lets_enough_through_only_changes_are_copied(
    server: Influxd, directory: Path, how: str
) -> None:
    with proxy(server.http_addr, how) as url:
        flags = ("-host", server.bind_addr, "-http", url + ("/influx" if how == "prefix" else ""))
        for _ in range(2):
            done = shardkeeper(*flags, "backup", directory)
            assert done.code == 0, done
            assert "every shard is copied" not in done.err
        diagnosed, output = doctor(*flags)
    assert len(archives(directory)) == 1
    assert diagnosed.code == 0
    assert server.version in output["HTTP"]["answer"]


def test_https_is_found_out_and_a_private_authority_is_trusted(
    influxd_factory: Callable[..., Influxd],
    directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "ca").mkdir()
    authority = Authority.make(tmp_path / "ca")
    both = str(authority.sign("influx"))
    tls = {"https-enabled": True, "https-certificate": both, "https-private-key": both}
    server = influxd_factory(config={"http": tls})
    server.create_database("precious")
    server.write("precious", LINES, "s")
    server.flush("precious")
    flags = ("-host", server.bind_addr, "-http", server.http_addr)
    untrusted = shardkeeper(*flags, "backup", directory)
    assert untrusted.code == 0
    assert "-ca" in untrusted.err
    _, output = doctor(*flags)
    assert "-ca" in output["HTTP"]["next_step"]
    trusted = shardkeeper(*flags, "-ca", authority.ca_file, "backup", directory)
    assert trusted.code == 0
    assert "every shard is copied" not in trusted.err
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    assert "every shard is copied" not in shardkeeper(*flags, "backup", directory).err
    assert shardkeeper("-bind", server.http_addr, "show").code != 0  # its 8088 is elsewhere
    _, output = doctor(*flags)
    assert "over https" in output["HTTP"]["answer"]
    wrong = ("-host", server.bind_addr, "-http", f"http://{server.http_addr}")
    plainly = shardkeeper(*wrong, "backup", directory)
    assert plainly.code == 0
    assert "every shard is copied" in plainly.err
