"""Which documents does the demo's MongoDB customer have, and how do we know that they are the same again?"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, Mapping

from .mongodb import MongoDb

ORDERS = 2_000
EVENTS = 500
EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class DocumentCustomer:
    """One database, its owner (who may touch no other), and the password that opens it."""

    server: MongoDb
    database: str
    owner: str
    password: str

    @property
    def url(self) -> str:
        return self.server.url(self.database, self.owner, self.password)


def create_document_customer(server: MongoDb, database: str) -> DocumentCustomer:
    """Returns the owner of a database that comes to be with its first collection."""
    owner, password = f"{database}_owner", secrets.token_urlsafe(24)
    roles = [{"role": role, "db": database} for role in ("readWrite", "dbAdmin")]
    with server.client() as client:
        client.admin.command("createUser", owner, pwd=password, roles=roles)
    return DocumentCustomer(server, database, owner, password)


def fill_orders(orders: DocumentCustomer) -> None:
    """Documents of many types, indexes of every kind, a validator, a capped collection and a view."""
    with orders.server.client() as client:
        database = client[orders.database]
        database.create_collection("orders", validator={"$jsonSchema": {"bsonType": "object", "required": ["number", "state"]}})
        database.orders.insert_many([_order(number) for number in range(ORDERS)])
        # In this order: the name comes after the state, although not in the alphabet.
        database.orders.create_index([("state", 1), ("customer.name", -1), ("at", 1)], name="by_state")
        database.orders.create_index("number", name="one_per_number", unique=True)
        database.orders.create_index("total", name="large_ones", partialFilterExpression={"large": True})
        database.orders.create_index("customer.name", name="by_name", collation={"locale": "en", "strength": 2})
        database.create_collection("sessions")
        database.sessions.insert_many([{"_id": secrets.token_hex(8), "at": datetime.now(timezone.utc)} for _ in range(100)])
        database.sessions.create_index("at", name="for_a_day", expireAfterSeconds=86_400)
        database.create_collection("events", capped=True, size=1_000_000)
        database.events.insert_many([{"_id": number, "what": "paid", "order": number % ORDERS} for number in range(EVENTS)])
        database.create_collection("open_orders", viewOn="orders", pipeline=[{"$match": {"state": "open"}}])


def destroy_orders(orders: DocumentCustomer) -> list[str]:
    """Loses most of it, and returns what was done, as a person would have typed it."""
    with orders.server.client() as client:
        database = client[orders.database]
        database.orders.drop()
        database.sessions.drop_indexes()
        database.sessions.delete_many({})
        database.open_orders.drop()
    return ["db.orders.drop()", "db.sessions.dropIndexes()", "db.sessions.deleteMany({})", "db.open_orders.drop()"]


def document_fingerprint(orders: DocumentCustomer) -> dict[str, str]:
    """Returns each collection's documents, by count and by a hash of their bytes, its options and its indexes."""
    with orders.server.client() as client:
        database = client[orders.database]
        prints = {}
        for collection in sorted(database.list_collections(), key=lambda each: each["name"]):
            name = collection["name"]
            if name == "system.views":
                continue  # nobody may read it, and the views tell what is in it
            prints[f"{collection['type']} {name}"] = _contents(database, name)
            prints[f"options of {name}"] = _text(collection["options"])
            if collection["type"] == "collection":
                for index in database[name].list_indexes():
                    prints[f"index {name}.{index['name']}"] = _text(dict(sorted(index.items())))
        return prints


def _contents(database: Any, name: str) -> str:
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument

    count, digest = 0, hashlib.sha256()
    for document in database.get_collection(name, CodecOptions(RawBSONDocument)).find(sort=[("_id", 1)]):
        count += 1
        digest.update(document.raw)
    return f"{count} documents, sha256 {digest.hexdigest()[:16]}"


def _text(value: Mapping[str, Any]) -> str:
    """Returns extended JSON that keeps types apart, and fields in their order."""
    from bson import json_util

    return json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)


def _order(number: int) -> dict[str, Any]:
    """A formula, so that every demo has the same orders, and one value of each type that is worth a mistake."""
    from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp

    return {
        "_id": ObjectId(f"{number:024x}"),
        "number": number,
        "state": ("open", "paid", "sent")[number % 3],
        "customer": {"name": f"Ünal {number * 7919 % 1009}", "address": None, "since": EPOCH - timedelta(days=number)},
        "at": EPOCH + timedelta(minutes=number),
        "total": Decimal128(f"{number}.90"),
        "weight": number / 7,
        "large": number % 10 == 0,
        "views": Int64(number) << 33,
        "lines": [{"article": number + line, "count": line} for line in range(number % 4)],
        "token": Binary(number.to_bytes(16, "big"), 4),
        "changed": Timestamp(1_767_225_600 + number, 1),
        "odd": [Regex("^a.b$", "i"), Code("return 1"), MinKey(), MaxKey(), float("inf"), "", {}, []],
    }
