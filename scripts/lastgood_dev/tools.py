"""Which tools do our checks use, in which version, and how do they get here?"""

from __future__ import annotations

from pathlib import Path

from .age import age_tools
from .cargo_tool import cargo_tool
from .ceph import ceph_programs
from .contract import schemathesis_packages
from .mongodb import MongoVersion, mongodb_program
from .pgbouncer import pgbouncer_program
from .pip import Wheel, installed
from .postgres import Major, postgis_installation
from .program import SKIP
from .prometheus import promtool
from .redis import Flavour
from .repo import Unavailable, say
from .s3 import moto_program, s3s_program

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
    return cargo_tool(name, CARGO_TOOLS[name])


def install_everything() -> None:
    """Brings all that tests and checks need, so that nothing after this uses the network."""
    for major in Major:
        major.install()
    for version in MongoVersion:
        mongodb_program(version)
    moto_program()
    s3s_program()
    schemathesis_packages()
    of_debian = (promtool, postgis_installation, pgbouncer_program, age_tools, ceph_programs)
    for needs_apt in (*(flavour.program for flavour in Flavour), *of_debian):
        try:
            needs_apt()
        except Unavailable as why:
            say(f"{SKIP}{why}")
    for name in TOOLS:
        tool(name)


def _typos() -> Path:
    home = installed(TYPOS, "typos")
    program = home / f"typos-{TYPOS.version}.data" / "scripts" / "typos"
    program.chmod(0o755)
    return program
