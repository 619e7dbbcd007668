"""How do we get S3 servers of our own, without Docker and without root?

Two that share no line of code. moto is quick to come and knows unfinished uploads and conditions, but believes any signature; s3s-fs
checks signatures and keeps files, but lists no unfinished uploads and lets two writers at the same instant both win. `ceph` starts a third,
which is used in production.
"""

from __future__ import annotations

import secrets
import socket
import sys
import urllib.request
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from .cargo_tool import cargo_tool
from .child import Child, wait_until
from .pip import installed_packages
from .ports import free_port
from .program import Program
from .repo import Failure
from .session import Session

REQUIREMENTS = Path(__file__).with_name("moto-requirements.txt")
S3S_VERSION = "0.14.1"
BUCKET = "lastgood-test"
SECONDS_TO_START = 30
TRIES = 5


@dataclass(frozen=True)
class S3Server:
    """A running server with one empty bucket."""

    url: str
    access_key_id: str
    secret_access_key: str
    child: Child
    start_again: Callable[[], Child]

    def environment(self) -> dict[str, str]:
        """Returns what lastgood, and any other client, reads."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url, "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.access_key_id, "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }


def moto_packages() -> Path:
    """Returns where moto is installed, and with it boto3, which is a plain client of S3."""
    return installed_packages(REQUIREMENTS, "moto")


def moto_program() -> Program:
    """Returns moto's server, installed if need be. It takes `--host` and `--port`, and keeps all in memory."""
    return Program((sys.executable, str(Path(__file__).with_name("moto_server.py"))), {"PYTHONPATH": str(moto_packages())})


def s3s_program() -> Path:
    """Returns s3s-fs, built if need be."""
    return cargo_tool("s3s-fs", S3S_VERSION, ("--features", "binary"))


def start_moto(session: Session, name: str) -> S3Server:
    """Returns a server that accepts connections on 127.0.0.1 until the session closes."""
    home = session.run_dir / name
    home.mkdir(mode=0o700)
    keys = _keys()
    server = _start(session, name, home, keys, moto_program(), lambda port: ("--host", "127.0.0.1", "--port", str(port)))
    with urllib.request.urlopen(urllib.request.Request(f"{server.url}/{BUCKET}", method="PUT"), timeout=SECONDS_TO_START):
        return server


def start_s3s(session: Session, name: str) -> S3Server:
    """Returns a server that accepts connections on 127.0.0.1 until the session closes."""
    home = session.run_dir / name
    (home / "data" / BUCKET).mkdir(mode=0o700, parents=True)
    access, secret = keys = _keys()
    return _start(session, name, home, keys, Program((str(s3s_program()),)), lambda port: (
        "--host", "127.0.0.1", "--port", str(port), "--access-key", access, "--secret-key", secret, home / "data",
    ))


def client(server: S3Server) -> Any:
    """Returns boto3's client, for what lastgood never does."""
    packages = str(moto_packages())
    if packages not in sys.path:
        sys.path.append(packages)
    import boto3

    return boto3.client(
        "s3", endpoint_url=server.url, region_name="us-east-1",
        aws_access_key_id=server.access_key_id, aws_secret_access_key=server.secret_access_key,
    )


def _keys() -> tuple[str, str]:
    return f"AKIA{secrets.token_hex(8).upper()}", secrets.token_hex(20)


def _start(session: Session, name: str, home: Path, keys: tuple[str, str], program: Program, args) -> S3Server:
    for _ in range(TRIES):
        port = free_port()
        start = partial(program.child, f"S3 server {name}", args(port), home)
        child = session.start(start())
        wait_until(
            lambda: child.exit_code() is not None or answers(port), SECONDS_TO_START, f"{child.name} to accept connections",
        )
        if child.exit_code() is None:
            return S3Server(f"http://127.0.0.1:{port}", *keys, child, start)
        if "in use" not in child.log_tail():
            break
    raise Failure(f"the S3 server {name} did not start:\n{child.log_tail()}")


def answers(port: int) -> bool:
    """Returns whether anybody accepts connections there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
