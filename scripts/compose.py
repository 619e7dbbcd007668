#!/usr/bin/env python3
"""Runs what docker-compose.yml runs, without Docker: every command of lastgood's own services, in their order, with their environment.

The servers beside them are those of the tests: PostgreSQL for the catalog and the customers, MongoDB, Valkey for Redis,
moto for the bucket. Passes when each of the four samples has a restore point, every service is healthy by the image's own check,
every panel of the dashboard shows something, no alert fires, and a second start changes nothing. Images, mounts, users and networks are not tried here: those need Docker.
"""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from lastgood_dev.child import Child, run, wait_until
from lastgood_dev.compose import Service, fresh_volumes, services
from lastgood_dev.dashboard import Panel, panels
from lastgood_dev.mongodb import start_mongodb
from lastgood_dev.ports import free_port
from lastgood_dev.postgres import start_postgres, without_libpq
from lastgood_dev.prometheus import Prometheus, start_prometheus
from lastgood_dev.redis import Flavour, start_redis
from lastgood_dev.program import SKIP
from lastgood_dev.repo import ROOT, Failure, Unavailable, say
from lastgood_dev.s3 import BUCKET, start_moto
from lastgood_dev.service import build
from lastgood_dev.session import Session, guarded

SAMPLES = ("shop", "embeddings", "orders", "cache")
SECONDS = 60
# Nothing failed, and there is one store.
# There is no mirror, and no tier of plans.yaml has an objective.
NOTHING_TO_SHOW = {"Copies that mirrors lack", "Error budget left", "Burn rate"}


@dataclass
class Stack:
    """The file's services on this machine. `places` are the addresses behind the names of its network."""

    session: Session
    binary: Path
    services: dict[str, Service]
    volumes: Path
    places: dict[str, str]
    client_tools: str = ""
    listening: list[str] = field(default_factory=list)

    def run(self, name: str) -> None:
        """Runs a one-shot service to its end."""
        self.ask(name, *self.services[name].argv(self.binary, self.places))
        say(f"  {name}: done")

    def ask(self, name: str, *argv: str) -> str:
        """Runs a command in a service's environment, and returns what it says."""
        service = self.services[name]
        done = run(argv, env=self._environment(service), cwd=self.session.run_dir)
        if done.returncode != 0:
            raise Failure(f"{name}: `{' '.join(argv)}` exited with code {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, name: str) -> None:
        """Starts every replica of a service and waits until the image's health check passes."""
        service = self.services[name]
        for replica in range(1, service.replicas + 1):
            address = f"127.0.0.1:{free_port()}"
            env = {**self._environment(service), "LASTGOOD_LISTEN": address}
            child = self.session.start(Child(
                f"{name}-{replica}", service.argv(self.binary, self.places), env=env,
                log=self.session.run_dir / f"{name}-{replica}.log", cwd=self.session.run_dir,
            ))
            self.session.tell_on_failure(child)
            wait_until(
                lambda: child.exit_code() is not None or run([self.binary, "health"], env=env).returncode == 0,
                SECONDS, f"{child.name} to be healthy",
            )
            if child.exit_code() is not None:
                raise Failure(f"{child.name} ended with exit code {child.exit_code()}")
            self.listening.append(address)
            say(f"  {child.name}: healthy")

    def secret(self, volume: str, name: str) -> str:
        return (self.volumes / "secrets" / volume / name).read_text().strip()

    def _environment(self, service: Service) -> dict[str, str]:
        ours = {name: value for name, value in without_libpq(os.environ).items() if not name.startswith(("LASTGOOD_", "AWS_", "DATABASE_"))}
        return {
            **ours, **service.environment(self.places),
            "PATH": f"{self.binary.parent}:{ours['PATH']}",
            "LASTGOOD_PG_CLIENT_DIRS": self.client_tools, "LASTGOOD_WORK_DIR": str(self.session.run_dir / "work"),
        }


def main(session: Session) -> int:
    binary = build(os.environ.get("PROFILE") or "dev")
    volumes = fresh_volumes(session.run_dir)
    stack = Stack(session, binary, services(volumes), volumes, {})
    check_flags(stack)
    stack.run("secrets")
    start_servers(stack)
    stack.run("migrate")
    stack.start("producer")
    stack.start("consumer")
    stack.run("token")
    stack.start("api")
    check_api(stack)
    stack.run("register")
    for sample in SAMPLES:
        wait_until(lambda: stack.ask("register", "lastgood", "point", "list", sample, "--json").strip() != "[]", SECONDS, f"a backup of {sample}", pause=1)
    watch(stack)
    before = contents(volumes)
    for again in ("secrets", "migrate", "token", "register"):
        stack.run(again)
    if contents(volumes) != before:
        raise Failure("a second start changed the secrets of the first")
    for service in stack.services.values():
        check_no_secret(service)
    say(f"\n{len(SAMPLES)} samples are backed up by the services of docker-compose.yml; a second start changes nothing.")
    return 0


def check_flags(stack: Stack) -> None:
    """Parses each command line to its end, so that a flag that went is told with its service's name."""
    for name, service in stack.services.items():
        if service.is_ours and "entrypoint" not in service.fields:
            stack.ask(name, *service.argv(stack.binary, {}), "--help")
            say(f"  {name}: its flags exist")


def start_servers(stack: Stack) -> None:
    """Starts what the other images are, with the secrets that the first service made, and says where they are."""
    session, volumes = stack.session, stack.volumes
    catalog, customers = start_postgres(session, "catalog"), start_postgres(session, "customers")
    catalog.psql(f"create role lastgood superuser login password '{stack.secret('catalog', 'password')}'")
    catalog.psql("create database lastgood owner lastgood")
    customers.psql((ROOT / "deploy/compose/customers.sql").read_text().replace("/run/secrets", str(volumes / "secrets" / "customers")))
    bucket = start_moto(session, "store")
    stack.places |= {"http://store:9000": bucket.url, "s3://lastgood": f"s3://{BUCKET}"}
    stack.client_tools = str(customers.bin)
    orders, cache = start_mongodb(session, "orders"), start_redis(session, "cache", Flavour.VALKEY9)
    with orders.client() as client:
        client.orders.command("createUser", "orders", pwd=stack.secret("orders", "orders"), roles=[{"role": "dbOwner", "db": "orders"}])
        client.orders.orders.insert_many({"_id": number} for number in range(1000))
    with cache.connection() as redis:
        redis.command("CONFIG", "SET", "requirepass", stack.secret("cache", "password"))
    point_to(volumes / "secrets" / "database" / "database-url", "catalog:5432", catalog.port)
    for sample in ("shop", "embeddings"):
        point_to(volumes / "secrets" / "urls" / sample, "customers:5432", customers.port)
    point_to(volumes / "secrets" / "urls" / "orders", "orders:27017", orders.port, "?replicaSet=rs0")
    point_to(volumes / "secrets" / "urls" / "cache", "cache:6379", cache.port)


def check_api(stack: Stack) -> None:
    """The first token opens the API, and nothing else does."""
    token = stack.secret("token", "token")
    for headers, expected in (({"Authorization": f"Bearer {token}"}, 200), ({}, 401), ({"Authorization": f"Bearer {token}x"}, 401)):
        request = urllib.request.Request(f"http://{stack.listening[-1]}/api/v1/status", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                status = answer.status
        except urllib.error.HTTPError as error:
            status = error.code
        if status != expected:
            raise Failure(f"the API should answer {expected}, and answers {status}")
    say("  api: opened by its token alone")


def watch(stack: Stack) -> None:
    """Looks at all of it as the file's Prometheus and Grafana do."""
    try:
        prometheus = start_prometheus(stack.session, stack.listening)
    except Unavailable as why:
        say(f"  {SKIP}{why}")
        return
    all_panels = panels()
    shown = [panel for panel in all_panels if panel.title not in NOTHING_TO_SHOW]
    for panel in shown:
        wait_until(lambda: shows_something(panel, prometheus), SECONDS, f"something to show in the panel {panel.title!r}", pause=0.5)
    alerts = prometheus.alerts()
    firing = [name for name, state in alerts.items() if state == "firing"]
    if firing or not alerts:
        raise Failure(f"of {len(alerts)} alerts these fire where nothing is wrong: {firing}")
    say(f"  {len(shown)} of {len(all_panels)} panels show something, none of {len(alerts)} alerts fires")


def shows_something(panel: Panel, prometheus: Prometheus) -> bool:
    return all([prometheus.ask(query) for query in panel.queries])


def point_to(file: Path, there: str, port: int, less: str = "") -> None:
    """Puts this machine's address into a URL that the first service wrote."""
    url = file.read_text()
    if there not in url or less not in url:
        raise Failure(f"{file.name} should name {there}{less}")
    file.write_text(url.replace(there, f"127.0.0.1:{port}").replace(less, ""))


def contents(volumes: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in volumes.rglob("*") if path.is_file()}


def check_no_secret(service: Service) -> None:
    """A value that is a secret by its name must be the path of a file."""
    for name, value in service.fields.get("environment", {}).items():
        says_secret = any(word in name for word in ("PASSWORD", "KEY", "SECRET", "DATABASE_URL"))
        if says_secret and not (name.endswith("_FILE") or name.endswith("__FILE")):
            raise Failure(f"{service.name}: {name} holds a secret in docker-compose.yml")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        raise SystemExit(__doc__)
    guarded(main)
