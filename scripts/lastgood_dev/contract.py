"""Does the HTTP API do what its document says, whatever is sent?

Schemathesis reads the document of a running API and makes requests by it, good ones and bad ones, and chains of them. A server error, a
status or a field that is not documented, or a request against the document that is accepted, is a failure.

Two things are left out, and tested by hand in `tests/it/api/`: the stream of events, which lasts as long as its run; and that what fits the
document is always accepted, for no schema says that `merge` is Redis's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .child import run
from .pip import installed_packages
from .postgres import start_postgres
from .repo import Failure, ROOT
from .service import Lastgood, new_master_key
from .session import Session

REQUIREMENTS = Path(__file__).with_name("schemathesis-requirements.txt")
EXAMPLES = 100  # of each operation, and of chains of them; counted, not timed, so that a faster machine tries the same
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method", "ignored_auth",
)


def schemathesis_packages() -> Path:
    """Returns where Schemathesis is installed."""
    return installed_packages(REQUIREMENTS, "schemathesis")


def check_contract(session: Session, binary: Path) -> None:
    """Starts an API on a catalog of its own with a few resources, and lets Schemathesis loose on it."""
    catalog = start_postgres(session, "catalog")
    catalog.psql("create database lastgood")
    settings = {
        "DATABASE_URL": catalog.url("lastgood"),
        "LASTGOOD_MASTER_KEY": new_master_key(),
        "LASTGOOD_PLANS": str(ROOT / "plans.yaml"),
        "SHOP_URL": "postgresql://nobody@127.0.0.1:1/shop",
    }
    lastgood = Lastgood(session, binary, settings)
    lastgood.show("migrate")
    for resource, engine in (("shop", "postgres"), ("orders", "mongodb"), ("sessions", "redis")):
        lastgood.show("resource", "add", resource, "--team", "acme", "--tier", "pro", "--engine", engine, "--connection", "env:SHOP_URL")
    api = lastgood.start("api", "api")
    token = json.loads(run(
        [binary, "--json", "token", "create", "--name", "contract", "--scope", "admin"], env={**os.environ, **settings},
    ).stdout)["secret"]
    # Not on the command line: there, every user could read it.
    home = session.run_dir / "contract"
    home.mkdir()
    config = home / "schemathesis.toml"
    config.write_text(f'headers = {{ Authorization = "Bearer {token}" }}\n')
    config.chmod(0o600)
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", f"http://127.0.0.1:{api.port}/api/v1/openapi.json",
            "--max-examples", str(EXAMPLES), "--checks", ",".join(CHECKS), "--exclude-operation-id", "follow_run",
            "--continue-on-failure", "--seed", "1", "--request-timeout", "20",
        ],
        cwd=home, env={**os.environ, "PYTHONPATH": str(schemathesis_packages()), "NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise Failure("the API does not do what its document says")
