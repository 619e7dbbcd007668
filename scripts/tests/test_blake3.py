"""Our BLAKE3 gives what its authors' test vectors say: a message of so many bytes 0, 1, …, 250, 0, 1, …"""

from __future__ import annotations

import unittest

from lastgood_dev.blake3 import blake3

VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    64: "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
    5121: "628bd2cb2004694adaab7bbd778a25df25c47b9d4155a55f8fbd79f2fe154cff",
    8193: "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b",
}


class Blake3(unittest.TestCase):
    def test_every_shape_of_tree_is_hashed_as_the_vectors_say(self) -> None:
        for length, expected in VECTORS.items():
            with self.subTest(length=length):
                self.assertEqual(blake3(bytes(at % 251 for at in range(length))), expected)
