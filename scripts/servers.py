#!/usr/bin/env python3
"""Runs the servers that the tests use, for as long as you need them.

    scripts/servers.py              prints `export` lines, and keeps the servers until Ctrl-C
    scripts/servers.py -- COMMAND   runs the command with those variables set, then stops the servers
"""

from __future__ import annotations

import argparse
import shlex

from lastgood_dev.child import run
from lastgood_dev.repo import say
from lastgood_dev.session import Session, guarded
from lastgood_dev.test_servers import environment, start_test_servers


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Runs the servers that the tests use, until Ctrl-C or the command's end.")
    parser.add_argument("command", nargs="*", help="a command to run with the servers' addresses in its environment")
    return parser.parse_args()


def main(session: Session) -> int:
    command = arguments().command
    variables = start_test_servers(session)
    if command:
        return run(command, env=environment(variables), interactive=True).returncode
    for name, value in variables.items():
        say(f"export {name}={shlex.quote(value)}")
    say("# the servers run until Ctrl-C")
    session.wait_for_interrupt()


if __name__ == "__main__":
    arguments()  # a usage error is told before anything starts
    guarded(main)
