#!/usr/bin/env python3
"""Kills consumers and an S3 server at random under hundreds of backups, and then counts what is left.

    make soak                500 backups of three engines into an S3 server that is killed too, 100 into one that lists unfinished uploads
    make soak BACKUPS=50     fewer
    SEED=7 make soak         the same kills in the same order

Passes when every backup ended as a restore point, each of them reads back whole, some are restored and compared, and the stores
hold nothing else: no manifest without its archive, no archive without its manifest, no unfinished upload.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Mapping

from lastgood_dev.cache import cache_fingerprint, destroy_cache, fill_cache
from lastgood_dev.child import Child, wait_until
from lastgood_dev.customers import Customer, create_customer
from lastgood_dev.documents import create_document_customer, document_fingerprint, fill_orders
from lastgood_dev.mongodb import start_mongodb
from lastgood_dev.postgres import Postgres, start_postgres
from lastgood_dev.redis import Flavour, Redis, start_redis
from lastgood_dev.repo import Failure, say
from lastgood_dev.s3 import BUCKET, S3Server, start_moto, start_s3s
from lastgood_dev.service import Lastgood, Replica, build, new_master_key
from lastgood_dev.session import Session, guarded

CONSUMERS = 3
LEASE = "3s"
SECONDS_FOR_ALL = 3600
RANDOM_MB = 10  # more than one part of an upload
JANITOR_AGE = "1s"  # nothing is under way when it sweeps


def main(session: Session) -> int:
    binary = build(os.environ.get("PROFILE") or "release")
    backups = int(os.environ.get("BACKUPS") or 500)
    chance = random.Random(int(os.environ.get("SEED") or time.time()))
    catalog = start_postgres(session, "catalog")
    customers = Customers.start(session)

    say(f"\n1. {backups} backups into an S3 server; consumers and the server are killed")
    durable = Restarting(start_s3s(session, "durable"), session)
    soak = Soak(session, binary, catalog, customers, durable.server, "durable")
    soak.run(backups, chance, durable)
    check_files(soak, durable.directory(session))
    soak.check_points(backups)

    say(f"\n2. {backups // 5} backups into an S3 server that lists unfinished uploads; consumers are killed")
    listing = start_moto(session, "listing")
    soak = Soak(session, binary, catalog, customers, listing, "listing")
    soak.run(backups // 5, chance, None)
    wait_until(lambda: unfinished_uploads(listing) == 0, 60, "the janitor to abort unfinished uploads")
    soak.check_points(backups // 5)
    say("\nProven: every backup is a restore point that reads back whole, and the stores hold nothing else.")
    return 0


@dataclass(frozen=True)
class Customers:
    """Three databases that stay as they are."""

    shop: Customer
    cache: Redis
    orders: object
    prints: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def start(cls, session: Session) -> Customers:
        shop = create_customer(start_postgres(session, "customers"), "shop")
        shop.psql(f"""create table noise as select n, string_agg(md5(n || ' ' || m), '') as t
            from generate_series(1, {RANDOM_MB * 10}) n, generate_series(1, 6000) m group by n""")
        cache = start_redis(session, "cache", Flavour.VALKEY9)
        fill_cache(cache)
        orders = create_document_customer(start_mongodb(session, "mongodb"), "orders")
        fill_orders(orders)
        return cls(shop, cache, orders, {"cache": cache_fingerprint(cache), "orders": document_fingerprint(orders), "shop": noise(shop)})


def noise(shop: Customer) -> str:
    return shop.psql("select md5(string_agg(t, '' order by n)) from noise").strip()


class Restarting:
    """An S3 server that comes back with what it had, on its port."""

    def __init__(self, server: S3Server, session: Session) -> None:
        self.server = server
        self._session = session
        self._child: Child = server.child

    def directory(self, session: Session) -> Path:
        return session.run_dir / "durable" / "data" / BUCKET

    def kill_and_restart(self, away_seconds: float) -> None:
        self._child.kill()
        time.sleep(away_seconds)
        self._child = self._session.start(self.server.start_again())


class Soak:
    """One catalog, one store, and consumers that die."""

    def __init__(self, session: Session, binary: Path, catalog: Postgres, customers: Customers, store: S3Server, name: str) -> None:
        catalog.psql(f"create database soak_{name}")
        self._session, self._catalog, self._name, self._customers = session, catalog, name, customers
        self.lastgood = Lastgood(session, binary, {
            "DATABASE_URL": catalog.url(f"soak_{name}"),
            "LASTGOOD_STORAGE": f"s3://{BUCKET}/soak",
            "LASTGOOD_MASTER_KEY": new_master_key(),
            "LASTGOOD_WORK_DIR": str(session.run_dir / f"work-{name}"),
            "LASTGOOD_PG_CLIENT_DIRS": str(customers.shop.server.bin),
            "LASTGOOD_LOG": "warn",
            "SHOP_URL": customers.shop.url, "CACHE_URL": customers.cache.url(), "ORDERS_URL": customers.orders.url,
            **store.environment(),
        })
        self._starts = 0
        self.kills: dict[str, int] = {"consumers": 0, "the S3 server": 0}
        self.lastgood.show("migrate")
        for resource, engine in (("shop", "postgres"), ("cache", "redis"), ("orders", "mongodb")):
            self.lastgood.show(
                "resource", "add", resource, "--team", "acme", "--tier", "free", "--engine", engine,
                "--connection", f"env:{resource.upper()}_URL",
            )

    def sql(self, statement: str) -> str:
        return self._catalog.psql(statement, f"soak_{self._name}").strip()

    def start_consumer(self, *args: str) -> Replica:
        self._starts += 1
        return self.lastgood.start(f"{self._name}-{self._starts}", "consumer", "--slots", "1", "--lease", LEASE, "--poll", "500ms", *args)

    def run(self, backups: int, chance: random.Random, server: Restarting | None) -> None:
        """Ends when all backups have; every one of them must have succeeded, however often it was killed."""
        self.lastgood.start(f"{self._name}-producer", "producer", "--reap", "1s", "--lease", LEASE)
        self.sql(f"""insert into lastgood.runs (queue, kind, trigger, resource_id, args, max_attempts)
            select r.engine, 'backup', 'adhoc', r.id, '{{"kind": "backup"}}', 10000
            from generate_series(1, {backups}) n join lastgood.resources r on r.id = (array['shop', 'cache', 'orders'])[1 + n % 3]""")
        consumers = [self.start_consumer() for _ in range(CONSUMERS)]
        deadline = time.monotonic() + SECONDS_FOR_ALL
        while (left := int(self.sql("select count(*) from lastgood.runs where finished_at is null"))) > 0:
            if time.monotonic() > deadline:
                raise Failure(f"{left} backups are not done after {SECONDS_FOR_ALL} s")
            time.sleep(chance.uniform(0.5, 2.5))
            if server is not None and chance.random() < 0.25:
                server.kill_and_restart(chance.uniform(0.1, 1.5))
                self.kills["the S3 server"] += 1
            else:
                victim = chance.randrange(CONSUMERS)
                consumers[victim].child.kill()
                consumers[victim] = self.start_consumer()
                self.kills["consumers"] += 1
        attempts = self.sql("select sum(attempt) from lastgood.runs")
        say(f"  done in {attempts} attempts; killed: " + ", ".join(f"{who} {times} times" for who, times in self.kills.items()))
        failed = self.sql("select resource_id || ': ' || error_kind || ': ' || error from lastgood.runs where state <> 'succeeded'")
        if failed:
            raise Failure(f"backups failed:\n{failed}")
        for consumer in consumers:
            consumer.child.stop()
        self._keeper = self.start_consumer()

    def check_points(self, backups: int) -> None:
        points = int(self.sql("select count(*) from lastgood.restore_points"))
        if points != backups:
            raise Failure(f"{backups} backups succeeded, and there are {points} restore points")
        self.lastgood.show("verify", "--all", "--wait")
        whole = int(self.sql("select count(*) from lastgood.restore_points where verified_at is not null and quarantined_at is null"))
        if whole != backups:
            raise Failure(f"{whole} of {backups} restore points read back whole")
        self.restore_and_compare()
        self._keeper.child.stop()
        self.start_consumer("--janitor-age", JANITOR_AGE, "--job-timeout", JANITOR_AGE)
        say(f"  {backups} restore points, all of which read back whole; one of each engine was restored and is the same")

    def restore_and_compare(self) -> None:
        customers = self._customers
        customers.shop.psql("delete from noise")
        destroy_cache(customers.cache)
        for resource in ("shop", "cache", "orders"):
            point = self.sql(f"select id from lastgood.restore_points where resource_id = '{resource}' order by random() limit 1")
            in_place = () if resource == "cache" else ("--in-place", "--overwrite", resource)
            self.lastgood.show("restore", resource, "--point", point, *in_place, "--wait")
        after = {"cache": cache_fingerprint(customers.cache), "orders": document_fingerprint(customers.orders), "shop": noise(customers.shop)}
        for resource, before in customers.prints.items():
            if after[resource] != before:
                raise Failure(f"{resource} is not as it was: {before} became {after[resource]}")


def check_files(soak: Soak, bucket: Path) -> None:
    """Each archive has its manifest and each manifest its archive, by the server's own files."""
    def left_over() -> list[str]:
        names = [str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()]
        manifests = {name for name in names if name.endswith(".manifest.json")}
        described = {"soak/" + json.loads((bucket / name).read_text())["archive"]["key"] for name in manifests}
        archives = {name for name in names if re.search(r"-e\d+\.[a-z]+\.zst(\.age)?$", name)}
        missing = described - archives
        if missing:
            raise Failure(f"manifests without their archives: {sorted(missing)[:5]}")
        return sorted(archives - described)

    wait_until(lambda: not left_over(), 60, "the janitor to remove archives without a manifest")
    say("  no manifest without its archive, no archive without its manifest")


def unfinished_uploads(server: S3Server) -> int:
    with urllib.request.urlopen(f"{server.url}/{BUCKET}?uploads", timeout=30) as answer:
        return answer.read().count(b"<UploadId>")


if __name__ == "__main__":
    guarded(main)
