#!/usr/bin/env python3
"""Kills consumers and an S3 server at random under hundreds of backups, takes away what they stand on, and then counts what is left.

    make soak                500 backups of three engines into an S3 server that is killed too, 100 into one that lists unfinished uploads
    make soak BACKUPS=50     fewer
    make soak PART=rewound   one part: killed, listing, rewound, vanishing, full, jumping
    SEED=7 make soak         the same kills in the same order

The other parts are short: 30 backups each, in the middle of which the catalog is put back to what it was a moment ago, the store's directory
vanishes and comes back, the store is full, or the catalog's clock is found to have been six hours ahead.

Each passes when every backup ended as a restore point, each of them reads back whole, some are restored and compared, and the stores
hold nothing else: no manifest without its archive, no archive without its manifest, no unfinished upload.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Mapping

from lastgood_dev.cache import cache_fingerprint, destroy_cache, fill_cache
from lastgood_dev.child import Child, run, wait_until
from lastgood_dev.customers import Customer, create_customer
from lastgood_dev.documents import create_document_customer, document_fingerprint, fill_orders
from lastgood_dev.mongodb import start_mongodb
from lastgood_dev.postgres import Postgres, start_postgres
from lastgood_dev.redis import Flavour, Redis, start_redis
from lastgood_dev.repo import Failure, say
from lastgood_dev.s3 import BUCKET, S3Server, start_moto, start_s3s
from lastgood_dev.s3_gate import S3Gate
from lastgood_dev.service import Lastgood, Replica, build, new_master_key
from lastgood_dev.session import Session, guarded

CONSUMERS = 3
LEASE = "3s"
SECONDS_FOR_ALL = 3600
RANDOM_MB = 10  # more than one part of an upload
JANITOR_AGE = "1s"  # nothing is under way when it sweeps
TROUBLED = 30  # backups of each part with an outage
SECONDS_AWAY = 4
HOURS_AHEAD = 6
PARTS = ("killed", "listing", "rewound", "vanishing", "full", "jumping")


def main(session: Session) -> int:
    binary = build(os.environ.get("PROFILE") or "release")
    backups = int(os.environ.get("BACKUPS") or 500)
    chance = random.Random(int(os.environ.get("SEED") or time.time()))
    catalog = start_postgres(session, "catalog")
    customers = Customers.start(session)

    wanted = (os.environ.get("PART") or ",".join(PARTS)).split(",")
    if unknown := set(wanted) - set(PARTS):
        raise Failure(f"there is no part {', '.join(sorted(unknown))}: the parts are {', '.join(PARTS)}")

    if "killed" in wanted:
        say(f"\nkilled: {backups} backups into an S3 server; consumers and the server are killed")
        durable = Restarting(start_s3s(session, "durable"), session)
        soak = Soak(session, binary, catalog, customers, durable.server.environment(), "durable")
        soak.run(backups, chance, durable)
        soak.check_points(backups)
        check_files(soak, durable.directory(session), "soak/")

    if "listing" in wanted:
        say(f"\nlisting: {backups // 5} backups into an S3 server that lists unfinished uploads; consumers are killed")
        listing = start_moto(session, "listing")
        soak = Soak(session, binary, catalog, customers, listing.environment(), "listing")
        soak.run(backups // 5, chance, None)
        soak.check_points(backups // 5)
        wait_until(lambda: unfinished_uploads(listing) == 0, 60, "the janitor to abort unfinished uploads")

    for part, trouble in (("rewound", rewound), ("vanishing", vanishing), ("full", full), ("jumping", jumping)):
        if part in wanted:
            trouble(session, binary, catalog, customers)
    say("\nProven: every backup is a restore point that reads back whole, and the stores hold nothing else.")
    return 0


def rewound(session: Session, binary: Path, _: Postgres, customers: Customers) -> None:
    say(f"\nrewound: {TROUBLED} backups; the catalog loses what it had committed, as after a failover, while consumers run")
    catalog = Rewinding(start_postgres(session, "rewound-catalog"))
    store = session.run_dir / "rewound-store"
    soak = Soak(session, binary, catalog.server, customers, {}, "rewound", str(store))
    soak.run_through(TROUBLED, before=catalog.remember, trouble=catalog.rewind)
    soak.check_points(TROUBLED)
    check_files(soak, store / "objects", "")


def vanishing(session: Session, binary: Path, catalog: Postgres, customers: Customers) -> None:
    say(f"\nvanishing: {TROUBLED} backups; the store's directory goes away for {SECONDS_AWAY} s, and comes back")
    store, aside = session.run_dir / "vanishing-store", session.run_dir / "vanishing-store.away"
    soak = Soak(session, binary, catalog, customers, {}, "vanishing", str(store))

    def trouble() -> None:
        store.rename(aside)
        time.sleep(SECONDS_AWAY)
        if store.exists():
            raise Failure("the store was made anew where it had been: what was written there is lost")
        aside.rename(store)

    soak.run_through(TROUBLED, trouble=trouble)
    soak.check_points(TROUBLED)
    check_files(soak, store / "objects", "")


def full(session: Session, binary: Path, catalog: Postgres, customers: Customers) -> None:
    say(f"\nfull: {TROUBLED} backups; the store is full for {SECONDS_AWAY} s")
    server = start_s3s(session, "full")
    gate = S3Gate(server)
    environment = {**server.environment(), "AWS_ENDPOINT_URL_S3": gate.url}
    soak = Soak(session, binary, catalog, customers, environment, "full")

    def trouble() -> None:
        gate.is_full.set()
        time.sleep(SECONDS_AWAY)
        wait_until(lambda: gate.refused > 0, 60, "the full store to refuse something")
        gate.is_full.clear()

    soak.run_through(TROUBLED, trouble=trouble)
    soak.check_points(TROUBLED)
    check_files(soak, session.run_dir / "full" / "data" / BUCKET, "soak/")


def jumping(session: Session, binary: Path, catalog: Postgres, customers: Customers) -> None:
    say(f"\njumping: {TROUBLED} backups; the catalog's clock was {HOURS_AHEAD} h ahead, and is set right")
    store = session.run_dir / "jumping-store"
    soak = Soak(session, binary, catalog, customers, {}, "jumping", str(store))

    def trouble() -> None:
        # What a clock that was ahead had written, seen by one that is right.
        ahead = f"interval '{HOURS_AHEAD} hours'"
        soak.sql(f"update lastgood.runs set run_at = run_at + {ahead}, lease_until = lease_until + {ahead} where finished_at is null")
        soak.sql(f"update lastgood.resources set next_due_at = next_due_at + {ahead}")
        # One that had run all along would see the clock go back; this one sees what was left behind when it starts.
        soak.producer.child.stop()
        soak.start_producer()

    soak.run_through(TROUBLED, trouble=trouble)
    soak.check_points(TROUBLED)
    check_files(soak, store / "objects", "")


class Rewinding:
    """A catalog that can be put back to what it was."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._child = server.child
        self._then = server.data.with_name("data.then")

    def remember(self) -> None:
        self._child.stop()
        self._copy(self.server.data, self._then)
        self._child = self.server.start_again()

    def rewind(self) -> None:
        self._child.kill()
        self._child.stop()
        shutil.rmtree(self.server.data)
        self._copy(self._then, self.server.data)
        self._child = self.server.start_again()

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        done = run(["cp", "-a", source, target])
        if done.returncode != 0:
            raise Failure(f"cannot copy {source}: {done.stderr.strip()}")


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

    def __init__(
        self, session: Session, binary: Path, catalog: Postgres, customers: Customers, environment: Mapping[str, str], name: str,
        storage: str = f"s3://{BUCKET}/soak",
    ) -> None:
        catalog.psql(f"create database soak_{name}")
        self._session, self._catalog, self._name, self._customers = session, catalog, name, customers
        self.lastgood = Lastgood(session, binary, {
            "DATABASE_URL": catalog.url(f"soak_{name}"),
            "LASTGOOD_STORAGE": storage,
            "LASTGOOD_MASTER_KEY": new_master_key(),
            "LASTGOOD_WORK_DIR": str(session.run_dir / f"work-{name}"),
            "LASTGOOD_PG_CLIENT_DIRS": str(customers.shop.server.bin),
            "LASTGOOD_LOG": "warn",
            "SHOP_URL": customers.shop.url, "CACHE_URL": customers.cache.url(), "ORDERS_URL": customers.orders.url,
            **environment,
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
        self.start_producer()
        self.ask_for(backups)
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
        self._end(consumers)

    def run_through(self, backups: int, trouble: Callable[[], None], before: Callable[[], None] = lambda: None) -> None:
        """The same with consumers that live, and one trouble after a third of the backups."""
        self.start_producer()
        self.ask_for(backups)
        before()
        consumers = [self.start_consumer() for _ in range(CONSUMERS)]
        wait_until(lambda: self.left() <= backups - backups // 3, SECONDS_FOR_ALL, "a third of the backups", pause=0.1)
        trouble()
        wait_until(lambda: self.left() == 0, SECONDS_FOR_ALL, "all of the backups", pause=0.5)
        say(f"  done in {self.sql('select sum(attempt) from lastgood.runs')} attempts")
        self._end(consumers)

    def start_producer(self) -> None:
        self._starts += 1
        self.producer = self.lastgood.start(
            f"{self._name}-producer-{self._starts}", "producer", "--tick", "1s", "--reap", "1s", "--lease", LEASE,
        )

    def ask_for(self, backups: int) -> None:
        self.sql(f"""insert into lastgood.runs (queue, kind, trigger, resource_id, args, max_attempts)
            select r.engine, 'backup', 'adhoc', r.id, '{{"kind": "backup"}}', 10000
            from generate_series(1, {backups}) n join lastgood.resources r on r.id = (array['shop', 'cache', 'orders'])[1 + n % 3]""")

    def left(self) -> int:
        return int(self.sql("select count(*) from lastgood.runs where finished_at is null and trigger = 'adhoc'"))

    def _end(self, consumers: list[Replica]) -> None:
        failed = self.sql("select resource_id || ': ' || error_kind || ': ' || error from lastgood.runs where state <> 'succeeded'")
        if failed:
            raise Failure(f"backups failed:\n{failed}")
        for consumer in consumers:
            consumer.child.stop()
        self._keeper = self.start_consumer()

    def check_points(self, backups: int) -> None:
        """Every backup is a point that reads back whole. Leaves a consumer whose janitor removes what no point needs."""
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


def check_files(soak: Soak, bucket: Path, prefix: str) -> None:
    """Each archive has its manifest and each manifest its archive, by the server's own files."""
    def left_over() -> list[str]:
        names = [str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file()]
        manifests = {name for name in names if name.endswith(".manifest.json")}
        described = {prefix + json.loads((bucket / name).read_text())["archive"]["key"] for name in manifests}
        archives = {name for name in names if re.search(r"-e\d+(-[0-9a-f]{32})?\.[a-z]+\.zst(\.age)?$", name)}
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
