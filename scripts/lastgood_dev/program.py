"""How does a test start a server of its own, which it may configure and kill?"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping

from .child import Child

SKIP = "skip: "


@dataclass(frozen=True)
class Program:
    """The beginning of a command line that has no shell in it, and what the environment needs in addition."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> str:
        """Returns what a test reads: `{"argv": [...], "env": {...}}`."""
        return json.dumps({"argv": self.argv, "env": self.env})

    def environment(self) -> dict[str, str]:
        """Returns ours, and what the program needs in addition."""
        return {**os.environ, **self.env}

    def child(self, name: str, args: tuple[str | Path, ...], home: Path, stop_signal: int = signal.SIGTERM) -> Child:
        return Child(
            name, [*self.argv, *args], log=home / "log", cwd=home, env=self.environment(), stop_signal=stop_signal
        )
