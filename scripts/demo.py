#!/usr/bin/env python3
"""Shows lastgood's promise on real databases: a worker dies, the customers' data is lost, and all of it comes back. Then it is proven:
drills restore each engine's backups into servers of their own, find the one that lost rows, and an auditor checks the signed proofs.

    make demo           tells the story, checks every claim it makes, and exits 0 when all of them held
    make demo KEEP=1    the same, then leaves everything running to look around until Ctrl-C

    make demo STORE=s3  the same, with the archives in a bucket of a local S3 server

PROFILE=dev uses the development build.
"""

from __future__ import annotations

import os
import shlex
import time
from datetime import datetime, timezone
from typing import Mapping

from lastgood_dev.auditor import export_and_verify
from lastgood_dev.cache import cache_fingerprint, destroy_cache, fill_cache
from lastgood_dev.child import wait_until
from lastgood_dev.customers import (
    Customer, allow_vectors, create_customer, fill_embeddings, fill_shop, fingerprint, locked_table, nearest_documents,
    someone_waits_for,
)
from lastgood_dev.documents import (
    DocumentCustomer, create_document_customer, destroy_orders, document_fingerprint, fill_orders,
)
from lastgood_dev.drills import agree_and_replace, drill_settings, find_lost_rows, lose_rows, prove
from lastgood_dev.mongodb import start_mongodb
from lastgood_dev.operators import Api, ask_twice, drain, fail_and_retry, pause_and_resume, tell_capability
from lastgood_dev.postgres import Postgres, start_postgres
from lastgood_dev.redis import Flavour, Redis, start_redis
from lastgood_dev.repo import ROOT, Failure, say
from lastgood_dev.s3 import BUCKET, start_moto
from lastgood_dev.service import Lastgood, Replica, Run, build, new_master_key
from lastgood_dev.session import Session, guarded

ENGINES = "postgres,vector,mongodb,redis"
RESOURCES = ("shop", "embeddings", "orders", "cache")
LEASE = "10s"
SECONDS_FOR_A_BACKUP = 60


def main(session: Session) -> int:
    binary = build(os.environ.get("PROFILE") or "release")
    began, today = time.monotonic(), datetime.now(timezone.utc).date()

    heading(1, "Team acme has four databases on tier `pro`, which promises: you lose at most an hour of data")
    catalog = start_postgres(session, "catalog")
    shop, embeddings = fill_customers(start_postgres(session, "customers"))
    orders, cache = fill_orders_and_cache(session)
    lastgood = Lastgood(session, binary, settings(session, catalog, shop, embeddings))
    register(lastgood, shop, orders, cache)
    before = fingerprints(shop, embeddings, orders, cache)
    nearest_before = nearest_documents(embeddings)
    show_fingerprints(before)

    heading(2, "One producer and two consumers start; the hourly backups are scheduled at once")
    with locked_table(session, shop, "pgbench_accounts"):
        producer = lastgood.start("producer", "producer", "--tick", "1s", "--reap", "1s", "--lease", LEASE)
        consumers = {
            name: lastgood.start(name, "consumer", "--engines", ENGINES, "--slots", "2", "--lease", LEASE)
            for name in ("consumer-a", "consumer-b")
        }
        for resource in ("embeddings", "orders", "cache"):
            wait_for_restore_point(lastgood, resource)
        wait_until(lambda: someone_waits_for(shop, "pgbench_accounts"), SECONDS_FOR_A_BACKUP, "the shop's dump to begin")
        lastgood.show("run", "list")

        heading(3, "The consumer that is dumping the shop is killed with SIGKILL, in mid-backup")
        interrupted = hourly_backup(lastgood, "shop")
        victim = executing(interrupted, consumers)
        killed_at = kill(victim, consumers[victim])

    heading(4, f"The other consumer takes over when the lease of {LEASE} runs out, and finishes the same hour's backup, once")
    wait_for_restore_point(lastgood, "shop")
    check_taken_over(lastgood, interrupted, time.monotonic() - killed_at)
    lastgood.show("point", "list")

    heading(5, "Disaster: the shop's tables are dropped, most of the embeddings and of the orders are lost, and the cache is flushed")
    destroy(shop, embeddings, orders, cache)

    heading(6, "Restore")
    say("  The shop comes back as a fresh database that swaps names with the ruined one, which is kept:\n")
    lastgood.show("restore", "shop", "--wait")
    say("\n  The embeddings are to come back in place, over what is left. That has to be said in so many words:\n")
    lastgood.show_refusal("restore", "embeddings", "--in-place", "--wait")
    lastgood.show("restore", "embeddings", "--in-place", "--overwrite", "embeddings", "--wait")
    say("\n  So are the orders: each collection of the restore point replaces the one that is there:\n")
    lastgood.show("restore", "orders", "--in-place", "--overwrite", "orders", "--wait")
    say("\n  The cache is empty, so there is nothing to overwrite:\n")
    lastgood.show("restore", "cache", "--wait")

    heading(7, "Is it the same? Every table, collection and key by count and checksum, every index, and a search by meaning")
    after = fingerprints(shop, embeddings, orders, cache)
    check_same(before, after)
    check_same({"search": {"ten nearest documents": nearest_before}}, {"search": {"ten nearest documents": nearest_documents(embeddings)}})

    heading(8, "What the operator sees")
    lastgood.show("status")

    (survivor,) = consumers.keys() - {victim}
    api = operate(lastgood, shop, (survivor, consumers[survivor]))
    drillers, is_found = prove_by_drills(lastgood, catalog, shop)
    heading(16, "Every proof is on record, in a chain of hashes. The team's are exported, signed, and checked by its auditor")
    is_audited = export_and_verify(lastgood, today)

    compared = sum(len(prints) for prints in after.values()) + 1
    found = " and found the one that had lost a table's rows, which every hash had called whole" if is_found else ""
    audited = "; and OpenSSL verified the signature under these proofs" if is_audited else ""
    say(
        f"\nProven in {time.monotonic() - began:.0f} s: a worker killed in mid-backup cost no backup and made no second one, and four"
        f" destroyed databases came back identical ({compared} comparisons of tables, collections, keys, indexes and a vector search);"
        " and an operator paused, resumed, retried and drained without losing a run. Drills proved a backup of each of the"
        f" {len(RESOURCES)} engines{found}{audited}."
    )
    if os.environ.get("KEEP"):
        look_around(lastgood, {"producer": producer, **drillers}, api)
        session.wait_for_interrupt()
    return 0


def operate(lastgood: Lastgood, shop: Customer, survivor: tuple[str, Replica]) -> Api:
    heading(9, "The operator pauses the queue; a backlog builds up; the queue is resumed")
    pause_and_resume(lastgood, RESOURCES)

    heading(10, "A backup fails: there is no such database. Once there is, it is told to try again")
    fail_and_retry(lastgood, shop, "reports")

    heading(11, "Another service asks for a backup before its migration, and asks again because it heard no answer")
    token = lastgood.new_token("shop-deploys", "read,enqueue")
    api = Api(lastgood.start("api", "api"), token)
    ask_twice(api, "shop")

    heading(12, "One replica is drained, the only one that serves MongoDB. What may the website say before and after?")
    lastgood.start("consumer-c", "consumer", "--engines", "postgres,vector,redis", "--slots", "2", "--lease", LEASE)
    # The one that was killed said nothing when it went: it counts for half a minute.
    wait_until(lambda: len(lastgood.live_consumers()) == 2, SECONDS_FOR_A_BACKUP, "the killed consumer to count as dead", pause=0.5)
    before = tell_capability(api, "pro", "mongodb")
    drain(lastgood, *survivor)
    after = tell_capability(api, "pro", "mongodb")
    if (before, after) != (True, False):
        raise Failure(f"MongoDB's backups should be available before and not after, and are {before} and {after}")
    return api


def prove_by_drills(lastgood: Lastgood, catalog: Postgres, shop: Customer) -> tuple[dict[str, Replica], bool]:
    """Returns the consumers that run drills, and whether they were shown a restore point to find wanting."""
    heading(13, "Drills: each newest backup is restored into a server of the consumer's own, and compared with what was dumped")
    drillers = {"consumer-d": start_driller(lastgood, "consumer-d")}
    prove(lastgood, RESOURCES)

    heading(14, "A dump loses the rows of a table, and every hash agrees. Reading the archive back sees nothing; a drill does")
    if lastgood.settings["LASTGOOD_STORAGE"].startswith("s3://"):
        say("  NOT SHOWN, nor step 15, with STORE=s3: such an archive is made by writing to files in the store.")
        return drillers, False
    lacking = lose_rows(lastgood, catalog, shop.server)
    find_lost_rows(lastgood, lacking)

    heading(15, "One consumer may be mistaken. Another one agrees: the restore point is quarantined, and replaced by one that is proven")
    drillers["consumer-e"] = start_driller(lastgood, "consumer-e")
    agree_and_replace(lastgood, lacking)
    return drillers, True


def start_driller(lastgood: Lastgood, name: str) -> Replica:
    return lastgood.start(name, "consumer", "--engines", ENGINES, "--slots", "2", "--drill-slots", "1", "--lease", LEASE)


def heading(number: int, text: str) -> None:
    say(f"\n{number}. {text}\n")


def settings(session: Session, catalog: Postgres, shop: Customer, embeddings: Customer) -> dict[str, str]:
    catalog.psql("create database lastgood")
    return {
        "DATABASE_URL": catalog.url("lastgood"),
        **store(session),
        **drill_settings(session, shop.server.bin),
        "LASTGOOD_MASTER_KEY": new_master_key(),
        "LASTGOOD_PLANS": str(ROOT / "plans.yaml"),
        "LASTGOOD_WORK_DIR": str(session.run_dir / "work"),
        "LASTGOOD_PG_CLIENT_DIRS": str(shop.server.bin),
        "EMBEDDINGS_URL": embeddings.url,
    }


def store(session: Session) -> dict[str, str]:
    """Returns where archives go: a directory, or with STORE=s3 a bucket on a server of our own."""
    wanted = os.environ.get("STORE") or "directory"
    if wanted == "s3":
        return {**start_moto(session, "s3").environment(), "LASTGOOD_STORAGE": f"s3://{BUCKET}/demo"}
    if wanted != "directory":
        raise Failure(f"STORE={wanted} is neither s3 nor directory")
    storage = session.run_dir / "storage"
    storage.mkdir()
    return {"LASTGOOD_STORAGE": str(storage)}


def fill_customers(server: Postgres) -> tuple[Customer, Customer]:
    allow_vectors(server)
    shop, embeddings = create_customer(server, "shop"), create_customer(server, "embeddings")
    fill_shop(shop)
    fill_embeddings(embeddings)
    return shop, embeddings


def fill_orders_and_cache(session: Session) -> tuple[DocumentCustomer, Redis]:
    orders = create_document_customer(start_mongodb(session, "mongodb"), "orders")
    cache = start_redis(session, "cache", Flavour.VALKEY9)
    fill_orders(orders)
    fill_cache(cache)
    return orders, cache


def register(lastgood: Lastgood, shop: Customer, orders: DocumentCustomer, cache: Redis) -> None:
    """Three secrets are sealed in the catalog under the master key; the other stays in the consumers' environment."""
    pro = ("--team", "acme", "--tier", "pro")
    lastgood.show("migrate")
    lastgood.show("resource", "add", "shop", *pro, "--engine", "postgres", "--url-stdin", stdin=shop.url)
    lastgood.show("resource", "add", "embeddings", *pro, "--engine", "vector", "--connection", "env:EMBEDDINGS_URL")
    lastgood.show("resource", "add", "orders", *pro, "--engine", "mongodb", "--url-stdin", stdin=orders.url)
    lastgood.show("resource", "add", "cache", *pro, "--engine", "redis", "--url-stdin", stdin=cache.url())


def fingerprints(
    shop: Customer, embeddings: Customer, orders: DocumentCustomer, cache: Redis
) -> dict[str, dict[str, str]]:
    return {
        "shop": fingerprint(shop), "embeddings": fingerprint(embeddings),
        "orders": document_fingerprint(orders), "cache": cache_fingerprint(cache),
    }


def show_fingerprints(customers: Mapping[str, Mapping[str, str]]) -> None:
    say()
    for customer, prints in customers.items():
        for what, value in prints.items():
            say(f"  {customer}: {what}: {value}")


def wait_for_restore_point(lastgood: Lastgood, resource: str) -> None:
    wait_until(
        lambda: len(lastgood.restore_points(resource)) > 0, SECONDS_FOR_A_BACKUP, f"a restore point of {resource}", pause=0.2
    )


def hourly_backup(lastgood: Lastgood, resource: str) -> Run:
    """Returns the one scheduled backup of a resource; a second one for the same hour breaks the promise."""
    found = [run for run in lastgood.runs() if run.resource == resource and run.kind == "backup" and run.trigger == "scheduled"]
    if len(found) != 1:
        raise Failure(f"{resource} should have one scheduled backup in this hour, and has {len(found)}")
    return lastgood.run(found[0].id)


def executing(run: Run, consumers: Mapping[str, Replica]) -> str:
    """Returns the name of the consumer that holds a run's lease: `HOST-PROCESS-RANDOM`."""
    for name, consumer in consumers.items():
        if run.consumer and f"-{consumer.child.pid}-" in run.consumer:
            return name
    raise Failure(f"run {run.id} is {run.state}, and held by {run.consumer}, which is none of our consumers")


def kill(name: str, consumer: Replica) -> float:
    say(f"  $ kill -9 {consumer.child.pid}   # {name}")
    consumer.child.kill()
    return time.monotonic()


def check_taken_over(lastgood: Lastgood, interrupted: Run, seconds: float) -> None:
    wait_until(lambda: lastgood.run(interrupted.id).state == "succeeded", SECONDS_FOR_A_BACKUP, "the run to be closed", pause=0.2)
    finished = hourly_backup(lastgood, "shop")
    points = lastgood.restore_points("shop")
    if finished.id != interrupted.id or finished.attempt <= interrupted.attempt:
        raise Failure(f"run {interrupted.id} should have been finished by a later attempt, and is {finished}")
    if len(points) != 1:
        raise Failure(f"the shop should have one restore point, and has {len(points)}")
    say(f"  finished {seconds:.1f} s after the kill, by attempt {finished.attempt} of the same run; one restore point exists\n")


def destroy(shop: Customer, embeddings: Customer, orders: DocumentCustomer, cache: Redis) -> None:
    for customer, sql in (
        (shop, "drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers"),
        (embeddings, "drop index documents_by_meaning; delete from documents where id > 40"),
    ):
        say(f"  {customer.database}=> {sql};")
        customer.psql(sql)
    for command in destroy_orders(orders):
        say(f"  orders> {command}")
    for command in destroy_cache(cache):
        say(f"  cache> {command}")


def check_same(before: Mapping[str, Mapping[str, str]], after: Mapping[str, Mapping[str, str]]) -> None:
    for customer, prints in before.items():
        for what, value in prints.items():
            if after[customer].get(what) != value:
                raise Failure(f"{customer}: {what} was\n{value}\nand is\n{after[customer].get(what)}")
            say(f"  {customer}: {what}: identical")
        extra = after[customer].keys() - prints.keys()
        if extra:
            raise Failure(f"{customer} has what it did not have before: {', '.join(sorted(extra))}")


def look_around(lastgood: Lastgood, replicas: Mapping[str, Replica], api: Api) -> None:
    say("\nEverything is still running. In another terminal:\n")
    for name, value in lastgood.settings.items():
        say(f"  export {name}={shlex.quote(value)}")
    say(f"  export PATH={shlex.quote(str(lastgood.binary.parent))}:$PATH\n")
    for command in (
        "status", "run list", "point list", "plans show", "proof list", "doctor", "backup now shop --wait", "drill now shop --wait",
    ):
        say(f"  lastgood {command}")
    for name, replica in replicas.items():
        say(f"  curl {replica.metrics_url}   # {name}")
    say("\n  TOKEN=$(lastgood token create --name me --scope admin)")
    say(f'  curl -H "Authorization: Bearer $TOKEN" http://127.0.0.1:{api.replica.port}/api/v1/status')
    say(f"  http://127.0.0.1:{api.replica.port}/api/docs   # in a browser")
    say("\nCtrl-C stops it all.")


if __name__ == "__main__":
    guarded(main)
