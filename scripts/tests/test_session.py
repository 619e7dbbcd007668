"""A script leaves neither a process nor a file behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from lastgood_dev.child import wait_until

SCRIPTS = Path(__file__).resolve().parents[1]
SCRIPT = """
import os, sys
from lastgood_dev.child import run
from lastgood_dev.postgres import start_postgres
from lastgood_dev.session import guarded

CHILD = "import time; time.sleep(300)"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '{CHILD}', sys.argv[1]]); {CHILD}"

def main(session):
    server = start_postgres(session, "server")
    print(os.getpid(), flush=True)
    if sys.argv[1] == "succeed":
        return 0
    if sys.argv[1] == "fail":
        raise ValueError("as the test asked for")
    run([sys.executable, "-c", PARENT, session.run_dir])
    return 0

guarded(main)
"""


class ScriptsLeaveNothingBehind(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.directory = Path(temporary.name)
        self.directory.chmod(0o711)

    def start(self, ending: str) -> subprocess.Popen[str]:
        """Starts the script; what it starts has the directory's path in its command line."""
        guardian = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, ending], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "TMPDIR": str(self.directory), "PYTHONPATH": str(SCRIPTS)},
        )
        self.addCleanup(guardian.communicate)
        self.addCleanup(guardian.kill)
        return guardian

    def start_and_wait(self, ending: str) -> tuple[subprocess.Popen[str], int]:
        guardian = self.start(ending)
        assert guardian.stdout is not None
        return guardian, int(guardian.stdout.readline())

    def processes(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(self.directory) in command:
                found.append(f"{path.parent.name} {command}")
        return found

    def assert_nothing_left(self, files: bool = True) -> None:
        wait_until(lambda: not self.processes(), 20, f"the end of {self.processes()}")
        if files:
            wait_until(lambda: not list(self.directory.iterdir()), 20, "the removal of the run directory")

    def test_a_success_leaves_nothing(self) -> None:
        guardian, _ = self.start_and_wait("succeed")
        self.assertEqual(guardian.wait(30), 0)
        self.assert_nothing_left()

    def test_a_failure_leaves_nothing_and_exits_1(self) -> None:
        guardian, _ = self.start_and_wait("fail")
        self.assertIn("as the test asked for", guardian.communicate(timeout=30)[1])
        self.assertEqual(guardian.returncode, 1)
        self.assert_nothing_left()

    def test_a_signal_leaves_nothing_and_is_told_in_the_exit_code(self) -> None:
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(signum):
                guardian, _ = self.start_and_wait("wait")
                guardian.send_signal(signum)
                self.assertEqual(guardian.wait(30), 128 + signum)
                self.assert_nothing_left()

    def test_a_signal_during_the_start_leaves_nothing(self) -> None:
        guardian = self.start("wait")
        wait_until(lambda: bool(list(self.directory.iterdir())), 20, "the run directory")
        guardian.send_signal(signal.SIGTERM)
        self.assertEqual(guardian.wait(30), 128 + signal.SIGTERM)
        self.assert_nothing_left()

    def test_sigkill_of_the_script_leaves_nothing(self) -> None:
        guardian, script_pid = self.start_and_wait("wait")
        os.kill(script_pid, signal.SIGKILL)
        self.assertEqual(guardian.wait(30), 128 + signal.SIGKILL)
        self.assert_nothing_left()

    def test_sigkill_of_the_guardian_leaves_nothing(self) -> None:
        guardian, _ = self.start_and_wait("wait")
        guardian.kill()
        guardian.wait(30)
        self.assert_nothing_left()

    def test_sigkill_of_both_leaves_no_server(self) -> None:
        guardian, script_pid = self.start_and_wait("wait")
        os.kill(script_pid, signal.SIGSTOP)
        guardian.kill()
        os.kill(script_pid, signal.SIGKILL)
        guardian.wait(30)
        wait_until(lambda: not [each for each in self.processes() if "postgres" in each], 20, "the server's end")
        for process in self.processes():  # what the script's children had started
            os.kill(int(process.split()[0]), signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
