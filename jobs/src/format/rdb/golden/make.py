#!/usr/bin/env python3
"""Starts a server, fills it with every type and encoding it has, and leaves the RDB file.

    make.py SERVER_BINARY OUT.rdb     (a second run with "lfu" in OUT's name uses the LFU policy)
"""
import os, socket, subprocess, sys, tempfile, time

server, out = sys.argv[1], os.path.abspath(sys.argv[2])
lfu = "lfu" in os.path.basename(out)
folder = tempfile.mkdtemp()
path = os.path.join(folder, "s")
policy = "allkeys-lfu" if lfu else "allkeys-lru"
process = subprocess.Popen([server, "--port", "0", "--unixsocket", path, "--dir", folder, "--save", "", "--maxmemory-policy", policy,
    "--maxmemory", "200mb", "--dbfilename", "out.rdb"], stdout=subprocess.DEVNULL)
while True:
    try:
        s = socket.socket(socket.AF_UNIX); s.connect(path); break
    except OSError:
        time.sleep(0.02)
f = s.makefile("rb")

def reply():
    line = f.readline().rstrip()
    kind, rest = line[:1], line[1:]
    if kind == b"-": raise RuntimeError(rest.decode())
    if kind in b"+:": return rest
    if kind == b"$": return None if rest == b"-1" else f.read(int(rest) + 2)[:-2]
    if kind == b"*": return None if rest == b"-1" else [reply() for _ in range(int(rest))]
    raise RuntimeError(line)

def do(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
    return reply()

def config(**settings):
    """Sets what this version knows, under the name it knows."""
    for name, value in settings.items():
        name = name.replace("_", "-")
        for known in (name, name.replace("listpack", "ziplist")):
            try:
                do("CONFIG", "SET", known, value); break
            except RuntimeError:
                pass

def maybe(*words):
    try:
        return do(*words)
    except RuntimeError as error:
        print("not here:", words[0], error)

version = do("INFO", "server").decode()
numbers = [0, 12, 13, 63, 64, 127, 128, -1, -128, -129, 4095, 4096, -4096, -4097, 32767, -32768, 32768, 8388607, -8388608, 8388608,
           2147483647, -2147483648, 2147483648, 9223372036854775807, -9223372036854775808]
do("SET", "string:plain", "hello"); do("SET", "string:empty", ""); do("SET", b"binary\x00\xff\r\n", bytes(range(256)))
for n in (0, -1, 127, 128, -129, 32768, 2147483647, 2147483648): do("SET", f"string:int:{n}", n)
do("SET", "string:lzf", "abcdefgh" * 100); do("SET", "string:lzf:run", "x" * 20000)
do("SET", "k" * 300, "a long key"); do("SET", "12345", "a key that is a number")
do("SET", "expiring", "later", "PX", 4000000000000); do("SET", "expiring:lzf", "z" * 400, "PX", 4000000000000)
for n, words in (("small", numbers), ("strings", ["a", "b" * 70, "c" * 300, ""])):
    do("RPUSH", f"list:{n}", *words)
config(list_max_listpack_size=4, list_compress_depth=1)
do("RPUSH", "list:nodes", *numbers, *["element %d" % n * 5 for n in range(20)])
do("RPUSH", "list:plain", "p" * 9000, "q" * 20, "r" * 9000)
config(list_max_listpack_size=-2, list_compress_depth=0)
do("RPUSH", "list:large", "small", "s" * 70000)
for width, big in ((16, 3000), (32, 70000), (64, 5000000000)): do("SADD", f"set:intset:{width}", 1, 2, -3, big)
do("SADD", "set:small", "a", "b", "c", 7, -300, "d" * 50); do("SADD", "set:table", *["member %d" % n for n in range(40)], "x" * 70)
do("ZADD", "zset:small", 1, "one", "2.5", "two and a half", "-inf", "least", "inf", "most", "1e300", "huge", "-0.1", "3", 12345678901, 17)
config(zset_max_listpack_entries=0)
do("ZADD", "zset:table", *sum([[n / 3, f"m{n}"] for n in range(20)], []), "-inf", "least", "inf", "most")
do("HSET", "hash:small", "f", "v", "n", 5, "long", "l" * 60, "negative", -70000)
do("HSET", "hash:table", *sum([[f"field {n}", f"value {n}"] for n in range(20)], []), "x" * 70, "y" * 500)
do("XADD", "stream", "1-1", "a", 1, "b", "two"); do("XADD", "stream", "1-2", "a", -5, "b", "x" * 100); do("XADD", "stream", "5-0", "other", "fields", "c", 3)
do("XADD", "stream", "9999999-7", "a", 70000, "b", ""); do("XADD", "stream", "9999999-8", "deleted", 1); do("XDEL", "stream", "9999999-8", "1-2")
do("XGROUP", "CREATE", "stream", "group", "0"); do("XGROUP", "CREATE", "stream", "idle", "$"); do("XGROUP", "CREATECONSUMER", "stream", "group", "lazy")
do("XREADGROUP", "GROUP", "group", "alice", "COUNT", 2, "STREAMS", "stream", ">"); do("XREADGROUP", "GROUP", "group", "bob", "COUNT", 1, "STREAMS", "stream", ">")
do("XREADGROUP", "GROUP", "group", "alice", "STREAMS", "stream", "0"); do("XACK", "stream", "group", "1-1")
config(stream_node_max_entries=3)
for n in range(10): do("XADD", "stream:nodes", f"{n + 1}-0", "n", n, "text", "t" * n)
do("XADD", "stream:empty", "7-7", "a", "b"); do("XDEL", "stream:empty", "7-7"); do("XGROUP", "CREATE", "stream:empty", "g", "$")
maybe("FUNCTION", "LOAD", "#!lua name=mylib\nredis.register_function('answer', function() return 42 end)\n")
do("PFADD", "hyperloglog", *range(50)); do("GEOADD", "geo", 13.361389, 38.115556, "Palermo"); do("SETBIT", "bits", 100, 1)
if maybe("HSET", "hash:ttl", "stays", 1, "goes", 2, "goes too", "v" * 80) and maybe("HPEXPIREAT", "hash:ttl", 4000000000000, "FIELDS", 2, "goes", "goes too"):
    do("HSET", "hash:ttl:small", "stays", 1, "goes", 2); do("HPEXPIREAT", "hash:ttl:small", 4000000000001, "FIELDS", 1, "goes")
do("SELECT", 3); do("SET", "other", "database"); do("SELECT", 15); do("SET", "last", 1, "PX", 4000000000001); do("SELECT", 0)
if lfu:
    for n in range(200): do("GET", "string:plain")
print(version.split("\r\n")[1], do("DBSIZE"))
do("SAVE")
os.replace(os.path.join(folder, "out.rdb"), out)
process.terminate(); process.wait()
