#!/usr/bin/env python3
"""Measures what BENCHMARKS.md claims, each figure as a ratio of things measured in the same run.

    make bench            all of it, on a PostgreSQL database of 1.2 GB (about ten minutes after the build)
    make bench SCALE=160  on one twice as large
    make bench ONLY=redis one part: queue, postgres, mongodb, redis, encryption, api or stores

Prints a line a figure as it comes, and a table at the end. Takes the median of three interleaved rounds.
"""

from __future__ import annotations

import os

from lastgood_dev.benches.api import api_figures
from lastgood_dev.benches.encryption import encryption_figures
from lastgood_dev.benches.mongodb import mongodb_figures
from lastgood_dev.benches.postgres import postgres_figures
from lastgood_dev.benches.queue import queue_figures
from lastgood_dev.benches.redis import redis_figures
from lastgood_dev.benches.stores import stores_figures
from lastgood_dev.postgres import Durability, start_postgres
from lastgood_dev.repo import Failure, say
from lastgood_dev.service import build
from lastgood_dev.session import Session, guarded


def main(session: Session) -> int:
    binary = build("release")
    # Measured with the settings that a careful operator runs: commits survive a power cut.
    catalog = start_postgres(session, "catalog", durability=Durability.DURABLE, settings=("shared_buffers=512MB", "max_wal_size=4GB"))
    parts = {
        "queue": lambda: queue_figures(session, binary, catalog),
        "postgres": lambda: postgres_figures(session, binary, catalog),
        "mongodb": lambda: mongodb_figures(session, binary, catalog),
        "redis": lambda: redis_figures(session, binary, catalog),
        "encryption": lambda: encryption_figures(session, binary, catalog),
        "api": lambda: api_figures(session, binary, catalog),
        "stores": lambda: stores_figures(session, binary, catalog),
    }
    only = os.environ.get("ONLY") or ""
    if only and only not in parts:
        raise Failure(f"ONLY={only}: there is {', '.join(parts)}")
    rows = [row for name, figures in parts.items() if only in ("", name) for row in figures()]
    say("\n| what | measured | aim |\n| --- | --- | --- |")
    for what, measured, aim in rows:
        say(f"| {what} | {measured} | {aim} |")
    return 0


if __name__ == "__main__":
    guarded(main)
