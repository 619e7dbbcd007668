"""How fast are the queue, the pickup and the ticks, and how many connections do consumers hold that have nothing to do?"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Iterator, Mapping

from ..child import run, wait_until
from ..measure import ROUNDS, Row
from ..pip import appearing_whole
from ..postgres import Postgres
from ..repo import DEV_DIR, ROOT, Failure, offline_sqlx_env, say
from ..service import Lastgood, new_master_key
from ..session import Session

GRAPHILE = "0.18.0"
JOBS, SLOTS, POOL = 20_000, 64, 16
IDLE_CONSUMERS = 20
CONNECTIONS_WHEN_IDLE = 3


def queue_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """The queue, the pickup and the ticks: measured by benches of our own, for they need the library."""
    catalog.psql("create database bench")
    rows = _against_graphile(catalog)
    rows += [_queue_row(figure) for figure in _bench(catalog)]
    rows.append(_idle_consumers(session, binary, catalog))
    return rows


def _bench(catalog: Postgres, *args: str) -> Iterator[Mapping[str, object]]:
    env = {**offline_sqlx_env(), "LASTGOOD_BENCH_CATALOG_URL": catalog.url("bench")}
    bench = subprocess.Popen(
        ["cargo", "bench", "--locked", "--quiet", "--bench", "queue", "--", *args], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True
    )
    for line in bench.stdout or ():
        if line.startswith("{"):
            say(line.strip())
            yield json.loads(line)
    if bench.wait() != 0:
        raise Failure("the queue's benches failed")


def _against_graphile(catalog: Postgres) -> list[Row]:
    """The same number of no-op jobs by the fastest peer that keeps its jobs in PostgreSQL, on the same server, in turns with ours."""
    what = f"no-op runs per second, {SLOTS} slots, against graphile-worker {GRAPHILE}, median of {ROUNDS} rounds"
    if not shutil.which("node") or not shutil.which("npm"):
        return [(what, "not measured: Node.js is not here", "≥ 2 ×")]
    folder = DEV_DIR / f"graphile-worker-{GRAPHILE}"
    if not folder.is_dir():
        with appearing_whole(folder, f"graphile-worker {GRAPHILE}") as new:
            done = run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", new, f"graphile-worker@{GRAPHILE}"])
            if done.returncode != 0:
                raise Failure(f"npm could not install graphile-worker:\n{done.stderr.strip()}")
    catalog.psql("create database graphile")
    env = {**os.environ, "DATABASE_URL": catalog.url("graphile")}
    script = Path(__file__).with_name("graphile.cjs")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        (figure,) = _bench(catalog, "throughput", "1", str(SLOTS))
        ours.append(float(str(figure["runs_per_second"])))
        done = run(["node", script, folder, str(JOBS), str(SLOTS), str(POOL)], env=env)
        if done.returncode != 0:
            raise Failure(f"graphile-worker failed:\n{done.stderr.strip()}")
        theirs.append(json.loads(done.stdout)["jobs_per_second"])
        say(f"graphile-worker: {theirs[-1]:.0f} jobs/s")
    mine, peer = statistics.median(ours), statistics.median(theirs)
    return [(what, f"{mine:,.0f} against {peer:,.0f}: {mine / peer:.2f} ×", "≥ 2 ×")]


def _idle_consumers(session: Session, binary: Path, catalog: Postgres) -> Row:
    """Connections to the catalog of consumers that have nothing to do, all engines each."""
    catalog.psql("create database idle")
    settings = {
        "DATABASE_URL": catalog.url("idle"), "LASTGOOD_MASTER_KEY": new_master_key(), "LASTGOOD_STORAGE": str(session.run_dir / "idle-store"),
    }
    lastgood = Lastgood(session, binary, settings)
    lastgood.show("migrate")
    for number in range(IDLE_CONSUMERS):
        lastgood.start(f"idle-{number}", "consumer", "--work-dir", str(session.run_dir / f"idle-{number}-work"))
    held = "select count(*) from pg_stat_activity where datname = 'idle' and pid <> pg_backend_pid()"
    limit = IDLE_CONSUMERS * CONNECTIONS_WHEN_IDLE
    most: list[int] = []

    def settled() -> bool:
        most.append(int(catalog.psql(held).strip()))
        return len(most) >= 30 and max(most[-30:]) <= limit
    wait_until(settled, 300, f"{IDLE_CONSUMERS} idle consumers to hold {limit} connections at most for half a minute", pause=1)
    return (f"connections of {IDLE_CONSUMERS} idle consumers, the most in half a minute", f"{max(most[-30:])}", f"≤ {limit}")


def _queue_row(figure: Mapping[str, object]) -> Row:
    kind = figure["bench"]
    if kind == "queue":
        what = f"no-op runs per second, {figure['processes']} process(es) with {figure['slots']} slots each"
        return what, f"{figure['runs_per_second']:.0f}", "> 1,000"
    if kind == "claim":
        what = f"one claim while 1,000 runs wait, {figure['finished']:,} finished runs, p50 / p95"
        return what, f"{figure['p50_ms']} / {figure['p95_ms']} ms", "history costs nothing"
    if kind == "held back":
        what = f"one claim while {figure['runs']:,} runs are held back by a {figure['by']}, p50 / p95"
        return what, f"{figure['p50_ms']} / {figure['p95_ms']} ms; passed over once in {figure['passed_in_seconds']} s", "p95 < 5 ms"
    if kind == "pickup":
        return "pickup latency of an idle consumer, p50 / p95", f"{figure['p50_ms']} / {figure['p95_ms']} ms", "p95 < 5 ms"
    if kind == "tick":
        return f"a tick that enqueues {figure['enqueued']:,} of {figure['resources']:,} resources", f"{figure['seconds']} s", "< 5 s"
    if kind == "fleet":
        return f"{figure['what']} at {figure['resources']:,} resources and runs", f"{figure['seconds']} s", "< 2 s"
    return f"an idle tick at {figure['resources']:,} resources, worst of 10", f"{figure['worst_seconds']} s", "< 0.5 s"
