#!/usr/bin/env python3
"""Checks the layout of the repository: no cycle among the rooms of jobs/src, no Rust file over 500 lines, no stray file at the top.

A room is a module of the crate's root, and each engine's and the others below `engine`. Whatever stands in its files that begins with
`crate::` is what it depends on; tests may reach anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lastgood_dev.repo import ROOT, Failure, say, tracked_files, tracked_rust_files

LINES_MAX = 500
TOP_LEVEL = frozenset("""
    .ci .dockerignore .gitignore .sqlx ARCHITECTURE.md BENCHMARKS.md CHANGELOG.md CONTRIBUTING.md Cargo.lock Cargo.toml Dockerfile
    LICENSE-APACHE LICENSE-MIT METRICS.md Makefile README.md SECURITY.md build.rs clippy.toml deny.toml deploy docker-compose.yml docs jobs
    migrations plans.yaml rustfmt.toml scripts sql sqlx.toml src tests typos.toml
""".split())
CRATE = ROOT / "jobs" / "src"
COMMENT = re.compile(r"//[^\n]*")
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\nmod \w+ \{.*", re.DOTALL)
NAME = re.compile(r"\s*(\w+|\*)")
Graph = dict[str, set[str]]


def main() -> int:
    faults = [f"{path.relative_to(ROOT)} has {lines} lines: split it" for path, lines in long_files()]
    faults += [f"{name} is not known at the top level: move it, or add it to TOP_LEVEL" for name in strays(tracked_files())]
    rooms = graph({path.relative_to(CRATE): path.read_text() for path in tracked_rust_files() if path.is_relative_to(CRATE)})
    faults += [f"rooms of jobs/src depend on each other: {' -> '.join(cycle)}" for cycle in cycles(rooms)]
    if faults:
        raise Failure("\n".join(faults))
    say(f"{len(rooms)} rooms in jobs/src without a cycle, no Rust file over {LINES_MAX} lines")
    return 0


def strays(files: list[Path]) -> list[str]:
    """Returns what lies at the top level and does not belong there."""
    return sorted({path.relative_to(ROOT).parts[0] for path in files} - TOP_LEVEL)


def long_files() -> Iterator[tuple[Path, int]]:
    for path in tracked_rust_files():
        lines = path.read_text().count("\n")
        if lines > LINES_MAX:
            yield path, lines


def graph(files: dict[Path, str]) -> Graph:
    """Returns which room depends on which others, by the files of a crate."""
    rooms: Graph = {}
    known = {path.with_suffix("").parts for path in files}
    for path, text in files.items():
        if is_test(path):
            continue
        room = room_of(path.with_suffix("").parts, known)
        text = TEST_MODULE.sub("", COMMENT.sub("", text))
        needed = {room_of(names, known) for names in paths(text)}
        rooms.setdefault(room, set()).update(needed - {room})
    return rooms


def is_test(path: Path) -> bool:
    return path.name in {"lib.rs", "tests.rs", "pretend.rs"} or bool({"tests", "fuzzing"} & set(path.with_suffix("").parts))


def room_of(names: tuple[str, ...], known: set[tuple[str, ...]]) -> str:
    """Returns the room that a module or an item of a module is in."""
    if names[0] == "engine" and names[:2] in known and len(names) > 1:
        return "/".join(names[:2])
    return names[0]


def paths(text: str) -> Iterator[tuple[str, ...]]:
    """Returns every path below `crate`, those in braces one by one."""
    for found in re.finditer(r"\bcrate::", text):
        yield from tree(text, found.end())[0]


def tree(text: str, at: int) -> tuple[list[tuple[str, ...]], int]:
    """Reads a tree of paths: `a::b`, or `a::{b, c::d}`."""
    if text[at] == "{":
        found: list[tuple[str, ...]] = []
        at += 1
        while text[at:].lstrip()[0] != "}":
            at += len(text[at:]) - len(text[at:].lstrip())
            branch, at = tree(text, at)
            found += branch
            at += len(re.match(r"(\s+as\s+\w+)?\s*,?", text[at:]).group(0))
        return found, text.index("}", at) + 1
    name = NAME.match(text, at)
    if name is None:
        return [()], at
    at = name.end()
    if text.startswith("::", at):
        below, at = tree(text, at + 2)
        return [(name.group(1), *rest) for rest in below], at
    return [(name.group(1),)], at


def cycles(rooms: Graph) -> list[list[str]]:
    """Returns a cycle for each knot of rooms that reach each other."""
    found: list[list[str]] = []
    seen: set[str] = set()
    for start in sorted(rooms):
        if start in seen:
            continue
        way = back_to(start, rooms)
        if way:
            found.append(way)
            seen.update(way)
    return found


def back_to(start: str, rooms: Graph) -> list[str]:
    """Returns the shortest way from a room back to itself; empty where there is none."""
    ways = [[start]]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for room in sorted(rooms.get(way[-1], set())):
            if room == start:
                return [*way, start]
            if room not in seen:
                seen.add(room)
                ways.append([*way, room])
    return []


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except Failure as failure:
        raise SystemExit(f"layout: {failure}") from None
