"""Where is everything, and what does cargo need to know?"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEV_DIR = ROOT / ".lastgood"
MIGRATIONS = ROOT / "migrations"
FUNCTIONS = ROOT / "sql" / "functions"
SQLX_CACHE = ROOT / ".sqlx"


class Failure(Exception):
    """Something expected went wrong: the message tells a reader what, and what to do."""


class Unavailable(Failure):
    """This machine cannot have it, and most others can: what needs it is skipped, and says so."""


def say(text: str = "") -> None:
    print(text, flush=True)


def offline_sqlx_env() -> dict[str, str]:
    """Returns the environment in which the sqlx macros read `.sqlx` and no database by chance."""
    env = {**os.environ, "SQLX_OFFLINE": "true"}
    env.pop("DATABASE_URL", None)
    return env


def target_dir() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()


def tracked_files(*patterns: str) -> list[Path]:
    """Returns the repository's files, as git sees them (new files included, ignored ones not)."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
    ).stdout.split("\n")
    return [ROOT / name for name in listed if name and (ROOT / name).exists()]


def tracked_rust_files() -> list[Path]:
    """Returns the workspace's own sources."""
    return tracked_files("*.rs")
