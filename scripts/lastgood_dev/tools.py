"""Which tools do our checks use, in which version, and how do they get here?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from .child import run
from .mongodb import mongodb_program
from .pip import Wheel, installed
from .postgres import Major
from .program import SKIP
from .redis import Flavour
from .repo import DEV_DIR, Failure, Unavailable, say

TYPOS = Wheel("typos", "1.52.0", (
    "418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6",  # Linux x86_64
    "257324274303a459fef79978cae942568419d2e8b18519e5f66b93a7e2df2ba1",  # macOS arm64
))
CARGO_TOOLS = {"cargo-deny": "0.20.2", "cargo-machete": "0.9.2"}
TOOLS = ("typos", *CARGO_TOOLS)


def tool(name: str) -> Path:
    """Returns the program, installed if need be."""
    if name == "typos":
        return _typos()
    return _cargo_tool(name, CARGO_TOOLS[name])


def install_everything() -> None:
    """Brings all that tests and checks need, so that nothing after this uses the network."""
    for major in Major:
        major.install()
    mongodb_program()
    for flavour in Flavour:
        try:
            flavour.program()
        except Unavailable as why:
            say(f"{SKIP}{why}")
    for name in TOOLS:
        tool(name)


def _typos() -> Path:
    home = installed(TYPOS, "typos")
    program = home / f"typos-{TYPOS.version}.data" / "scripts" / "typos"
    program.chmod(0o755)
    return program


def _cargo_tool(name: str, version: str) -> Path:
    """A debug build: it takes half the time to make, and our checks run it for seconds."""
    on_path = shutil.which(name)
    if on_path and version in run([on_path, "--version"]).stdout.split():
        return Path(on_path)
    home = DEV_DIR / "tools" / f"{name}-{version}"
    if not home.is_dir():
        say(f"building {name} {version} into {home.relative_to(DEV_DIR.parent)}, once")
        _cargo_install(name, version, home)
    return home / "bin" / name


def _cargo_install(name: str, version: str, home: Path) -> None:
    home.parent.mkdir(parents=True, exist_ok=True)
    env = {key: value for key, value in os.environ.items() if key not in ("CARGO_TARGET_DIR", "RUSTFLAGS")}
    with tempfile.TemporaryDirectory(dir=DEV_DIR, prefix="building-") as temporary:
        root = Path(temporary) / "root"
        done = run(
            ["cargo", "install", "--quiet", "--locked", "--debug", "--no-track", "--root", root, "--version", version, name],
            env={**env, "CARGO_TARGET_DIR": str(Path(temporary) / "target")}, cwd=Path(temporary),
        )
        if done.returncode != 0:
            raise Failure(f"could not build {name} {version}:\n{done.stderr.strip()}")
        root.rename(home)
