"""How do we get a MongoDB-compatible server of our own, without Docker and without root?

It is SecantusDB: MongoDB's wire protocol, users and snapshot sessions, on WiredTiger. As it is GPL-2.0, it stays a process that we
talk to. MongoDB itself is in no package registry.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .child import Child, wait_until
from .pip import installed_packages
from .ports import free_port
from .program import Program
from .repo import Failure
from .session import Session

REQUIREMENTS = Path(__file__).with_name("mongodb-requirements.txt")
PYTHONS = ((3, 11), (3, 12), (3, 13))  # those that the server has wheels for
USER = "root"
SECONDS_TO_START = 30
TRIES = 5


class Topology(Enum):
    """What the server says it is: a replica set of one has snapshot sessions, a standalone server has none."""

    REPLICA_SET = ()
    STANDALONE = ("--standalone",)


@dataclass(frozen=True)
class MongoDb:
    """A running server that lets nobody in without a password."""

    port: int
    user: str
    password: str
    child: Child

    def url(self, database: str = "", user: str = "", password: str = "") -> str:
        """Returns the address for a user that exists, by default root. Users live in `admin`."""
        name, secret = (user, password) if user else (self.user, self.password)
        return f"mongodb://{quote(name, safe='')}:{quote(secret, safe='')}@127.0.0.1:{self.port}/{database}?authSource=admin"

    def client(self, **options: Any) -> Any:
        """Returns a `pymongo.MongoClient`, for root."""
        return _pymongo().MongoClient(self.url(), **options)


def mongodb_program() -> Program:
    """Returns the server, installed if need be. It takes `--host`, `--port`, `--storage-path`, `--auth`, `--standalone` and more."""
    if sys.version_info[:2] not in PYTHONS:
        raise Failure(
            f"the MongoDB-compatible test server has no wheel for Python {sys.version_info.major}.{sys.version_info.minor};"
            f" use one of {', '.join(f'{major}.{minor}' for major, minor in PYTHONS)}, as in `make test PYTHON=python3.12`"
        )
    packages = installed_packages(REQUIREMENTS, "mongodb")
    # Else it would read a configuration from the current directory, the home directory or /etc.
    settings = packages / "nothing.toml"
    settings.touch()
    return Program((sys.executable, "-m", "secantus", "--config", str(settings)), {"PYTHONPATH": str(packages)})


def start_mongodb(session: Session, name: str, topology: Topology = Topology.REPLICA_SET) -> MongoDb:
    """Returns a server that accepts connections on 127.0.0.1 until the session closes.

    It has no way in for the first user while it asks for passwords, so it starts twice.
    """
    home = session.run_dir / name
    home.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    child, port = _start(session, name, home, ())
    with _pymongo().MongoClient("127.0.0.1", port, directConnection=True) as client:
        client.admin.command("createUser", USER, pwd=password, roles=["root"])
    child.stop()
    child, port = _start(session, name, home, ("--auth", *topology.value))
    return MongoDb(port, USER, password, child)


def _start(session: Session, name: str, home: Path, args: tuple[str, ...]) -> tuple[Child, int]:
    program = mongodb_program()
    for _ in range(TRIES):
        port = free_port()
        child = session.start(program.child(
            f"mongodb {name}", ("--host", "127.0.0.1", "--port", str(port), "--storage-path", home / "data", *args), home
        ))
        if _ready(child, port):
            return child, port
        if "Address already in use" not in child.log_tail():
            break
    raise Failure(f"the MongoDB-compatible server {name} did not start:\n{child.log_tail()}")


def _ready(child: Child, port: int) -> bool:
    """Waits for the server's own word that it listens; False when it ended instead."""
    wait_until(
        lambda: child.exit_code() is not None or f"listening on 127.0.0.1:{port}" in child.log_tail(),
        SECONDS_TO_START, f"{child.name} to accept connections",
    )
    return child.exit_code() is None


def _pymongo() -> Any:
    """Returns the client library that comes with the server."""
    packages = mongodb_program().env["PYTHONPATH"]
    if packages not in sys.path:
        sys.path.append(packages)
    import pymongo

    return pymongo
