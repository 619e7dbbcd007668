"""How does a test start a server of its own, which it may configure and kill?"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from .child import Child, run

SKIP = "skip: "


@dataclass(frozen=True)
class Program:
    """The beginning of a command line that has no shell in it, and what the environment needs in addition."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> str:
        """Returns what a test reads: `{"argv": [...], "env": {...}}`."""
        return json.dumps({"argv": self.argv, "env": self.env})

    def child(self, name: str, args: tuple[str | Path, ...], home: Path, stop_seconds: float = 15) -> Child:
        return Child(
            name, [*self.argv, *args], log=home / "log", cwd=home, env={**os.environ, **self.env}, stop_seconds=stop_seconds
        )

    def output(self, *args: str) -> str:
        """Returns what the program says to such a question as `--version`, and nothing when it cannot run."""
        done = run([*self.argv, *args], env={**os.environ, **self.env})
        return done.stdout if done.returncode == 0 else ""
