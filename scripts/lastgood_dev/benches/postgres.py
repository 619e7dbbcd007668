"""How fast are backups and restores of PostgreSQL, against its tools alone?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable, Mapping

from ..drills import drill_settings
from ..measure import Row, medians, must_run, peak_mb, run_seconds, timed
from ..postgres import Durability, Postgres, start_postgres
from ..repo import Failure, say
from ..service import Lastgood
from ..session import Session
from .consumer import start_lastgood

SCALE = int(os.environ.get("SCALE") or 80)  # 15 MB each


def postgres_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """Backups and restores of a PostgreSQL database, against the tools alone."""
    customers = start_postgres(
        session, "customers", durability=Durability.DURABLE, settings=("shared_buffers=512MB", "max_wal_size=8GB", "autovacuum=off")
    )
    fill(customers)
    size = int(customers.psql("select pg_database_size('big')"))
    say(f"database: {size / 1e9:.2f} GB")
    settings = {
        "BIG_URL": customers.url("big"),
        "LASTGOOD_PG_CLIENT_DIRS": str(customers.bin),
        **drill_settings(session, customers.bin),
        "LASTGOOD_DRILL_SLOTS": "1",
    }
    lastgood, consumer = start_lastgood(session, binary, catalog, "postgres", "big", settings)
    files = session.run_dir / "files"
    files.mkdir()
    dump = medians(dump_contenders(lastgood, customers, files))
    restore = medians(restore_contenders(lastgood, customers, files))
    return rows_of(size, dump, restore, peak_mb(consumer.child.pid), files, lastgood)


def fill(server: Postgres) -> None:
    """Half pgbench's rows, which compress to almost nothing, half events with hashes in them, which hardly compress."""
    say(f"filling a database at scale {SCALE} ...")
    server.psql("create database big")
    must_run([server.bin / "pgbench", "-i", "-q", "--init-steps=dtGvp", f"-s{SCALE // 2}"], server.env("big"))
    server.psql(f"""
        create table events (id bigint primary key, at timestamptz not null, customer int not null, payload jsonb not null);
        insert into events
        select id, timestamptz '2026-01-01' + id * interval '1 second', id * 7919 % 100003,
            jsonb_build_object('order', id, 'state', (array['new', 'paid', 'sent', 'done'])[id % 4 + 1], 'token', md5(id::text))
        from generate_series(1::bigint, {SCALE * 35_000}) as id;
        create index on events (customer, at);
        vacuum analyze events
    """, "big")


def dump_contenders(lastgood: Lastgood, server: Postgres, files: Path) -> dict[str, Callable[[], float]]:
    pg_dump, env = str(server.bin / "pg_dump"), server.env("big")
    contenders = {
        "bare pg_dump -Fc -Z0": lambda: timed(f"exec {pg_dump} -Fc -Z0 > /dev/null", env),
        "lastgood backup": lambda: run_seconds(lastgood, "backup", "now", "big"),
        "pg_dump -Fc (gzip)": lambda: timed(f"exec {pg_dump} -Fc > {files}/gzip.dump", env),
    }
    if shutil.which("zstd"):
        contenders["pg_dump -Fc -Z0 | zstd -3"] = lambda: timed(f"{pg_dump} -Fc -Z0 | zstd -q -3 -f -o {files}/piped.zst", env)
    return contenders


def restore_contenders(lastgood: Lastgood, server: Postgres, files: Path) -> dict[str, Callable[[], float]]:
    pg_dump, pg_restore = server.bin / "pg_dump", server.bin / "pg_restore"
    must_run([pg_dump, "-Fc", "-Z0", "-f", files / "local.dump"], server.env("big"))

    def fresh() -> None:
        server.psql("drop database if exists target")
        server.psql("create database target template template0")
        server.psql("checkpoint")

    def bare() -> float:
        fresh()
        return timed(f"exec {pg_restore} --exit-on-error --single-transaction -d target {files}/local.dump", server.env("target"))

    def ours() -> float:
        fresh()
        return run_seconds(lastgood, "restore", "big", "--into", "target", "--as-superuser")

    def swap() -> float:
        fresh()
        for kept in server.psql("select datname from pg_database where datname like 'big__before_restore_%'").split():
            server.psql(f"drop database {kept}")
        return run_seconds(lastgood, "restore", "big", "--as-superuser")

    def drill() -> float:
        seconds = run_seconds(lastgood, "drill", "now", "big")
        (latest, *_) = [run for run in lastgood.runs() if run.kind == "drill"]
        report = lastgood.run_report(latest.id)
        if report.get("drill") != "proven":
            raise Failure(f"the drill proved nothing: {report}")
        say(f"  of these, by phase: {report['seconds']}")
        return seconds

    return {
        "pg_restore from a local file": bare, "lastgood restore": ours, "lastgood restore by swap": swap, "lastgood drill": drill,
    }


def rows_of(
    size: int, dump: Mapping[str, float], restore: Mapping[str, float], peak: float, files: Path, lastgood: Lastgood
) -> list[Row]:
    ours, bare = dump["lastgood backup"], dump["bare pg_dump -Fc -Z0"]
    stored = lastgood.restore_points("big")[0].stored_bytes
    rows = [
        (f"backup of {size / 1e9:.2f} GB: lastgood", f"{ours:.2f} s, {stored / 1e6:.0f} MB stored", ""),
        ("… against bare `pg_dump -Fc -Z0 >/dev/null`", f"{ours / bare:.2f} × of {bare:.2f} s", "≤ 1.15 ×"),
    ]
    for name, path in (("pg_dump -Fc (gzip)", "gzip.dump"), ("pg_dump -Fc -Z0 | zstd -3", "piped.zst")):
        if name in dump:
            megabytes = (files / path).stat().st_size / 1e6
            rows.append((f"… against `{name}`", f"{ours / dump[name]:.2f} × of {dump[name]:.2f} s, {megabytes:.0f} MB", ""))
    ours, bare = restore["lastgood restore"], restore["pg_restore from a local file"]
    rows.append((
        "restore into an empty database, analyzed: against `pg_restore` of a local file in one transaction, not analyzed",
        f"{ours:.2f} s, {ours / bare:.2f} × of {bare:.2f} s", "≤ 1.15 ×",
    ))
    drill = restore["lastgood drill"]
    rows.append(("drill, from its server's start to its end: against the restore alone", f"{drill:.2f} s, {drill / ours:.2f} × of {ours:.2f} s", ""))
    swap = restore["lastgood restore by swap"]
    rows.append((
        f"restore by swap, {os.cpu_count()} cores, analyzed: against the same", f"{swap:.2f} s, {swap / bare:.2f} × of {bare:.2f} s", "≤ 0.9 ×",
    ))
    rows.append(("peak memory of the consumer over all of these", f"{peak:.0f} MB", "< 100 MB"))
    return rows
