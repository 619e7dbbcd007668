"""How does a script build lastgood, run it, and read what it says? The names of its JSON fields are here and nowhere else."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Iterator

from .child import Child, run, wait_until
from .ports import free_port
from .postgres import without_libpq
from .repo import ROOT, Failure, offline_sqlx_env, say, target_dir
from .session import Session

SECONDS_TO_FINISH = 60


@dataclass(frozen=True)
class Run:
    """One job in the queue, as `lastgood run … --json` tells it."""

    id: str
    resource: str
    kind: str
    trigger: str
    state: str
    attempt: int
    consumer: str | None

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Run:
        return cls(
            id=fields["id"], resource=fields["resource"], kind=fields["kind"], trigger=fields["trigger"],
            state=fields["state"], attempt=fields["attempt"], consumer=fields["consumer"],
        )


@dataclass(frozen=True)
class RestorePoint:
    """One archive whose manifest exists, as `lastgood point list --json` tells it."""

    id: str
    resource: str
    consistent_at: str
    manifest_key: str
    stored_bytes: int
    is_quarantined: bool

    @classmethod
    def read(cls, fields: dict[str, Any]) -> RestorePoint:
        return cls(
            id=fields["id"], resource=fields["resource"], consistent_at=fields["consistent_at"],
            manifest_key=fields["manifest_key"], stored_bytes=fields["stored_bytes"],
            is_quarantined=fields["quarantined_at"] is not None,
        )


def build(profile: str) -> Path:
    """Returns the binary, built with cargo's `profile`."""
    say(f"building lastgood ({profile}), which takes some minutes the first time ...")
    done = run(
        ["cargo", "build", "--locked", "--quiet", "--profile", profile, "--bin", "lastgood"],
        env=offline_sqlx_env(), cwd=ROOT, interactive=True,
    )
    if done.returncode != 0:
        raise Failure("lastgood does not build")
    return target_dir() / ("debug" if profile == "dev" else profile) / "lastgood"


def new_master_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True)
class Replica:
    """A producer or consumer process, and where its health and metrics are."""

    child: Child
    port: int

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/metrics"


class Lastgood:
    """The binary in one environment."""

    def __init__(self, session: Session, binary: Path, settings: dict[str, str]) -> None:
        self._session = session
        self.binary = binary
        self.settings = settings
        self._env = {
            **{name: value for name, value in without_libpq(os.environ).items() if not name.startswith("LASTGOOD_")},
            "RUST_BACKTRACE": "0",  # the last words of a log are then words
            **settings,
        }

    def show(self, *args: str, stdin: str | None = None) -> None:
        """Runs a command as a person would, on the screen; a failure ends the script."""
        self._echo(args, " < (a URL, kept off the command line)" if stdin else "")
        done = self._run(args, stdin)
        for line in (done.stderr + done.stdout).splitlines():
            say(f"    {line}")
        if done.returncode != 0:
            raise Failure(f"`lastgood {shlex.join(args)}` exited with code {done.returncode}")

    def show_finding(self, *args: str, words: tuple[str, ...]) -> None:
        """Runs a command that must find something wrong, exit with code 1 and say these words."""
        self._echo(args)
        done = self._run(args)
        for line in (done.stderr + done.stdout).splitlines():
            say(f"    {line}")
        if done.returncode != 1 or not all(word in done.stdout for word in words):
            raise Failure(f"`lastgood {shlex.join(args)}` should have exited with code 1 and said {', '.join(words)}")

    def write(self, file: str, *args: str) -> Path:
        """Runs a command, and returns the file in the run directory that has what it printed."""
        self._echo(args, f" > {file}")
        done = self._run(args)
        if done.returncode != 0:
            raise Failure(f"`lastgood {shlex.join(args)}` exited with code {done.returncode}: {done.stderr.strip()}")
        path = self._session.run_dir / file
        path.write_text(done.stdout)
        return path

    def show_refusal(self, *args: str) -> None:
        """Runs a command that must be refused; it ends the script when it is not."""
        self._echo(args)
        done = self._run(args)
        for line in done.stderr.splitlines():
            say(f"    {line}")
        if done.returncode == 0:
            raise Failure(f"`lastgood {shlex.join(args)}` should have been refused")

    def ask_for(self, *args: str) -> str:
        """Runs a command that enqueues a run, on the screen, and returns the run's id."""
        self._echo(args)
        run_id = self._json(*args)["id"]
        say(f"    run {run_id} enqueued")
        return run_id

    def new_token(self, name: str, scopes: str) -> str:
        """Returns a token for the HTTP API. It stays off the screen."""
        self._echo(("token", "create", "--name", name, "--scope", scopes))
        return self._json("token", "create", "--name", name, "--scope", scopes)["secret"]

    @contextmanager
    def paused(self, reason: str) -> Iterator[None]:
        """Has no run executed while the block lasts. It stays off the screen."""
        self._json("queue", "pause", "--reason", reason)
        wait_until(lambda: all(run.state != "running" for run in self.runs()), SECONDS_TO_FINISH, "what runs to end", pause=0.1)
        yield
        self._json("queue", "resume")

    def live_consumers(self) -> list[str]:
        """Returns what the consumers call themselves that count as alive: `HOST-PROCESS-RANDOM`."""
        return [it["id"] for it in self._json("consumer", "list")]

    def consumer_id(self, replica: Replica) -> str:
        """Returns what a consumer calls itself."""
        (found,) = [it for it in self.live_consumers() if f"-{replica.child.pid}-" in it]
        return found

    def runs(self) -> list[Run]:
        return [Run.read(fields) for fields in self._json("run", "list")]

    def run(self, run_id: str) -> Run:
        return Run.read(self._json("run", "show", run_id))

    def run_seconds(self, run_id: str) -> float:
        """Returns how long a finished run's last attempt took, by the catalog's clock."""
        fields = self._json("run", "show", run_id)
        began, ended = (datetime.fromisoformat(fields[name].replace("Z", "+00:00")) for name in ("started_at", "finished_at"))
        return (ended - began).total_seconds()

    def run_report(self, run_id: str) -> dict[str, Any]:
        return self._json("run", "show", run_id)["report"]

    def restore_points(self, resource: str) -> list[RestorePoint]:
        return [RestorePoint.read(fields) for fields in self._json("point", "list", resource)]

    def start(self, name: str, *args: str) -> Replica:
        """Returns a producer or consumer that says that it is ready."""
        port = free_port()
        self._echo((*args, "--listen", f"127.0.0.1:{port}"), " &")
        child = self._session.start(Child(
            name, [self.binary, *args, "--listen", f"127.0.0.1:{port}"],
            log=self._session.run_dir / f"{name}.log", env=self._env, cwd=self._session.run_dir,
        ))
        self._session.tell_on_failure(child)
        wait_until(lambda: child.exit_code() is not None or _is_ready(port), 30, f"{name} to be ready")
        if child.exit_code() is not None:
            raise Failure(f"{name} ended at once, with exit code {child.exit_code()}")
        return Replica(child, port)

    def _json(self, *args: str) -> Any:
        done = self._run((*args, "--json"))
        if done.returncode != 0:
            raise Failure(f"`lastgood {shlex.join(args)} --json` exited with code {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def _run(self, args: tuple[str, ...], stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return run([self.binary, *args], env=self._env, cwd=self._session.run_dir, input=stdin)

    @staticmethod
    def _echo(args: tuple[str, ...], after: str = "") -> None:
        say(f"  $ lastgood {shlex.join(args)}{after}")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
