"""How does a child process start so that it cannot outlive us, and how does it end?

On Linux every child asks the kernel for a signal at the moment its parent dies, even by SIGKILL. Elsewhere only
the ordinary clean-up in `session` applies.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Mapping, Sequence

from .repo import Failure

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


@dataclass(frozen=True)
class User:
    """Who a child runs as, when that is not us; PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def die_with_parent(signum: int, parent_pid: int) -> None:
    """Has the kernel send `signum` to this process when its parent dies. Linux forgets it on a change of user: call it after."""
    if _libc is None:
        return
    _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signum)


def adopt_orphans() -> None:
    """Makes the children of children that died ours, so that they can be found and ended."""
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _before_exec(user: User | None, death_signal: int, own_group: bool) -> Callable[[], None]:
    parent_pid = os.getpid()

    def prepare() -> None:
        if own_group:
            os.setpgid(0, 0)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_DFL)
        if user is not None:
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
        die_with_parent(death_signal, parent_pid)

    return prepare


class Child:
    """A process in the background, in its own group, with its output in a file."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: User | None = None,
        stop_signal: int = signal.SIGTERM,
        stop_seconds: float = 15,
    ) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        self._stop_seconds = stop_seconds
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in argv],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=None if env is None else dict(env), cwd=cwd,
                preexec_fn=_before_exec(user, stop_signal, own_group=True),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """Returns None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to the process alone, as a crash would; what it had started lives on until `stop`."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Asks politely, waits, then kills the whole group. Harmless when it has ended."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(self._stop_seconds)
            except subprocess.TimeoutExpired:
                print(f"warning: {self.name} did not stop within {self._stop_seconds:.0f} s; killed", file=sys.stderr)
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: User | None = None,
    input: str | None = None,
    interactive: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, and ends it if we die first. Output is captured unless `interactive`. Checks no exit code."""
    captured = None if interactive else subprocess.PIPE
    stdin: dict[str, object] = {} if interactive else {"stdin": subprocess.DEVNULL}
    if input is not None:
        stdin = {"input": input}
    try:
        return subprocess.run(
            [str(part) for part in argv],
            stdout=captured, stderr=captured, text=True, **stdin,
            env=None if env is None else dict(env), cwd=cwd,
            preexec_fn=_before_exec(user, signal.SIGTERM, own_group=False),
        )
    except FileNotFoundError as missing:
        raise Failure(f"{missing.filename} is needed and was not found") from missing


def wait_until(done: Callable[[], bool], seconds: float, what: str, pause: float = 0.02) -> None:
    """Returns as soon as `done()` holds; raises Failure that names `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise Failure(f"gave up after {seconds:.0f} s waiting for {what}")
        time.sleep(pause)
