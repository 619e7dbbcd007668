"""How fast are the queue, the pickup and the ticks?"""

from __future__ import annotations

import json
import subprocess
from typing import Mapping

from ..measure import Row
from ..postgres import Postgres
from ..repo import ROOT, Failure, offline_sqlx_env, say


def queue_figures(catalog: Postgres) -> list[Row]:
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


def _queue_row(figure: Mapping[str, object]) -> Row:
    if figure["bench"] == "queue":
        what = f"no-op runs per second, {figure['processes']} process(es) with {figure['slots']} slots each"
        return what, f"{figure['runs_per_second']:.0f}", "> 1,000"
    if figure["bench"] == "claim":
        what = f"one claim while 1,000 runs wait, {figure['finished']:,} finished runs, p50 / p95"
        return what, f"{figure['p50_ms']} / {figure['p95_ms']} ms", "history costs nothing"
    if figure["bench"] == "pickup":
        return "pickup latency of an idle consumer, p50 / p95", f"{figure['p50_ms']} / {figure['p95_ms']} ms", "p95 < 50 ms"
    if figure["bench"] == "tick":
        return f"a tick that enqueues {figure['enqueued']:,} of {figure['resources']:,} resources", f"{figure['seconds']} s", "< 5 s"
    if figure["bench"] == "fleet":
        return f"{figure['what']} at {figure['resources']:,} resources and runs", f"{figure['seconds']} s", "< 2 s"
    return f"an idle tick at {figure['resources']:,} resources, worst of 10", f"{figure['worst_seconds']} s", "< 0.5 s"
