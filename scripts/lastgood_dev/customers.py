"""Which data do the demo's customers have, and how do we know that it is the same again?"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator
from urllib.parse import quote

from .child import Child, run, wait_until
from .postgres import Postgres
from .repo import Failure
from .session import Session

PGBENCH_SCALE = 10  # a million accounts
DOCUMENTS = 5_000
DIMENSIONS = 128
LOCK_HOLDER = "demo lock"


@dataclass(frozen=True)
class Customer:
    """One database, its owner (who is no superuser), and the password that opens it."""

    server: Postgres
    database: str
    owner: str
    password: str

    @property
    def url(self) -> str:
        return f"postgres://{self.owner}:{quote(self.password, safe='')}@127.0.0.1:{self.server.port}/{self.database}"

    def psql(self, sql: str) -> str:
        return self.server.psql(f"set role {self.owner};\n{sql}", self.database)


def create_customer(server: Postgres, database: str) -> Customer:
    """Creates an empty database with an owner who may create databases, as managed services allow."""
    owner, password = f"{database}_owner", secrets.token_urlsafe(24)
    server.psql(f"create role {owner} login createdb password '{password}'")
    server.psql(f"create database {database} owner {owner}")
    return Customer(server, database, owner, password)


def allow_vectors(server: Postgres) -> None:
    """Puts pgvector into the template, so that new databases have it: only a superuser may create it."""
    server.psql("create extension vector", "template1")


def fill_shop(shop: Customer) -> None:
    """pgbench's four tables, and some orders in the one that it leaves empty."""
    env = {**shop.server.env(shop.database), "PGUSER": shop.owner, "PGPASSWORD": shop.password}
    pgbench = shop.server.bin / "pgbench"
    for args in (
        ["--initialize", "--init-steps=dtGvpf", f"--scale={PGBENCH_SCALE}", "--quiet"],
        ["--no-vacuum", "--client=4", "--transactions=250"],
    ):
        done = run([pgbench, *args], env=env)
        if done.returncode != 0:
            raise Failure(f"pgbench: {done.stderr.strip()}")


def fill_embeddings(embeddings: Customer) -> None:
    """Documents whose embeddings are a formula, so that every demo searches the same space."""
    embeddings.psql(f"""
        create table documents (id int primary key, title text not null, embedding vector({DIMENSIONS}) not null);
        insert into documents
        select id, 'document ' || id, array_agg(sin(id * 0.7 + dimension * dimension * 0.013 * id) order by dimension)::real[]::vector
        from generate_series(1, {DOCUMENTS}) id, generate_series(1, {DIMENSIONS}) dimension
        group by id;
        create index documents_by_meaning on documents using hnsw (embedding vector_cosine_ops);
    """)


def nearest_documents(embeddings: Customer) -> str:
    """Returns the ten documents closest to number 42, searched exactly: an index that is built anew may approximate differently."""
    return embeddings.psql("""
        set enable_indexscan = off;
        select id, title from documents order by embedding <=> (select embedding from documents where id = 42), id limit 10
    """)


def fingerprint(customer: Customer) -> dict[str, str]:
    """Returns each table's row count and order-independent checksum, and each index's definition."""
    tables = customer.psql("select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace order by 1")
    prints = {
        f"table {table}": customer.psql(
            f"select count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) from public.{table} t"
        ).replace("|", " rows, checksum ")
        for table in tables.split()
    }
    indexes = customer.psql("select indexname, indexdef from pg_indexes where schemaname = 'public' order by 1")
    return {**prints, **{f"index {name}": definition for name, _, definition in (row.partition("|") for row in indexes.splitlines())}}


@contextmanager
def locked_table(session: Session, customer: Customer, table: str) -> Iterator[None]:
    """Holds a table so that a dump begins and then waits, for as long as the block lasts."""
    holder = session.start(Child(
        "lock holder",
        [
            customer.server.bin / "psql", "-X", "-q", "-w", "-c",
            f"begin; lock table {table} in access exclusive mode; select pg_sleep(600)",
        ],
        log=session.run_dir / "lock-holder.log", env={**customer.server.env(customer.database), "PGAPPNAME": LOCK_HOLDER},
    ))
    wait_until(lambda: _has_lock(customer, table, "mode = 'AccessExclusiveLock' and granted"), 10, f"the lock on {table}")
    try:
        yield
    finally:
        customer.server.psql(
            f"select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{LOCK_HOLDER}'"
        )
        holder.stop()


def someone_waits_for(customer: Customer, table: str) -> bool:
    return _has_lock(customer, table, "not granted")


def _has_lock(customer: Customer, table: str, which: str) -> bool:
    found = customer.server.psql(
        f"select count(*) from pg_locks where relation = 'public.{table}'::regclass and {which}", customer.database
    )
    return found != "0"
