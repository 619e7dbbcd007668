"""How fast does the HTTP API take requests for backups?"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import statistics
import time
import uuid
from pathlib import Path

from ..child import run
from ..measure import Row
from ..postgres import Postgres
from ..repo import Failure
from ..service import Lastgood, new_master_key
from ..session import Session

RESOURCES = 200
TEAMS = 20
CLIENTS = 8
SECONDS = 15


def api_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """Requests for ad-hoc backups, each with a key of its own, over kept connections from clients on the same machine."""
    catalog.psql("create database lastgood_api")
    settings = {"DATABASE_URL": catalog.url("lastgood_api"), "LASTGOOD_MASTER_KEY": new_master_key()}
    lastgood = Lastgood(session, binary, settings)
    lastgood.show("migrate")
    catalog.psql(
        "insert into lastgood.resources (id, team, tier, engine, connection_ref)"
        f" select 'shop-' || n, 'team-' || n % {TEAMS}, 'pro', 'postgres', 'env:SHOP_URL' from generate_series(0, {RESOURCES - 1}) n",
        "lastgood_api",
    )
    lastgood.show("limits", "set", "--per-resource", "1000000", "--per-team", "1000000")
    made = run([binary, "--json", "token", "create", "--name", "bench", "--scope", "enqueue"], env={**os.environ, **settings})
    token = json.loads(made.stdout)["secret"]
    api = lastgood.start("api", "api")
    with multiprocessing.get_context("spawn").Pool(CLIENTS) as clients:
        taken = [seconds for each in clients.starmap(_ask_for_a_while, [(api.port, token, n) for n in range(CLIENTS)]) for seconds in each]
    runs = int(catalog.psql("select count(*) from lastgood.runs", "lastgood_api").strip())
    if runs != len(taken):
        raise Failure(f"{len(taken)} requests were accepted, and {runs} runs are there")
    p95 = statistics.quantiles(taken, n=20)[-1]
    return [(f"requests for ad-hoc backups by HTTP, {CLIENTS} clients", f"{len(taken) / SECONDS:.0f}/s, p95 {p95 * 1000:.1f} ms", "–")]


def _ask_for_a_while(port: int, token: str, client: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    end = time.monotonic() + SECONDS
    number = client
    while (began := time.monotonic()) < end:
        number += 1
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
        connection.request("POST", f"/api/v1/resources/shop-{number % RESOURCES}/backups", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 202:
            raise RuntimeError(f"status {answer.status}: {body.decode()}")
        taken.append(time.monotonic() - began)
    return taken
