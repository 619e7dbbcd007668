"""How does a server of ours get a certificate that its clients can check?"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .child import run
from .repo import Failure, Unavailable

DAYS = "30"


@dataclass(frozen=True)
class Certificates:
    """A folder with `ca.pem`, which no machine trusts, `server.pem`, which it signed for localhost and 127.0.0.1, and `server.key`.

    `server-and-key.pem` holds the last two, for servers that want one file.
    """

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def server(self) -> Path:
        return self.folder / "server.pem"

    @property
    def key(self) -> Path:
        return self.folder / "server.key"


def make_certificates(folder: Path) -> Certificates:
    """Returns new certificates, whose authority signs nothing else: its key is gone."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise Unavailable("certificates are made with openssl, and there is none on PATH")
    folder.mkdir(mode=0o700)
    made = Certificates(folder)
    authority_key, request, extensions = folder / "ca.key", folder / "request", folder / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for args in (
        ("req", "-x509", *new_key, "-subj", "/CN=lastgood test authority", "-days", DAYS, "-keyout", authority_key, "-out", made.ca),
        ("req", *new_key, "-subj", "/CN=localhost", "-keyout", made.key, "-out", request),
        (
            "x509", "-req", "-in", request, "-CA", made.ca, "-CAkey", authority_key, "-CAcreateserial", "-days", DAYS,
            "-extfile", extensions, "-out", made.server,
        ),
    ):
        done = run([openssl, *args], cwd=folder)
        if done.returncode != 0:
            raise Failure(f"openssl {args[0]} failed: {done.stderr.strip()}")
    (folder / "server-and-key.pem").write_text(made.server.read_text() + made.key.read_text())
    authority_key.unlink()
    return made
