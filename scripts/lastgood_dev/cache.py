"""Which keys does the demo's Redis customer have, and how do we know that they are the same again?"""

from __future__ import annotations

import hashlib

from .redis import Redis
from .resp import Connection, Reply

PAGES = 20_000
EXPIRES_AT = 4_102_444_800_000  # 2100, in milliseconds
DATABASES = (0, 3)
LIBRARY = "#!lua name=prices\nredis.register_function('with_tax', function(keys, args) return tonumber(args[1]) * 1.19 end)"


def fill_cache(cache: Redis) -> None:
    """Keys of every type in two databases, some of which expire, a stream that is half read, and a library of functions."""
    with cache.connection() as redis:
        redis.commands([("SET", f"page:{number}", f"<p>{number * 7919 % 10007}</p>" * 5) for number in range(PAGES)])
        redis.commands([("PEXPIREAT", f"page:{number}", EXPIRES_AT + number) for number in range(0, PAGES, 10)])
        redis.command("SET", "bytes", bytes(range(256)))
        redis.command("SET", "counter", 42)
        redis.command("RPUSH", "queue", *range(500))
        redis.command("SADD", "numbers", *range(0, 1000, 3))
        redis.command("SADD", "words", *(f"word-{number}" for number in range(300)))
        redis.command("ZADD", "ranking", *(word for number in range(400) for word in (number / 7, f"player {number}")))
        redis.command("HSET", "prices", *(word for number in range(200) for word in (f"article {number}", f"{number}.90")))
        for number in range(100):
            redis.command("XADD", "clicks", f"{number + 1}-0", "page", number)
        redis.command("XGROUP", "CREATE", "clicks", "billing", "0")
        redis.command("XREADGROUP", "GROUP", "billing", "worker", "COUNT", 40, "STREAMS", "clicks", ">")
        redis.command("XACK", "clicks", "billing", *(f"{number}-0" for number in range(1, 31)))
        redis.command("FUNCTION", "LOAD", LIBRARY)
        redis.command("SELECT", 3)
        redis.commands([("SET", f"session:{number}", number, "PXAT", EXPIRES_AT + number) for number in range(1000)])


def destroy_cache(cache: Redis) -> list[str]:
    """Loses it all, and returns what was done, as a person would have typed it."""
    with cache.connection() as redis:
        redis.command("FUNCTION", "FLUSH")
        redis.command("FLUSHALL")
    return ["FUNCTION FLUSH", "FLUSHALL"]


def cache_fingerprint(cache: Redis) -> dict[str, str]:
    """Returns the server's own digest of every key and value, and what that digest leaves out."""
    with cache.connection() as redis:
        prints = {
            "DEBUG DIGEST": _text(redis.command("DEBUG", "DIGEST")),
            "consumer groups": _text(redis.command("XINFO", "GROUPS", "clicks")) if redis.command("EXISTS", "clicks") else "none",
            "functions": _text(redis.command("FUNCTION", "LIST", "WITHCODE")),
        }
        for database in DATABASES:
            redis.command("SELECT", database)
            prints[f"database {database}"] = _expiries(redis)
    return prints


def _expiries(redis: Connection) -> str:
    """Returns how many keys the chosen database has, and a hash of when each of them ends."""
    names = redis.command("KEYS", "*")
    keys = sorted(name for name in names if isinstance(name, bytes)) if isinstance(names, list) else []
    ends = redis.commands([("PEXPIRETIME", key) for key in keys])
    return f"{len(keys)} keys, ends {hashlib.sha256(repr(list(zip(keys, ends))).encode()).hexdigest()[:16]}"


def _text(reply: Reply) -> str:
    if isinstance(reply, bytes):
        return reply.decode()
    if isinstance(reply, list):
        return " ".join(_text(each) for each in reply).replace("\n", " ")
    return str(reply)
