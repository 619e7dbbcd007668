"""How does a script leave nothing behind, however it ends?

The script runs in a child of a small guardian. Whatever the script started is the guardian's descendant.
- The script ends, fails or is signalled: it stops what it started, last first.
- The script is killed with SIGKILL: the guardian ends every descendant and removes the run directory.
- The guardian is killed with SIGKILL: the kernel sends the script SIGTERM, and it cleans up as usual.
- Both are killed at once: the kernel ends the script's own children (see `child`), so no server stays. The run
  directory does, and so may what those children had started.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, NoReturn

from .child import Child, adopt_orphans, die_with_parent
from .repo import Failure

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SECONDS_TO_END = 20


class Session:
    """What one script started: a private directory and processes, gone when the session closes."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self._stack = ExitStack()
        self._interrupt_is_success = False
        self._tellers: list[Child] = []

    def start(self, child: Child) -> Child:
        """Takes charge of a child: it is stopped with the session, before all that were started earlier."""
        self._stack.callback(child.stop)
        return child

    def wait_for_interrupt(self) -> NoReturn:
        """Keeps everything running until Ctrl-C, which then is the way to end well."""
        self._interrupt_is_success = True
        while True:
            signal.pause()

    def exit_code_after(self, signum: int) -> int:
        return 0 if self._interrupt_is_success else 128 + signum

    def tell_on_failure(self, child: Child) -> None:
        """Has the report of a failure end with this child's last words."""
        self._tellers.append(child)

    def last_words(self) -> str:
        return "".join(f"--- {child.name}\n{child.log_tail()}\n" for child in self._tellers)

    def close(self) -> None:
        self._stack.close()


def guarded(main: Callable[[Session], int]) -> NoReturn:
    """Runs `main` and exits with what it returns, or 128 + N after signal N."""
    sys.stdout.flush()
    adopt_orphans()
    if os.environ.get("MAKELEVEL"):
        die_with_parent(signal.SIGTERM, os.getppid())
    # Blocked until both have handlers of their own: Python forgets what reaches a child before it has set itself up.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    run_dir = _private_directory()
    guardian_pid = os.getpid()
    script_pid = os.fork()
    if script_pid == 0:
        os._exit(_run_script(main, run_dir, guardian_pid))
    exit_code = _guard(script_pid)
    _end_descendants()
    shutil.rmtree(run_dir, ignore_errors=True)
    os._exit(exit_code)


def _private_directory() -> Path:
    run_dir = Path(tempfile.mkdtemp(prefix="lastgood-"))
    if os.getuid() == 0:
        run_dir.chmod(0o711)  # servers run as another user and must be able to pass through
    return run_dir


def _run_script(main: Callable[[Session], int], run_dir: Path, guardian_pid: int) -> int:
    def interrupt(signum: int, _frame: object = None) -> NoReturn:
        _ignore_ending_signals()
        raise SystemExit(session.exit_code_after(signum))

    session = Session(run_dir)
    adopt_orphans()
    try:
        for signum in ENDING_SIGNALS:
            signal.signal(signum, interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
        die_with_parent(signal.SIGTERM, guardian_pid)
        exit_code = main(session)
        return exit_code if exit_code >= 0 else 128 - exit_code  # subprocess says -N after signal N
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except Failure as failure:
        print(f"{session.last_words()}error: {failure}", file=sys.stderr)
        return 1
    except BaseException:
        print(session.last_words(), end="", file=sys.stderr)
        traceback.print_exc()
        return 1
    finally:
        _ignore_ending_signals()
        session.close()
        _end_descendants()
        shutil.rmtree(run_dir, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()


def _ignore_ending_signals() -> None:
    for signum in ENDING_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _guard(script_pid: int) -> int:
    """Waits for the script, passes signals on to it, and buries orphans meanwhile."""
    pending: list[int] = []
    for signum in ENDING_SIGNALS:
        signal.signal(signum, lambda received, _frame: pending.append(received))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)
    while True:
        while pending:
            os.kill(script_pid, pending.pop(0))
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == script_pid:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        if pid == 0:
            time.sleep(0.05)


def _end_descendants() -> None:
    """Gives descendants that were told to end by the kernel their time to do so, then kills the rest."""
    asked: set[int] = set()
    deadline = time.monotonic() + SECONDS_TO_END
    while True:
        _bury_the_dead()
        alive = _children_of(os.getpid())
        if not alive:
            return
        for pid in alive:
            if time.monotonic() > deadline:
                _signal(pid, signal.SIGKILL)
            elif pid not in asked:
                asked.add(pid)
                _signal(pid, signal.SIGTERM)
        time.sleep(0.05)


def _bury_the_dead() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def _children_of(parent_pid: int) -> list[int]:
    children = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent_pid:
            children.append(int(entry.name))
    return children
