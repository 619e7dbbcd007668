"""How do we get a standby of one of our own PostgreSQL servers?"""

from __future__ import annotations

from dataclasses import replace

from .child import run
from .ports import free_port
from .postgres import SUPERUSER, TRIES, Installation, Postgres, _ready, _started, _unprivileged_user
from .repo import Failure
from .session import Session


def start_standby(session: Session, name: str, of: Postgres) -> Postgres:
    """Returns a server that replays what `of` commits, and takes reads. Its passwords are those of `of`."""
    home = session.run_dir / name
    home.mkdir()
    home.chmod(0o711)  # whatever the umask
    user = _unprivileged_user()
    primary = f"host=127.0.0.1 port={of.port} user={SUPERUSER} password={of.password}"
    copied = run(
        [of.bin / "pg_basebackup", "--pgdata", home / "data", "--checkpoint=fast", "--wal-method=stream", "--no-sync"],
        env=of.env(), cwd=home,
    )
    if copied.returncode != 0:
        raise Failure(f"pg_basebackup failed:\n{copied.stderr}")
    (home / "data" / "standby.signal").touch()
    settings = home / "data" / "postgresql.auto.conf"
    settings.write_text(f"primary_conninfo = '{primary}'\n")
    if user is not None:
        chowned = run(["chown", "-R", f"{user.uid}:{user.gid}", home / "data"])
        if chowned.returncode != 0:
            raise Failure(f"chown failed: {chowned.stderr}")
    for _ in range(TRIES):
        port = free_port()
        # No smaller than the primary's, or it does not start.
        child = _started(session, name, Installation(of.bin.parent, of.bin.parent), home, user, port, ("fsync=off", "max_prepared_transactions=10"))
        if _ready(child, home / "data"):
            return replace(of, port=port, child=child)
        if "could not bind" not in child.log_tail():
            break
    raise Failure(f"PostgreSQL {name} did not start:\n{child.log_tail()}")
