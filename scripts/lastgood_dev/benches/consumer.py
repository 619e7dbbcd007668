"""Which consumer does an engine's bench measure? One of its own, so that its memory is that engine's alone."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping

from ..postgres import Postgres
from ..service import Lastgood, Replica, new_master_key
from ..session import Session


def start_lastgood(
    session: Session, binary: Path, catalog: Postgres, engine: str, resource: str, settings: Mapping[str, str], suffix: str = ""
) -> tuple[Lastgood, Replica]:
    """Returns lastgood with a catalog of its own, one resource whose URL is in `settings` as NAME_URL, and its one consumer."""
    name = engine + suffix
    catalog.psql(f"create database lastgood_{name}")
    lastgood = Lastgood(session, binary, {
        "DATABASE_URL": catalog.url(f"lastgood_{name}"),
        "LASTGOOD_STORAGE": str(session.run_dir / f"storage-{name}"),
        "LASTGOOD_MASTER_KEY": new_master_key(),
        "LASTGOOD_WORK_DIR": str(session.run_dir / "work"),
        **settings,
    })
    lastgood.show("migrate")
    lastgood.show(
        "resource", "add", resource, "--team", "bench", "--tier", "pro", "--engine", engine,
        "--connection", f"env:{resource.upper()}_URL",
    )
    return lastgood, lastgood.start(f"consumer-{name}", "consumer", "--engines", engine, "--slots", "1")
