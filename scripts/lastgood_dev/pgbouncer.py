"""How do we put PgBouncer before one of our own PostgreSQL servers?"""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from urllib.parse import quote

from .child import Child, wait_until
from .debian import library_path, unpacked_packages
from .ports import free_port
from .postgres import SUPERUSER, Postgres, _unprivileged_user, without_libpq
from .repo import Failure
from .session import Session

SECONDS_TO_START = 30
TRIES = 5


def pgbouncer_program() -> Path:
    """Returns the folder with PgBouncer, unpacked if need be."""
    return unpacked_packages(("pgbouncer",), "pgbouncer", lambda version: version.startswith("1."), "PgBouncer 1")


def start_pgbouncer(session: Session, name: str, before: Postgres, pool_mode: str) -> str:
    """Returns the URL of a pooler that hands out connections to `before`, to whoever may log in there."""
    home = pgbouncer_program()
    user = _unprivileged_user()
    folder = session.run_dir / name
    folder.mkdir()
    folder.chmod(0o711)  # whatever the umask
    program = folder / "program"
    shutil.copytree(home, program, symlinks=True)  # where the server's user can reach it
    for _ in range(TRIES):
        port = free_port()
        config, users = folder / "pgbouncer.ini", folder / "users"
        users.write_text(f'"{SUPERUSER}" "{before.password}"\n')
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={before.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = {pool_mode}\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\nauth_user = {SUPERUSER}\n"
            "auth_query = select usename, passwd from pg_shadow where usename = $1\nmax_client_conn = 100\n"
        )
        for file in (config, users):
            file.chmod(0o600)
            if user is not None:
                os.chown(file, user.uid, user.gid)
        child = session.start(Child(
            f"pgbouncer {name}", [program / "usr" / "sbin" / "pgbouncer", config], log=folder / "log", cwd=folder, user=user,
            env={**without_libpq(os.environ), "LD_LIBRARY_PATH": library_path(program)},
        ))
        wait_until(lambda: child.exit_code() is not None or _listens(port), SECONDS_TO_START, f"{child.name} to listen")
        if child.exit_code() is None:
            return f"postgres://{SUPERUSER}:{quote(before.password, safe='')}@127.0.0.1:{port}/postgres"
    raise Failure(f"PgBouncer {name} did not start:\n{child.log_tail()}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
