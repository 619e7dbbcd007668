"""What do operators, and the services around them, do in the demo? Pause, resume, retry, drain, and ask by HTTP."""

from __future__ import annotations

import json
import secrets
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from .child import run, wait_until
from .customers import Customer
from .repo import Failure, say
from .service import Lastgood, Replica

SECONDS_FOR_A_RUN = 60
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Api:
    """The HTTP API, and a token for it."""

    replica: Replica
    token: str

    def ask(self, method: str, path: str, headers: Mapping[str, str] = {}) -> tuple[int, Any]:
        """Returns status and answer, and shows the request as a person would type it."""
        url = f"http://127.0.0.1:{self.replica.port}{path}"
        verb = "" if method == "GET" else f" -X {method}"
        shown = "".join(f' -H "{name}: {value}"' for name, value in headers.items())
        say(f'  $ curl -H "Authorization: Bearer $TOKEN"{verb}{shown} {url}')
        every = {"Authorization": f"Bearer {self.token}", **headers}
        return by_curl(method, url, every) if shutil.which("curl") else by_urllib(method, url, every)


def by_curl(method: str, url: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    # By its standard input: a token in argv could be read by everybody on the machine.
    config = "".join(f'header = "{name}: {value}"\n' for name, value in headers.items())
    done = run(
        ["curl", "--silent", "--show-error", "--max-time", "30", "--request", method, "--write-out", "\\n%{http_code}", "--config", "-", url],
        input=config,
    )
    if done.returncode != 0:
        raise Failure(f"curl {url}: {done.stderr.strip()}")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def by_urllib(method: str, url: str, headers: Mapping[str, str]) -> tuple[int, Any]:
    """The same where there is no curl."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=dict(headers)), timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def pause_and_resume(lastgood: Lastgood, resources: Sequence[str]) -> None:
    """Nothing is claimed while the queue is paused; what waited runs when it is resumed."""
    lastgood.show("queue", "pause", "--reason", "the storage is being moved")
    waiting = [lastgood.ask_for("backup", "now", resource) for resource in resources]
    lastgood.show("queue", "stats")
    states = [lastgood.run(run_id).state for run_id in waiting]
    if set(states) != {"queued"}:
        raise Failure(f"while the queue is paused nothing should be claimed, and the runs are {', '.join(states)}")
    lastgood.show("queue", "resume")
    for run_id in waiting:
        wait_for_end(lastgood, run_id, "succeeded")
    say(f"    all {len(waiting)} that had waited have succeeded")


def fail_and_retry(lastgood: Lastgood, server_of: Customer, database: str) -> None:
    """A backup fails for a reason that an operator can mend, and is told to try again."""
    url = f"{server_of.url.rpartition('/')[0]}/{database}"
    about = ("--team", "acme", "--tier", "free", "--engine", "postgres")
    lastgood.show("resource", "add", database, *about, "--url-stdin", stdin=url)
    run_id = lastgood.ask_for("backup", "now", database)
    wait_for_end(lastgood, run_id, "failed")
    lastgood.show("run", "show", run_id)
    say(f"  postgres=> create database {database};")
    server_of.server.psql(f"create database {database} owner {server_of.owner}")
    lastgood.show("run", "retry", run_id, "--reason", "the database is there now")
    wait_for_end(lastgood, run_id, "succeeded")
    lastgood.show("run", "show", run_id)


def ask_twice(api: Api, resource: str) -> None:
    """The same request sent twice, as a client does that heard no answer, is one backup."""
    key = {"Idempotency-Key": f"before-migration-{secrets.token_hex(4)}"}
    answers = [api.ask("POST", f"/api/v1/resources/{resource}/backups", key) for _ in range(2)]
    for status, answer in answers:
        say(f"    {status}, run {answer.get('id')}, {answer.get('state')}")
    if [status for status, _ in answers] != [202, 200] or answers[0][1]["id"] != answers[1][1]["id"]:
        raise Failure(f"the same key should give the same run, and gave {answers}")


def drain(lastgood: Lastgood, name: str, replica: Replica) -> None:
    """One replica finishes what it runs and ends; the others go on."""
    lastgood.show("consumer", "list")
    lastgood.show("consumer", "drain", lastgood.consumer_id(replica))
    wait_until(lambda: replica.child.exit_code() is not None, SECONDS_FOR_A_RUN, f"{name} to end")
    if replica.child.exit_code() != 0:
        raise Failure(f"{name} should have ended well, and ended with exit code {replica.child.exit_code()}")
    say(f"    {name} took nothing new, and ended with exit code 0")


def tell_capability(api: Api, tier: str, engine: str) -> bool:
    """Shows what a website may say of an engine on a tier, and returns whether its backups are available now."""
    status, answer = api.ask("GET", "/api/v1/capabilities")
    if status != 200:
        raise Failure(f"the API should tell what is available, and said {status}: {answer}")
    (of_tier,) = [it for it in answer["tiers"] if it["id"] == tier]
    (found,) = [it for it in of_tier["engines"] if it["engine"] == engine]
    for what in ("backup", "restore", "verification"):
        available, why = found[what]["is_available"], found[what]["because"]
        say(f"    {engine} on {tier}: {what}: {'available' if available else f'not available: {why}'}")
    return found["backup"]["is_available"]


def wait_for_end(lastgood: Lastgood, run_id: str, state: str) -> None:
    wait_until(lambda: lastgood.run(run_id).state in ENDED, SECONDS_FOR_A_RUN, f"run {run_id} to end", pause=0.2)
    found = lastgood.run(run_id).state
    if found != state:
        raise Failure(f"run {run_id} should have {state}, and has {found}")
