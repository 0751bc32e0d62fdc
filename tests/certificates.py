"""Certificates for tests: an authority, servers and clients that it signs, by openssl."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class Authority:
    """Signs certificates; everything it makes is a PEM file below `directory`."""

    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Authority:
        """A new one; the test is skipped without openssl."""
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        made = cls(directory)
        made._openssl(
            *("req", "-x509", *NEW_KEY, "-days", "3", "-subj", "/CN=authority"),
            *("-keyout", "ca.key", "-out", "ca.pem"),
        )
        return made

    @property
    def ca_file(self) -> str:
        return str(self.directory / "ca.pem")

    def sign(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1,IP:::1") -> Path:
        """A certificate with its key in one file."""
        self._openssl(
            *("req", *NEW_KEY, "-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
        )
        self._openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", f"{name}.crt"),
        )
        both = self.directory / f"{name}.pem"
        both.write_bytes(
            (self.directory / f"{name}.key").read_bytes()
            + (self.directory / f"{name}.crt").read_bytes()
        )
        return both

    def server(self, *, names: str = "", client_certificates: bool = False) -> ssl.SSLContext:
        """Settings of a server with a certificate that is signed here."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.sign("server", names) if names else self.sign("server"))
        if client_certificates:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca_file)
        return context

    def _openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.directory)
