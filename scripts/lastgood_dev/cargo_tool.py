"""How do we get a program out of a crate, built once?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .child import run
from .repo import DEV_DIR, Failure, say


def cargo_tool(name: str, version: str, options: tuple[str, ...] = ()) -> Path:
    """Returns the program. A debug build: it takes half the time to make, and our checks run it for seconds."""
    on_path = shutil.which(name)
    if on_path and version in run([on_path, "--version"]).stdout.split():
        return Path(on_path)
    home = DEV_DIR / "tools" / f"{name}-{version}"
    if not home.is_dir():
        say(f"building {name} {version} into {home.relative_to(DEV_DIR.parent)}, once")
        _install(name, version, options, home)
    return home / "bin" / name


def _install(name: str, version: str, options: tuple[str, ...], home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    env = {key: value for key, value in os.environ.items() if key not in ("CARGO_TARGET_DIR", "RUSTFLAGS")}
    with tempfile.TemporaryDirectory(dir=DEV_DIR, prefix="building-") as temporary:
        root = Path(temporary) / "root"
        done = run(
            ["cargo", "install", "--quiet", "--locked", "--debug", "--no-track", "--root", root, "--version", version, *options, name],
            # Nobody debugs these; without it the build is a third quicker.
            env={**env, "CARGO_TARGET_DIR": str(Path(temporary) / "target"), "CARGO_PROFILE_DEV_DEBUG": "0"}, cwd=Path(temporary),
        )
        if done.returncode != 0:
            raise Failure(f"could not build {name} {version}:\n{done.stderr.strip()}")
        root.rename(home)
