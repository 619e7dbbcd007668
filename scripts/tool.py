#!/usr/bin/env python3
"""Runs a pinned tool, installing it first if need be: `scripts/tool.py NAME [ARGUMENTS]`, or `scripts/tool.py --all` to install."""

from __future__ import annotations

import sys

from lastgood_dev.child import run
from lastgood_dev.repo import ROOT
from lastgood_dev.session import Session, guarded
from lastgood_dev.tools import TOOLS, install_everything, tool


def main(_session: Session) -> int:
    name, *rest = sys.argv[1:]
    if name == "--all":
        install_everything()
        return 0
    return run([tool(name), *rest], cwd=ROOT, interactive=True).returncode


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in (*TOOLS, "--all"):
        print(f"usage: tool.py --all | ({' | '.join(TOOLS)}) [ARGUMENTS]", file=sys.stderr)
        raise SystemExit(2)
    guarded(main)
