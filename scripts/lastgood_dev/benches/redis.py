"""How fast are backups and restores of Redis, against `redis-cli --rdb` to a file?"""

from __future__ import annotations

import itertools
import random
from pathlib import Path

from ..measure import Row, forget_peak, medians, peak_mb, run_seconds, timed
from ..redis import Flavour, Redis, redis_cli, start_redis
from ..repo import Unavailable, say
from ..service import Lastgood
from ..session import Session
from ..postgres import Postgres
from .consumer import start_lastgood

KEYS = 1_000_000
BATCH = 10_000


def redis_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """A server with a million keys: strings, and a tenth of them hashes, which hardly compress."""
    try:
        cli, source = redis_cli(), start_redis(session, "redis-source", Flavour.REDIS6)
    except Unavailable as why:
        return [("Redis", f"not measured: {why}", "")]
    target = start_redis(session, "redis-target", Flavour.REDIS6)
    fill(source)
    settings = {"CACHE_URL": source.url(), "TARGET_URL": target.url()}
    lastgood, consumer = start_lastgood(session, binary, catalog, "redis", "cache", settings)
    # Each dump is a new file, as each archive is: to write over an old one is cheaper.
    files = (session.run_dir / f"bare-{number}.rdb" for number in itertools.count())
    contenders = {
        "redis-cli --rdb FILE": lambda: timed(f"exec {cli} -p {source.port} --rdb {next(files)} >/dev/null 2>&1", {"REDISCLI_AUTH": source.password}),
        "lastgood backup of Redis": lambda: run_seconds(lastgood, "backup", "now", "cache"),
    }
    dumps = {}
    for way, diskless in (("over the server's disk", "no"), ("without it", "yes")):
        with source.connection() as ours:
            ours.commands([("CONFIG", "SET", "repl-diskless-sync", diskless), ("CONFIG", "SET", "repl-diskless-sync-delay", 0)])
        dumps[way] = medians(contenders)
    peak = peak_mb(consumer.child.pid)
    forget_peak(consumer.child.pid)
    restore = medians({"lastgood restore of Redis": lambda: restored(lastgood, target)})["lastgood restore of Redis"]
    return rows_of((session.run_dir / "bare-0.rdb").stat().st_size, dumps, restore, (peak, peak_mb(consumer.child.pid)), lastgood)


def fill(server: Redis) -> None:
    say(f"filling a Redis server with {KEYS:,} keys ...")
    numbers = random.Random(1)
    with server.connection() as ours:
        for start in range(0, KEYS, BATCH):
            ours.commands([set_of(number, numbers) for number in range(start, start + BATCH)])


def set_of(number: int, numbers: random.Random) -> tuple[str | bytes, ...]:
    if number % 10:
        return ("SET", f"session:{number}", numbers.randbytes(200))
    fields = (part for name in ("name", "mail", "token", "seen") for part in (name, numbers.randbytes(24)))
    return ("HSET", f"user:{number}", *fields)


def restored(lastgood: Lastgood, target: Redis) -> float:
    with target.connection() as theirs:
        theirs.command("FLUSHALL")
    return run_seconds(lastgood, "restore", "cache", "--into", "env:TARGET_URL")


def rows_of(size: int, dumps: dict[str, dict[str, float]], restore: float, peaks: tuple[float, float], lastgood: Lastgood) -> list[Row]:
    stored = lastgood.restore_points("cache")[0].stored_bytes
    return [
        *(row for way, dump in dumps.items() for row in rows_of_dump(size, way, dump, stored)),
        ("Redis: restore into an empty server, one connection", f"{restore:.2f} s, {KEYS / restore:,.0f} keys/s", "> 300,000 keys/s"),
        ("… peak memory of the consumer: backups, restores", "{:.0f} MB, {:.0f} MB".format(*peaks), "< 150 MB"),
    ]


def rows_of_dump(size: int, way: str, dump: dict[str, float], stored: int) -> list[Row]:
    ours, bare = dump["lastgood backup of Redis"], dump["redis-cli --rdb FILE"]
    return [
        (f"Redis: backup of {KEYS:,} keys {way}, an RDB of {size / 1e6:.0f} MB", f"{ours:.2f} s, {size / ours / 1e6:.0f} MB/s, {stored / 1e6:.0f} MB stored", ""),
        ("… its rate against `redis-cli --rdb FILE`", f"{bare / ours:.2f} × of {size / bare / 1e6:.0f} MB/s", "≥ 1 ×"),
    ]
