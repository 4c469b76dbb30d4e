"""Certificates for tests of TLS, made by OpenSSL's program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_WITHIN_S = 60.0
_NEW_KEY = ("-newkey", "rsa:2048", "-nodes")


@dataclass(frozen=True)
class Pki:
    """A certificate authority with a receiver's and a sender's certificate, and a stranger's that signs itself."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name.replace("_", ".")

    def make(self) -> None:
        self._openssl("req", "-x509", "-subj", "/CN=CA", "-keyout", "ca.key", "-out", "ca.crt", *_NEW_KEY)
        self._openssl("req", "-x509", "-subj", "/CN=X", "-keyout", "stranger.key", "-out", "stranger.crt", *_NEW_KEY)
        for name in ("receiver", "sender"):
            self.certificate(name, "DNS:localhost", "IP:127.0.0.1")

    def certificate(self, name: str, *names: str, days: int = 1) -> None:
        """Sign a certificate for other names (``DNS:...``, ``IP:...``); for negative ``days`` one that has expired."""
        (self.folder / f"{name}.names").write_text(f"subjectAltName={','.join(names)}\n")
        self._openssl("req", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr", *_NEW_KEY)
        sign = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        self._openssl(*sign, "-days", str(days), "-extfile", f"{name}.names", "-out", f"{name}.crt")

    def lock(self, key: str, locked: str) -> None:
        """Write a key with a passphrase."""
        self._openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", locked)

    def rehash(self, folder: Path) -> None:
        """Give the certificates of a folder the names that OpenSSL looks for."""
        self._openssl("rehash", str(folder))

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=_WITHIN_S)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Made once; read only."""
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.make()
    return made
