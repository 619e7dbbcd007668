"""How is something measured: in interleaved rounds, by the catalog's clock or by the wall, with its memory?"""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path
from typing import Callable, Mapping, Sequence

from .child import wait_until
from .repo import Failure, say
from .service import Lastgood

ROUNDS = 3
SECONDS_FOR_ONE = 1800

Row = tuple[str, str, str]


def medians(contenders: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Returns each contender's median. Interleaved, so that a slow minute of the machine is everybody's."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(1, ROUNDS + 1):
        for name, contender in contenders.items():
            seconds = contender()
            figures[name].append(seconds)
            say(f"round {number}: {name}: {seconds:.2f} s")
    return {name: statistics.median(seconds) for name, seconds in figures.items()}


def timed(command: str, env: Mapping[str, str]) -> float:
    return clocked(lambda: must_run(["/bin/bash", "-o", "pipefail", "-c", command], env))


def clocked(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def run_seconds(lastgood: Lastgood, *args: str) -> float:
    """From the claim to the fenced finish, by the catalog's clock: the probe, the commit and every check included."""
    known = {run.id for run in lastgood.runs()}
    lastgood.show(*args)
    (run_id,) = {run.id for run in lastgood.runs()} - known
    wait_until(lambda: lastgood.run(run_id).state in ("succeeded", "failed"), SECONDS_FOR_ONE, "the run to end", pause=0.5)
    if lastgood.run(run_id).state != "succeeded":
        raise Failure(f"run {run_id} failed")
    return lastgood.run_seconds(run_id)


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def forget_peak(pid: int) -> None:
    """Lets `peak_mb` tell of what comes, not of what was."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def must_run(command: Sequence[str | Path], env: Mapping[str, str]) -> None:
    done = subprocess.run([str(part) for part in command], env=dict(env), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure(f"{command[0]} exited with code {done.returncode}: {done.stderr.strip()}")
