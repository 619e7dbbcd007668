"""How fast are backups and restores of MongoDB, against a bare read and write of the same documents, and MongoDB's own tools?"""

from __future__ import annotations

import os
import random
import shutil
from functools import partial
from pathlib import Path
from typing import Any, Callable

from ..measure import Row, clocked, forget_peak, medians, peak_mb, run_seconds, timed
from ..mongodb import MongoDb, start_mongodb
from ..postgres import Postgres
from ..repo import say
from ..service import Lastgood
from ..session import Session
from .consumer import start_lastgood

# About 1 GB. DOCUMENTS=10000000 shows that memory does not grow with the database.
DOCUMENTS = int(os.environ.get("DOCUMENTS", "1_000_000"))
BATCH = 2_000


def mongodb_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """One database of documents of about 1 KB with two secondary indexes."""
    server = start_mongodb(session, "mongodb-customer")
    with server.client() as client:
        size = fill(client["orders"])
        lastgood, consumer = start_lastgood(session, binary, catalog, "mongodb", "orders", {"ORDERS_URL": server.url("orders")})
        dump = medians(dump_contenders(lastgood, client["orders"], server, session.run_dir))
        peak = peak_mb(consumer.child.pid)
        forget_peak(consumer.child.pid)
        restore = medians(restore_contenders(lastgood, client, server, session.run_dir))
    return rows_of(size, dump, restore, (peak, peak_mb(consumer.child.pid)))


def fill(database: Any) -> int:
    """Returns how many bytes of documents there are."""
    say(f"filling a MongoDB database with {DOCUMENTS:,} documents ...")
    numbers = random.Random(1)
    for start in range(0, DOCUMENTS, BATCH):
        database.orders.insert_many([document(number, numbers) for number in range(start, start + BATCH)], ordered=False)
    database.orders.create_index([("customer", 1), ("at", -1)])
    database.orders.create_index("state")
    return sum(len(batch) for batch in database.orders.find_raw_batches(batch_size=BATCH))


def document(number: int, numbers: random.Random) -> dict[str, object]:
    return {
        "_id": number, "customer": number * 7919 % 100_003, "at": 1_767_225_600 + number, "state": ("new", "paid", "sent")[number % 3],
        "lines": [{"sku": numbers.randbytes(8).hex(), "quantity": number % 7, "price": number * 1.25} for _ in range(6)],
        "note": numbers.randbytes(300).hex(),
    }


MONGODUMP = {
    "mongodump >/dev/null": " >/dev/null",
    "mongodump | zstd -1 >/dev/null": " | zstd -1 -q >/dev/null",
    # The last one leaves what mongorestore reads.
    "mongodump --archive=FILE": "={files}/mongodump.archive",
}


def dump_contenders(lastgood: Lastgood, database: Any, server: MongoDb, files: Path) -> dict[str, Callable[[], float]]:
    def bare() -> float:
        return clocked(lambda: sum(len(batch) for batch in database.orders.find_raw_batches(batch_size=BATCH)))

    contenders = {
        "bare read of every batch": bare,
        "lastgood backup of MongoDB": lambda: run_seconds(lastgood, "backup", "now", "orders"),
    }
    if shutil.which("mongodump"):
        dump = f"mongodump --quiet --config {config(server, files)} --db orders --archive"
        for name, to in MONGODUMP.items():
            contenders[name] = partial(timed, dump + to.format(files=files), dict(os.environ))
    return contenders


def restore_contenders(lastgood: Lastgood, client: Any, server: MongoDb, files: Path) -> dict[str, Callable[[], float]]:
    from bson.raw_bson import RawBSONDocument  # comes with pymongo, which comes with the server

    raw = list(client.get_database("orders").get_collection("orders", codec_options=_raw(RawBSONDocument)).find())

    def bare() -> float:
        client.drop_database("target")
        target = client["target"].orders
        return clocked(lambda: [target.insert_many(raw[start:start + BATCH], ordered=False) for start in range(0, len(raw), BATCH)])

    def ours() -> float:
        client.drop_database("target")
        return run_seconds(lastgood, "restore", "orders", "--into", "target")

    contenders = {"bare insert of every document, no index": bare, "lastgood restore of MongoDB": ours}
    if shutil.which("mongorestore") and shutil.which("mongodump"):
        contenders["mongorestore"] = lambda: timed(
            f"exec mongorestore --quiet --drop --config {config(server, files)} --archive={files}/mongodump.archive"
            " --nsFrom 'orders.*' --nsTo 'target.*'", dict(os.environ),
        )
    return contenders


def _raw(document_class: Any) -> Any:
    from bson.codec_options import CodecOptions

    return CodecOptions(document_class=document_class)


def config(server: MongoDb, files: Path) -> Path:
    """Returns a file with the address: MongoDB's tools would show a password in their argument list."""
    path = files / "mongo-tools.yaml"
    path.touch(mode=0o600)
    path.write_text(f'uri: "{server.url()}"\n')
    return path


def rows_of(size: int, dump: dict[str, float], restore: dict[str, float], peaks: tuple[float, float]) -> list[Row]:
    ours, back = dump["lastgood backup of MongoDB"], restore["lastgood restore of MongoDB"]
    rows = [
        (f"MongoDB: backup of {DOCUMENTS:,} documents, {size / 1e6:.0f} MB", f"{ours:.2f} s, {size / ours / 1e6:.0f} MB/s", ""),
        *((f"… against `{name}`", f"{ours / dump[name]:.2f} × of {dump[name]:.2f} s", "") for name in dump if not name.startswith("lastgood")),
        ("MongoDB: restore into another database, two indexes built", f"{back:.2f} s, {DOCUMENTS / back:,.0f} documents/s", ""),
        *((f"… against `{name}`", f"{back / restore[name]:.2f} × of {restore[name]:.2f} s", "") for name in restore if not name.startswith("lastgood")),
        ("… peak memory of the consumer: backups, restores", "{:.0f} MB, {:.0f} MB".format(*peaks), "< 150 MB"),
    ]
    return rows
