#!/usr/bin/env python3
"""Writes or checks `.sqlx`: what the query macros need to know about the catalog where no database is at hand.

The macros write one file per query into SQLX_OFFLINE_DIR while they talk to a database, so compiling is all it takes.
Cargo does not know that they depend on these variables; files that use them are touched to make it compile them again.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path

from lastgood_dev.child import run
from lastgood_dev.postgres import Postgres, start_postgres
from lastgood_dev.repo import FUNCTIONS, MIGRATIONS, ROOT, SQLX_CACHE, Failure, say, tracked_rust_files
from lastgood_dev.session import Session, guarded

DATABASE = "lastgood"
QUERY_MACRO = re.compile(r"\bquery(_as|_scalar|_file|_file_as|_file_scalar)?(_unchecked)?!")
MEND = "make sqlx"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Writes or checks the offline cache of the sqlx macros.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", action="store_true", help="bring .sqlx up to date")
    mode.add_argument("--check", action="store_true", help="fail when .sqlx is not up to date")
    return parser.parse_args()


def main(session: Session) -> int:
    wanted = arguments()
    catalog = start_postgres(session, "catalog")
    migrate(catalog)
    fresh = session.run_dir / "sqlx"
    fresh.mkdir()
    compile_queries(catalog, fresh)
    stale = differences(SQLX_CACHE, fresh)
    queries = len(list(fresh.iterdir()))
    if not stale:
        say(f".sqlx is up to date ({queries} queries)")
        return 0
    if wanted.check:
        raise Failure(f".sqlx is not up to date; run `{MEND}` and commit it:\n  " + "\n  ".join(stale))
    shutil.rmtree(SQLX_CACHE, ignore_errors=True)
    shutil.copytree(fresh, SQLX_CACHE)
    say(f".sqlx written ({queries} queries):\n  " + "\n  ".join(stale))
    return 0


def migrate(catalog: Postgres) -> None:
    """Applies the migrations in the order of their version numbers, and then the functions, as `lastgood migrate` does."""
    catalog.psql(f"create database {DATABASE}")
    migrations = [path for path in MIGRATIONS.glob("*.sql") if not path.name.endswith(".down.sql")]
    for path in sorted(migrations, key=lambda path: int(path.name.partition("_")[0])):
        catalog.psql(path.read_text(), DATABASE)
    functions = [path.read_text() for path in sorted(FUNCTIONS.glob("*.sql"))]
    catalog.psql("\n".join(["set check_function_bodies = off;", *functions]), DATABASE)


def compile_queries(catalog: Postgres, into: Path) -> None:
    for path in tracked_rust_files():
        if QUERY_MACRO.search(path.read_text()):
            path.touch()
    env = {
        **os.environ,
        "SQLX_OFFLINE": "false", "SQLX_OFFLINE_DIR": str(into), "DATABASE_URL": catalog.url(DATABASE),
    }
    done = run(
        ["cargo", "check", "--workspace", "--all-targets", "--locked", "--quiet"], env=env, cwd=ROOT, interactive=True
    )
    if done.returncode != 0:
        raise Failure("the workspace does not compile against the migrated catalog")


def differences(committed: Path, fresh: Path) -> list[str]:
    """Returns one line per query that is missing, left over or changed."""
    before, after = _contents(committed), _contents(fresh)
    words = {
        **{name: "missing" for name in after.keys() - before.keys()},
        **{name: "left over" for name in before.keys() - after.keys()},
        **{name: "changed" for name in before.keys() & after.keys() if before[name] != after[name]},
    }
    return [f"{word}: {name}" for name, word in sorted(words.items())]


def _contents(cache: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in cache.glob("query-*.json")} if cache.is_dir() else {}


if __name__ == "__main__":
    arguments()
    guarded(main)
