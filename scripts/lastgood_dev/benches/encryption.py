"""What does encryption cost a backup, in time and in memory?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..measure import Row, forget_peak, medians, peak_mb, run_seconds
from ..postgres import Durability, Postgres, start_postgres
from ..redis import Flavour, start_redis
from ..repo import Unavailable
from ..service import Lastgood
from ..session import Session
from . import postgres, redis
from .consumer import start_lastgood

# Nobody needs its identity: nothing that a bench encrypts is ever recovered.
RECOVERY = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa"
ENCRYPTED = "encrypted"


@dataclass(frozen=True)
class Subject:
    """A database that is protected twice: as a resource of a team without a key, and as one of a team that has one."""

    name: str
    resource: str
    engine: str


def encryption_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """A backup of PostgreSQL and one of Redis, each with and without encryption."""
    customers = start_postgres(session, "encrypted-customers", durability=Durability.DURABLE, settings=("shared_buffers=512MB", "max_wal_size=8GB", "autovacuum=off"))
    postgres.fill(customers)
    settings = {"BIG_URL": customers.url("big"), "LASTGOOD_PG_CLIENT_DIRS": str(customers.bin)}
    rows = figures(session, binary, catalog, Subject("PostgreSQL", "big", "postgres"), settings)
    customers.child.stop()
    try:
        source = start_redis(session, "encrypted-redis", Flavour.REDIS6)
    except Unavailable as why:
        return [*rows, ("Redis with encryption", f"not measured: {why}", "")]
    redis.fill(source)
    return rows + figures(session, binary, catalog, Subject("Redis", "cache", "redis"), {"CACHE_URL": source.url()})


def figures(session: Session, binary: Path, catalog: Postgres, subject: Subject, settings: dict[str, str]) -> list[Row]:
    settings = {**settings, "LASTGOOD_RECOVERY_RECIPIENT": RECOVERY}
    lastgood, consumer = start_lastgood(session, binary, catalog, subject.engine, subject.resource, settings, "_encrypted")
    lastgood.show("key", "create", "--team", ENCRYPTED)
    lastgood.show(
        "resource", "add", ENCRYPTED, "--team", ENCRYPTED, "--tier", "pro", "--engine", subject.engine,
        "--connection", f"env:{subject.resource.upper()}_URL",
    )

    def backup(resource: str) -> float:
        return run_seconds(lastgood, "backup", "now", resource)

    plain, sealed = (f"{subject.name}: backup in clear", f"{subject.name}: backup with encryption")
    seconds = medians({plain: lambda: backup(subject.resource), sealed: lambda: backup(ENCRYPTED)})
    peaks = [peak_of(lastgood, consumer.child.pid, resource) for resource in (subject.resource, ENCRYPTED)]
    consumer.child.stop()
    stored = lastgood.restore_points(ENCRYPTED)[0].stored_bytes
    cost = (seconds[sealed] / seconds[plain] - 1) * 100
    return [
        (f"{plain}, {stored / 1e6:.0f} MB stored", f"{seconds[plain]:.2f} s", ""),
        (f"{sealed}", f"{seconds[sealed]:.2f} s, {cost:+.1f} %", "< 10 % more"),
        ("… peak memory of the consumer: in clear, encrypted", "{:.0f} MB, {:.0f} MB".format(*peaks), "the same"),
    ]


def peak_of(lastgood: Lastgood, pid: int, resource: str) -> float:
    forget_peak(pid)
    run_seconds(lastgood, "backup", "now", resource)
    return peak_mb(pid)
