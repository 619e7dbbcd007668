#!/usr/bin/env python3
"""Measures what BENCHMARKS.md claims, each figure as a ratio of things measured in the same run.

    make bench            all of it, on a database of 1.2 GB (about ten minutes after the build)
    make bench SCALE=160  on one twice as large

Prints a line a figure as it comes, and a table at the end. Takes the median of three interleaved rounds.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

from lastgood_dev.child import wait_until
from lastgood_dev.postgres import Durability, Postgres, start_postgres
from lastgood_dev.repo import ROOT, Failure, offline_sqlx_env, say
from lastgood_dev.service import Lastgood, build, new_master_key
from lastgood_dev.session import Session, guarded

SCALE = int(os.environ.get("SCALE") or 80)  # 15 MB each
ROUNDS = 3
SECONDS_FOR_ONE = 1800

Figures = dict[str, list[float]]


def main(session: Session) -> int:
    binary = build("release")
    # Measured with the settings that a careful operator runs: commits survive a power cut.
    catalog = start_postgres(session, "catalog", durability=Durability.DURABLE, settings=("shared_buffers=512MB", "max_wal_size=4GB"))
    rows = queue_figures(catalog)
    customers = start_postgres(
        session, "customers", durability=Durability.DURABLE, settings=("shared_buffers=512MB", "max_wal_size=8GB", "autovacuum=off")
    )
    rows += backup_and_restore_figures(session, binary, catalog, customers)
    say("\n| what | measured | aim |\n| --- | --- | --- |")
    for what, measured, aim in rows:
        say(f"| {what} | {measured} | {aim} |")
    return 0


def queue_figures(catalog: Postgres) -> list[tuple[str, str, str]]:
    """The queue, the pickup and the ticks: measured by benches of our own, for they need the library."""
    catalog.psql("create database bench")
    env = {**offline_sqlx_env(), "LASTGOOD_BENCH_CATALOG_URL": catalog.url("bench")}
    bench = subprocess.Popen(
        ["cargo", "bench", "--locked", "--quiet", "--bench", "queue"], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    rows = []
    for line in bench.stdout or ():
        if line.startswith("{"):
            say(line.strip())
            rows.append(_queue_row(json.loads(line)))
    if bench.wait() != 0:
        raise Failure("the queue's benches failed")
    return rows


def _queue_row(figure: Mapping[str, object]) -> tuple[str, str, str]:
    if figure["bench"] == "queue":
        what = f"no-op runs per second, {figure['processes']} process(es) with {figure['slots']} slots each"
        return what, f"{figure['runs_per_second']:.0f}", "> 1,000"
    if figure["bench"] == "pickup":
        return "pickup latency of an idle consumer, p50 / p95", f"{figure['p50_ms']} / {figure['p95_ms']} ms", "p95 < 50 ms"
    if figure["bench"] == "tick":
        return f"a tick that enqueues {figure['enqueued']:,} of {figure['resources']:,} resources", f"{figure['seconds']} s", "< 5 s"
    return f"an idle tick at {figure['resources']:,} resources, worst of 10", f"{figure['worst_seconds']} s", "< 0.5 s"


def backup_and_restore_figures(
    session: Session, binary: Path, catalog: Postgres, customers: Postgres
) -> list[tuple[str, str, str]]:
    fill(customers)
    size = int(customers.psql("select pg_database_size('big')"))
    say(f"database: {size / 1e9:.2f} GB")
    lastgood, consumer_pid = start_lastgood(session, binary, catalog, customers)
    files = session.run_dir / "files"
    files.mkdir()
    dumps = rounds(dump_contenders(lastgood, customers, files))
    restores = rounds(restore_contenders(lastgood, customers, files))
    return rows_of(size, dumps, restores, peak_mb(consumer_pid), files, lastgood)


def fill(server: Postgres) -> None:
    """Half pgbench's rows, which compress to almost nothing, half events with hashes in them, which hardly compress."""
    say(f"filling a database at scale {SCALE} ...")
    server.psql("create database big")
    _must_run([server.bin / "pgbench", "-i", "-q", "--init-steps=dtGvp", f"-s{SCALE // 2}"], server.env("big"))
    server.psql(f"""
        create table events (id bigint primary key, at timestamptz not null, customer int not null, payload jsonb not null);
        insert into events
        select id, timestamptz '2026-01-01' + id * interval '1 second', id * 7919 % 100003,
            jsonb_build_object('order', id, 'state', (array['new', 'paid', 'sent', 'done'])[id % 4 + 1], 'token', md5(id::text))
        from generate_series(1::bigint, {SCALE * 35_000}) as id;
        create index on events (customer, at);
        vacuum analyze events
    """, "big")


def start_lastgood(session: Session, binary: Path, catalog: Postgres, customers: Postgres) -> tuple[Lastgood, int]:
    catalog.psql("create database lastgood")
    storage = session.run_dir / "storage"
    lastgood = Lastgood(session, binary, {
        "DATABASE_URL": catalog.url("lastgood"),
        "LASTGOOD_STORAGE": str(storage),
        "LASTGOOD_MASTER_KEY": new_master_key(),
        "LASTGOOD_WORK_DIR": str(session.run_dir / "work"),
        "LASTGOOD_PG_CLIENT_DIRS": str(customers.bin),
        "BIG_URL": customers.url("big"),
    })
    lastgood.show("migrate")
    lastgood.show("resource", "add", "big", "--team", "bench", "--tier", "pro", "--engine", "postgres", "--connection", "env:BIG_URL")
    consumer = lastgood.start("consumer", "consumer", "--engines", "postgres", "--slots", "1")
    return lastgood, consumer.child.pid


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
    _must_run([pg_dump, "-Fc", "-Z0", "-f", files / "local.dump"], server.env("big"))

    def fresh() -> None:
        server.psql("drop database if exists target")
        server.psql("create database target template template0")
        server.psql("checkpoint")

    def bare() -> float:
        fresh()
        return timed(f"exec {pg_restore} --exit-on-error --single-transaction -d target {files}/local.dump", server.env("target"))

    def ours() -> float:
        fresh()
        return run_seconds(lastgood, "restore", "big", "--into", "target")

    return {"pg_restore from a local file": bare, "lastgood restore": ours}


def rounds(contenders: Mapping[str, Callable[[], float]]) -> Figures:
    """Interleaved, so that a slow minute of the machine is everybody's."""
    figures: Figures = {name: [] for name in contenders}
    for number in range(1, ROUNDS + 1):
        for name, contender in contenders.items():
            seconds = contender()
            figures[name].append(seconds)
            say(f"round {number}: {name}: {seconds:.2f} s")
    return figures


def timed(command: str, env: Mapping[str, str]) -> float:
    began = time.monotonic()
    _must_run(["/bin/bash", "-o", "pipefail", "-c", command], env)
    return time.monotonic() - began


def run_seconds(lastgood: Lastgood, *args: str) -> float:
    """From the claim to the fenced finish, by the catalog's clock: the probe, the commit and every check included."""
    known = {run.id for run in lastgood.runs()}
    lastgood.show(*args)
    (run_id,) = {run.id for run in lastgood.runs()} - known
    wait_until(lambda: lastgood.run(run_id).state in ("succeeded", "failed"), SECONDS_FOR_ONE, "the run to end", pause=0.5)
    if lastgood.run(run_id).state != "succeeded":
        raise Failure(f"run {run_id} failed")
    return lastgood.run_seconds(run_id)


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def rows_of(
    size: int, dumps: Figures, restores: Figures, peak: float, files: Path, lastgood: Lastgood
) -> list[tuple[str, str, str]]:
    dump = {name: statistics.median(seconds) for name, seconds in dumps.items()}
    restore = {name: statistics.median(seconds) for name, seconds in restores.items()}
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
    rows.append(("restore: lastgood against `pg_restore` of a local file", f"{ours:.2f} s, {ours / bare:.2f} × of {bare:.2f} s", "≤ 1.15 ×"))
    rows.append(("peak memory of the consumer", f"{peak:.0f} MB", "< 100 MB"))
    return rows


def _must_run(command: Sequence[str | Path], env: Mapping[str, str]) -> None:
    done = subprocess.run([str(part) for part in command], env=dict(env), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure(f"{command[0]} exited with code {done.returncode}: {done.stderr.strip()}")


if __name__ == "__main__":
    guarded(main)
