"""A fingerprint is the same for the same data, and tells what was lost."""

from __future__ import annotations

from lastgood_dev.cache import cache_fingerprint, destroy_cache, fill_cache
from lastgood_dev.documents import create_document_customer, destroy_orders, document_fingerprint, fill_orders
from lastgood_dev.mongodb import start_mongodb
from lastgood_dev.redis import Flavour, start_redis

from .test_servers import WithSession


class Fingerprints(WithSession):
    def test_lost_documents_indexes_and_views_show(self) -> None:
        orders = create_document_customer(start_mongodb(self.session, "mongodb"), "orders")
        fill_orders(orders)
        before = document_fingerprint(orders)
        self.assertEqual(before, document_fingerprint(orders))
        self.assertIn('{"state": {"$numberInt": "1"}, "customer.name": {"$numberInt": "-1"}', before["index orders.by_state"])
        for index in ("one_per_number", "large_ones", "by_name"):
            self.assertIn(f"index orders.{index}", before)
        self.assertIn('"capped": true', before["options of events"])
        self.assertIn("667 documents", before["view open_orders"])
        with orders.server.client() as client:
            client.orders.events.update_one({"_id": 7}, {"$set": {"what": "lost"}})
        changed = document_fingerprint(orders)
        self.assertEqual({what for what in before if before[what] != changed[what]}, {"collection events"})
        destroy_orders(orders)
        self.assertLess(set(document_fingerprint(orders)), set(before))

    def test_lost_keys_expiries_groups_and_functions_show(self) -> None:
        cache = start_redis(self.session, "cache", Flavour.VALKEY9)
        fill_cache(cache)
        before = cache_fingerprint(cache)
        self.assertEqual(before, cache_fingerprint(cache))
        for what, *loss in (
            ("DEBUG DIGEST", "SET", "counter", 43),
            ("database 0", "PEXPIREAT", "page:0", 4_102_444_800_001),
            ("consumer groups", "XACK", "clicks", "billing", "31-0"),
            ("functions", "FUNCTION", "DELETE", "prices"),
        ):
            with self.subTest(what), cache.connection() as redis:
                before = cache_fingerprint(cache)
                redis.command(*loss)
                after = cache_fingerprint(cache)
                self.assertEqual({each for each in before if before[each] != after[each]}, {what})
        destroy_cache(cache)
        self.assertEqual(cache_fingerprint(cache)["consumer groups"], "none")
        with cache.connection() as redis:
            self.assertEqual((redis.command("DEBUG", "DIGEST"), redis.command("DBSIZE")), (b"0" * 40, 0))
