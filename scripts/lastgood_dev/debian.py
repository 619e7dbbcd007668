"""How do we get a Debian package's programs without root and without installing it?"""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path
from typing import Callable

from .child import run
from .pip import appearing_whole
from .repo import DEV_DIR, Failure, Unavailable


def unpacked_packages(packages: tuple[str, ...], name: str, wanted: Callable[[str], bool], wish: str) -> Path:
    """Returns the folder with the files of `packages` and of what they need and this machine lacks, as apt resolves it.

    The version is the distribution's: apt checks its signature, and removes it from its archive when the next one comes, so it
    cannot be pinned by hash. `wanted` judges the version of the first package.
    """
    home = DEV_DIR / name
    if home.is_dir():
        return home
    for tool in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{wish} comes from a Debian package, and there is no {tool} here")
    DEV_DIR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV_DIR, prefix="apt-") as temporary:
        options = _private(Path(temporary))
        updated = run(["apt-get", "update", "--quiet=2", *options])  # another repository's trouble is not ours
        version = _candidate(packages[0], options)
        if not wanted(version):
            offer = f"offers {packages[0]} {version}" if version else f"knows no {packages[0]}\n{updated.stderr.strip()}"
            raise Unavailable(f"{wish} comes from a Debian package, and apt {offer}".strip())
        with appearing_whole(home, f"{packages[0]} {version} (from apt)") as folder:
            _download_and_unpack(packages, options, Path(temporary), folder)
    return home


def library_path(home: Path) -> str:
    """Returns a LD_LIBRARY_PATH with every folder of `home` that has libraries."""
    return ":".join(sorted({str(path.parent) for path in home.rglob("*.so.*")}))


def _private(temporary: Path) -> list[str]:
    """Returns options that make apt keep its lists, its cache and its locks to `temporary`, and read what is installed."""
    state, cache = temporary / "state", temporary / "cache"
    (state / "lists" / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    settings = (
        f"Dir::State={state}", "Dir::State::status=/var/lib/dpkg/status", f"Dir::Cache={cache}", "Debug::NoLocking=1",
        "APT::Sandbox::User=root",  # else root's apt downloads as a user who cannot write here
    )
    return [part for setting in settings for part in ("--option", setting)]


def _candidate(package: str, options: list[str]) -> str:
    """Returns the version that apt would install, or nothing."""
    policy = run(["apt-cache", "policy", *options, package], env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"}).stdout
    version = policy.partition("Candidate:")[2].split("\n")[0].strip()
    return "" if version == "(none)" else version


def _download_and_unpack(packages: tuple[str, ...], options: list[str], temporary: Path, into: Path) -> None:
    # `install` and not `download`, which would leave out the libraries.
    done = run([
        "apt-get", "install", "--quiet=2", "--yes", "--download-only", "--reinstall", "--no-install-recommends", *options, *packages,
    ])
    archives = sorted((temporary / "cache" / "archives").glob("*.deb"))
    if done.returncode != 0 or not archives:
        raise Failure(f"apt could not download {' '.join(packages)}:\n{done.stderr.strip()}")
    for archive in archives:
        unpacked = run(["dpkg-deb", "--extract", archive, into])
        if unpacked.returncode != 0:
            raise Failure(f"dpkg-deb could not unpack {archive.name}: {unpacked.stderr.strip()}")
    for path in into.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & 0o777)  # otherwise root would unpack a setuid sudo that nobody installed
