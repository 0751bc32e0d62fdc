"""An HTTP address without a scheme: the server is asked, and hears no credentials before TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from resources.clients.address import split_host_port
from resources.clients.http import InfluxHTTP
from resources.clients.tls import Trust
from resources.clients.tls_probe import probe_tls
from resources.errors import BadReply, PeerUnreachable, UsageError
from resources.protocol.x509 import not_after
from tests.certificates import Authority
from tests.resources.clients.http_peer import reply
from tests.resources.clients.peer import peer

PONG = reply(status="204 No Content", X_Influxdb_Version="1.8.10")
NO_HTTPS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


def https_server(
    context: ssl.SSLContext, heard: list[bytes], *, polite: bool
) -> Callable[[socket.socket], None]:
    """As Go's: to plain HTTP it says that this is https, or, before Go 1.12, it just hangs up."""

    def serve(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) != b"\x16":
            heard.append(connection.recv(65536))
            connection.sendall(NO_HTTPS if polite else b"\x15\x03\x01\x00\x02\x02\x46")
            return
        with (
            contextlib.suppress(OSError),
            context.wrap_socket(connection, server_side=True) as sock,
        ):
            sock.recv(65536)
            sock.sendall(PONG)

    return serve


@pytest.mark.parametrize("polite", [True, False])
def test_https_is_found_out_before_any_credentials_are_sent(
    authority: Authority, polite: bool
) -> None:
    heard: list[bytes] = []
    with peer(https_server(authority.server(), heard, polite=polite)) as address:
        http = InfluxHTTP(
            address, user="u", password="CaNaRy", trust=Trust(ca_file=authority.ca_file)
        )
        assert http.ping().version == "1.8.10"
        assert http.scheme == "https"
    assert heard
    assert all(b"Authorization" not in one for one in heard)


def test_http_that_was_asked_for_is_not_changed_and_reported_of(authority: Authority) -> None:
    server = https_server(authority.server(), [], polite=True)
    with peer(server) as address, pytest.raises(BadReply, match="speaks https") as caught:
        InfluxHTTP(f"http://{address}").ping()
    assert f"https://{address}" in caught.value.hint


def test_a_certificate_of_an_authority_of_ones_own_is_reported_with_the_flag(
    authority: Authority,
) -> None:
    with peer(https_server(authority.server(), [], polite=True)) as address:
        with pytest.raises(PeerUnreachable, match="TLS failed") as caught:
            InfluxHTTP(address).ping()
        assert "-ca" in caught.value.hint
        assert InfluxHTTP(address, verify=False).ping().version == "1.8.10"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_authorities_of_the_environment_are_trusted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, authority.ca_file)
    with peer(https_server(authority.server(), [], polite=True)) as address:
        assert InfluxHTTP(address).ping().version == "1.8.10"


def test_certificates_of_authorities_that_nobody_trusts_here_are_refused_whatever_requests_has(
    authority: Authority, tmp_path: Path
) -> None:
    """-ca means these authorities, and no others beside them."""
    (tmp_path / "other").mkdir()
    other = Authority.make(tmp_path / "other")
    server = https_server(authority.server(), [], polite=True)
    with peer(server) as address, pytest.raises(PeerUnreachable, match="TLS failed"):
        InfluxHTTP(address, trust=Trust(ca_file=other.ca_file)).ping()


def test_a_server_that_asks_for_a_certificate_gets_ours(authority: Authority) -> None:
    ours = str(authority.sign("client"))
    context = authority.server(client_certificates=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # a refusal comes with the handshake
    with peer(https_server(context, [], polite=True)) as address:
        with pytest.raises(PeerUnreachable) as caught:
            InfluxHTTP(f"https://{address}", trust=Trust(ca_file=authority.ca_file)).ping()
        trust = Trust(ca_file=authority.ca_file, cert_file=ours)
        assert InfluxHTTP(address, trust=trust).ping().version == "1.8.10"
        apart = Trust(
            ca_file=authority.ca_file,
            cert_file=str(authority.directory / "client.crt"),
            key_file=str(authority.directory / "client.key"),
        )
        assert InfluxHTTP(address, trust=apart).ping().version == "1.8.10"
    assert caught.value.what.startswith(f"{address}: TLS failed")


def test_settings_that_contradict_each_other_or_lead_nowhere_are_refused(
    authority: Authority, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="not verified"):
        Trust(verify=False, ca_file=authority.ca_file)
    with pytest.raises(UsageError, match="-cert"):
        Trust(key_file="k.pem")
    with pytest.raises(UsageError, match="certificate with its key"):
        Trust(cert_file=str(tmp_path / "missing.pem")).check()
    with pytest.raises(UsageError, match="authorities"):
        Trust(ca_file=str(tmp_path / "missing.pem")).check()


def test_an_encrypted_key_is_not_asked_about(authority: Authority, tmp_path: Path) -> None:
    authority._openssl(
        *("ec", "-in", str(authority.sign("locked")), "-aes256", "-passout", "pass:secret"),
        *("-out", str(tmp_path / "locked.key")),
    )
    trust = Trust(
        cert_file=str(authority.directory / "locked.crt"), key_file=str(tmp_path / "locked.key")
    )
    with pytest.raises(UsageError, match="encrypted"):
        trust.check()


def test_the_last_day_of_a_certificate_is_read_from_a_handshake(authority: Authority) -> None:
    with peer(https_server(authority.server(), [], polite=True)) as address:
        found = probe_tls(split_host_port(address, 1))
    assert found is not None
    ends = not_after(found.certificate)
    info = ssl._ssl._test_decode_cert(str(authority.directory / "server.crt"))  # type: ignore[attr-defined]
    assert ends.timestamp() == ssl.cert_time_to_seconds(info["notAfter"])
    for cut in range(len(found.certificate)):
        with contextlib.suppress(BadReply):
            not_after(found.certificate[:cut])


def test_a_port_that_speaks_no_tls_has_no_certificate() -> None:
    with peer(lambda connection: connection.sendall(PONG)) as address:
        assert probe_tls(split_host_port(address, 1), timeout_s=5) is None
