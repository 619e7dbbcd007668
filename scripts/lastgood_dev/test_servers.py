"""Which servers do the tests need, and how are they told where to find them?

A variable that begins with `skip: ` says why there is no such server here. Those that end in `_PROGRAM` hold a `Program` in JSON, for a
test that needs a server of its own.

Where `LASTGOOD_TEST_MONGODB_URL`, or that of another version, already has an address, the tests use that server and none is started. It
must be a replica set, and the address root's: the tests create databases and users there.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Callable

from .age import age_tools
from .ceph import VERSIONED_BUCKET, start_ceph
from .certificates import Certificates, make_certificates
from .mongodb import MongoVersion, Topology, mongodb_program, start_mongodb
from .pgbouncer import start_pgbouncer
from .postgres import Major, Postgres, postgis_installation, start_postgres, without_libpq
from .program import SKIP
from .redis import Flavour, redis_cli, start_redis
from .repo import Failure, Unavailable, say
from .s3 import BUCKET, S3Server, start_moto, start_s3s
from .session import Session
from .standby import start_standby

MONGO_TOOLS = ("mongodump", "mongorestore")
MONGODB_SCHEME = "mongodb://"


def start_test_servers(session: Session) -> dict[str, str]:
    """Starts the catalog's server and the customers', and returns the variables that the tests read."""
    try:
        certificates = make_certificates(session.run_dir / "certificates")
        tls_dir = str(certificates.folder)
    except Unavailable as why:
        certificates, tls_dir = None, _skip(why)
    return {
        **_postgres(session, certificates), **_mongodb(session), **_redis(session, certificates, tls_dir), **_s3(session),
        "LASTGOOD_TEST_TLS_DIR": tls_dir, "LASTGOOD_TEST_AGE_TOOLS": _or_skip(age_tools), "SQLX_OFFLINE": "true",
    }


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Returns our environment with `variables`, less what would lead a test to a server that is not its own."""
    return {**without_libpq(os.environ), **variables}


def _postgres(session: Session, certificates: Certificates | None) -> dict[str, str]:
    catalog = start_postgres(session, "catalog")
    pg18 = start_postgres(session, "customer18", settings=("max_prepared_transactions=10",))
    # Of the two programs this one was built with TLS.
    pg17 = start_postgres(session, "customer17", Major.PG17, certificates=certificates)
    # Its lock table and its template belong to the tests that need them so.
    narrow = start_postgres(session, "customer17-narrow", Major.PG17, settings=(
        "max_connections=40", "max_locks_per_transaction=10", "max_prepared_transactions=0", "autovacuum=off",
    ))
    clients = [str(pg18.bin), str(pg17.bin)]
    try:
        postgis = postgis_installation()
        postgis_url = start_postgres(session, "customer15-postgis", postgis).url()
        clients.append(str(postgis.clients(session.run_dir / "clients15")))
    except Unavailable as why:
        postgis_url = _skip(why)
    return {
        "LASTGOOD_TEST_PG18_STANDBY_URL": start_standby(session, "standby18", pg18).url(),
        **_poolers(session, pg18),
        "LASTGOOD_TEST_CATALOG_URL": catalog.url(),
        "LASTGOOD_TEST_PG18_URL": pg18.url(),
        "LASTGOOD_TEST_PG17_URL": pg17.url(),
        "LASTGOOD_TEST_PG17_NARROW_URL": narrow.url(),
        "LASTGOOD_TEST_PG_CLIENT_DIRS": ":".join(clients),
        "LASTGOOD_TEST_PG15_POSTGIS_URL": postgis_url,
    }


def _poolers(session: Session, before: Postgres) -> dict[str, str]:
    modes = {mode: f"LASTGOOD_TEST_PGBOUNCER_{mode.upper()}_URL" for mode in ("transaction", "session")}
    return {
        variable: _or_skip(partial(start_pgbouncer, session, f"pgbouncer-{mode}", before, mode))
        for mode, variable in modes.items()
    }


def _mongodb(session: Session) -> dict[str, str]:
    return {
        "LASTGOOD_TEST_MONGODB_URL": _mongodb_url(session, "LASTGOOD_TEST_MONGODB_URL", MongoVersion.MONGODB_6_0),
        **_other_mongodbs(session),
        "LASTGOOD_TEST_MONGODB_STANDALONE_URL": start_mongodb(session, "mongodb-standalone", Topology.STANDALONE).url(),
        "LASTGOOD_TEST_MONGODB_PROGRAM": mongodb_program().json(),
        "LASTGOOD_TEST_MONGO_TOOLS": _or_skip(_mongo_tools),
    }


def _other_mongodbs(session: Session) -> dict[str, str]:
    others = {f"LASTGOOD_TEST_{version.name}_URL": version for version in MongoVersion if version is not MongoVersion.MONGODB_6_0}
    programs = {f"LASTGOOD_TEST_{version.name}_PROGRAM": _or_skip(lambda: mongodb_program(version).json()) for version in others.values()}
    return {
        **programs, **{variable: _or_skip(partial(_mongodb_url, session, variable, version)) for variable, version in others.items()},
    }


def _mongodb_url(session: Session, variable: str, version: MongoVersion) -> str:
    """Returns the address that the variable already has, or that of a server of ours."""
    address = os.environ.get(variable, "")
    if address.startswith(MONGODB_SCHEME):
        say(f"# {variable} is set: the tests use that server")
        return address
    if address and not address.startswith(SKIP):
        raise Failure(f"{variable} must begin with {MONGODB_SCHEME}; unset it to test on a private server")
    return start_mongodb(session, f"mongodb-{version.release}", version=version).url()


def _redis(session: Session, certificates: Certificates | None, tls_dir: str) -> dict[str, str]:
    variables = {"LASTGOOD_TEST_REDIS_CLI": _or_skip(lambda: str(redis_cli()))}
    for flavour in Flavour:
        variables |= _flavour(session, flavour, certificates if flavour.has_tls else None)
    if certificates is None:
        variables["LASTGOOD_TEST_REDIS7_TLS_URL"] = tls_dir
    return variables


def _flavour(session: Session, flavour: Flavour, certificates: Certificates | None) -> dict[str, str]:
    name = f"LASTGOOD_TEST_{flavour.value}"
    try:
        server = start_redis(session, flavour.value.lower(), flavour, certificates=certificates)
    except Unavailable as why:
        what = ("PROGRAM", "URL", "TLS_URL") if flavour.has_tls else ("PROGRAM", "URL")
        return dict.fromkeys((f"{name}_{each}" for each in what), _skip(why))
    tls = {f"{name}_TLS_URL": server.tls_url()} if certificates else {}
    return {f"{name}_PROGRAM": flavour.program().json(), f"{name}_URL": server.url(), **tls}


def _s3(session: Session) -> dict[str, str]:
    variables = {"LASTGOOD_TEST_S3_BUCKET": BUCKET, "LASTGOOD_TEST_S3_VERSIONED_BUCKET": VERSIONED_BUCKET}
    for name, start in (("MOTO", start_moto), ("S3S", start_s3s), ("RGW", start_ceph)):
        variables |= _s3_server(session, name, start)
    return variables


def _s3_server(session: Session, name: str, start: Callable[[Session, str], S3Server]) -> dict[str, str]:
    url, access, secret = (f"LASTGOOD_TEST_S3_{name}_{what}" for what in ("URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    try:
        server = start(session, name.lower())
    except Unavailable as why:
        return dict.fromkeys((url, access, secret), _skip(why))
    return {url: server.url, access: server.access_key_id, secret: server.secret_access_key}


def _mongo_tools() -> str:
    """Returns the folder of MongoDB's own tools, which are in no package registry: a machine has them or not."""
    found = {Path(path).parent for path in map(shutil.which, MONGO_TOOLS) if path}
    if len(found) != 1 or not all((folder / tool).exists() for folder in found for tool in MONGO_TOOLS):
        raise Unavailable(f"{' and '.join(MONGO_TOOLS)} are not on PATH")
    return str(found.pop())


def _or_skip(find: Callable[[], str]) -> str:
    """Returns what was found, or why it cannot be, which the tests report."""
    try:
        return find()
    except Unavailable as why:
        return _skip(why)


def _skip(why: Unavailable) -> str:
    text = SKIP + " ".join(str(why).split())
    say(f"# {text}")
    return text
