#!/usr/bin/env python3
"""Runs every test against private servers: `scripts/test.py [ARGUMENTS OF cargo test]`."""

from __future__ import annotations

import os
import sys

from lastgood_dev.child import run
from lastgood_dev.repo import ROOT
from lastgood_dev.session import Session, guarded
from lastgood_dev.test_servers import environment, start_test_servers


def main(session: Session) -> int:
    env = environment(start_test_servers(session))
    # Most tests wait for servers most of the time.
    env.setdefault("RUST_TEST_THREADS", str(2 * (os.cpu_count() or 1)))
    return run(["cargo", "test", "--workspace", "--locked", "--no-fail-fast", *sys.argv[1:]], env=env, cwd=ROOT, interactive=True).returncode


if __name__ == "__main__":
    guarded(main)
