"""The tests' servers let nobody in without a password, and one that cannot be here says why."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

from lastgood_dev import debian, mongodb, redis, test_servers
from lastgood_dev.ceph import VERSIONED_BUCKET, start_ceph
from lastgood_dev.certificates import make_certificates
from lastgood_dev.child import Child
from lastgood_dev.mongodb import MongoDb, MongoVersion, client_library, start_mongodb
from lastgood_dev.program import SKIP, Program
from lastgood_dev.redis import Flavour, Redis, start_redis
from lastgood_dev.repo import Failure, Unavailable
from lastgood_dev.resp import Refused, connection
from lastgood_dev.s3 import BUCKET, client
from lastgood_dev.session import Session

NO_CHILD = mock.create_autospec(Child)


class WithSession(unittest.TestCase):
    def setUp(self) -> None:
        run_dir = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, run_dir)
        self.session = Session(run_dir)
        self.addCleanup(self.session.close)


class Servers(WithSession):
    def test_mongodb_wants_a_password_and_has_snapshots_as_a_replica_set_alone(self) -> None:
        server = start_mongodb(self.session, "mongodb")
        with server.client() as client:
            client.orders.open.insert_one({"_id": 1})
            with client.start_session(snapshot=True) as snapshot:
                self.assertEqual(list(client.orders.open.find(session=snapshot)), [{"_id": 1}])
        stranger = MongoDb(server.port, server.user, "wrong", server.child)
        with stranger.client() as client, self.assertRaisesRegex(Exception, "[Aa]uthentication failed"):
            client.orders.open.find_one()
        with client_library().MongoClient("127.0.0.1", server.port) as client, self.assertRaisesRegex(Exception, "requires authentication"):
            client.orders.open.find_one()
        alone = start_mongodb(self.session, "alone", mongodb.Topology.STANDALONE)
        with alone.client() as client, client.start_session(snapshot=True) as snapshot:
            with self.assertRaisesRegex(Exception, "[Ss]tandalone|replica set"):
                client.orders.open.find_one(session=snapshot)

    def test_each_mongodb_has_the_version_in_its_name_and_keeps_documents(self) -> None:
        for version in MongoVersion:
            with self.subTest(version.name):
                self.assertTrue(version.release.startswith(version.name.removeprefix("MONGODB_").replace("_", ".")))
                server = start_mongodb(self.session, version.name, version=version)
                with server.client() as client:
                    client.orders.open.insert_one({"_id": 1})
                    self.assertEqual(list(client.orders.open.find()), [{"_id": 1}])
                    self.assertEqual(client.server_info()["version"], version.release)
                with client_library().MongoClient("127.0.0.1", server.port) as stranger:
                    with self.assertRaisesRegex(Exception, "requires authentication"):
                        stranger.orders.open.find_one()

    def test_valkey_wants_a_password_and_answers_with_what_it_was_given(self) -> None:
        server = start_redis(self.session, "cache", Flavour.VALKEY9, ("user backup on >its-own ~* +ping",))
        with server.connection() as ours:
            ours.command("RPUSH", "list", b"\r\n\0\xff", 7)
            self.assertEqual(ours.command("LRANGE", "list", 0, -1), [b"\r\n\0\xff", b"7"])
            self.assertEqual(ours.commands([("GET", "nothing"), ("LLEN", "list")]), [None, 2])
            self.assertEqual(len(ours.command("DEBUG", "DIGEST")), 40)
            self.assertEqual(ours.command("AUTH", "backup", "its-own"), b"OK")
            with self.assertRaisesRegex(Refused, "NOPERM"):
                ours.command("GET", "list")
        with connection(server.port) as stranger, self.assertRaisesRegex(Refused, "NOAUTH"):
            stranger.command("PING")

    def test_ceph_wants_its_keys_and_keeps_versions_in_one_of_two_buckets(self) -> None:
        try:
            server = start_ceph(self.session, "ceph")
        except Unavailable as why:
            self.skipTest(str(why))
        ours = client(server)
        for bucket, versions in ((BUCKET, 1), (VERSIONED_BUCKET, 2)):
            with self.subTest(bucket):
                for body in (b"one", b"two"):
                    ours.put_object(Bucket=bucket, Key="a", Body=body)
                self.assertEqual(len(ours.list_object_versions(Bucket=bucket)["Versions"]), versions)
        with self.subTest("the end of a multipart upload has no condition"):
            upload = {"Bucket": BUCKET, "Key": "a", "UploadId": ours.create_multipart_upload(Bucket=BUCKET, Key="a")["UploadId"]}
            part = {"PartNumber": 1, "ETag": ours.upload_part(**upload, PartNumber=1, Body=b"three")["ETag"]}
            ours.complete_multipart_upload(**upload, MultipartUpload={"Parts": [part]}, IfNoneMatch="*")
            self.assertEqual(ours.get_object(Bucket=BUCKET, Key="a")["Body"].read(), b"three")
        stranger = client(replace(server, secret_access_key="wrong"))
        with self.assertRaisesRegex(Exception, "SignatureDoesNotMatch"):
            stranger.list_objects_v2(Bucket=BUCKET)

    def test_certificates_are_good_for_the_address_that_they_name(self) -> None:
        made = make_certificates(self.session.run_dir / "certificates")
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(made.server, made.key)
        for name, good in (("127.0.0.1", True), ("localhost", True), ("example.org", False)):
            with self.subTest(name):
                client = ssl.create_default_context(cafile=str(made.ca))
                self.assertEqual(_shake_hands(server, client, name), good)


class WhatIsNotHere(WithSession):
    def test_without_apt_redis_7_is_a_skip_that_says_why(self) -> None:
        with mock.patch.object(debian, "DEV_DIR", self.session.run_dir), mock.patch("shutil.which", return_value=None):
            variables = test_servers._flavour(self.session, Flavour.REDIS7, None)
        why = SKIP + "Redis 7 comes from a Debian package, and there is no apt-get here"
        self.assertEqual(variables, dict.fromkeys(
            ("LASTGOOD_TEST_REDIS7_PROGRAM", "LASTGOOD_TEST_REDIS7_URL", "LASTGOOD_TEST_REDIS7_TLS_URL"), why
        ))

    def test_without_apt_ceph_is_a_skip_that_says_why(self) -> None:
        with mock.patch.object(debian, "DEV_DIR", self.session.run_dir), mock.patch("shutil.which", return_value=None):
            variables = test_servers._s3_server(self.session, "RGW", start_ceph)
        why = SKIP + "Ceph 16 comes from a Debian package, and there is no apt-get here"
        names = ("LASTGOOD_TEST_S3_RGW_URL", "LASTGOOD_TEST_S3_RGW_ACCESS_KEY_ID", "LASTGOOD_TEST_S3_RGW_SECRET_ACCESS_KEY")
        self.assertEqual(variables, dict.fromkeys(names, why))

    def test_a_version_that_apt_does_not_offer_is_a_skip_that_says_which_it_offers(self) -> None:
        with (
            mock.patch.object(debian, "DEV_DIR", self.session.run_dir), mock.patch("shutil.which", return_value="/bin/true"),
            mock.patch.object(debian, "run"), mock.patch.object(debian, "_candidate", return_value="5:8.0.2-1"),
            self.assertRaisesRegex(Unavailable, "apt offers redis-server 5:8.0.2-1"),
        ):
            Flavour.REDIS7.program()

    def test_on_another_processor_redis_6_is_a_skip(self) -> None:
        with mock.patch("platform.machine", return_value="riscv64"):
            variables = test_servers._flavour(self.session, Flavour.REDIS6, None)
        self.assertIn("this is riscv64", variables["LASTGOOD_TEST_REDIS6_URL"])

    def test_on_another_processor_the_other_versions_of_mongodb_are_a_skip(self) -> None:
        with mock.patch("platform.machine", return_value="riscv64"), mock.patch.dict(os.environ, clear=True):
            variables = test_servers._other_mongodbs(self.session)
        self.assertEqual(set(variables), {
            f"LASTGOOD_TEST_MONGODB_{version}_{what}" for version in ("4_4", "5_0", "6_0_27") for what in ("URL", "PROGRAM")
        })
        for variable, why in variables.items():
            with self.subTest(variable):
                self.assertRegex(why, f"^{SKIP}MongoDB .* comes from a wheel for Linux on x86_64, and this is .* on riscv64$")

    def test_another_python_is_told_which_to_use(self) -> None:
        with mock.patch("sys.version_info", (3, 9, 0)), self.assertRaisesRegex(Failure, "use one of 3.11, 3.12, 3.13"):
            mongodb.mongodb_program()


class ServersOfOnesOwn(WithSession):
    def test_an_address_that_a_variable_already_has_is_used_and_no_server_is_started(self) -> None:
        for variable in ("LASTGOOD_TEST_MONGODB_URL", "LASTGOOD_TEST_MONGODB_4_4_URL"):
            with self.subTest(variable):
                address = "mongodb://root:secret@db:27017/?authSource=admin"
                self.assertEqual(self.mongodb_url(variable, address), (address, 0))

    def test_a_variable_that_is_empty_or_a_skip_leads_to_a_server_of_ours(self) -> None:
        for value in ("", SKIP + "there was none"):
            with self.subTest(value):
                self.assertEqual(self.mongodb_url("LASTGOOD_TEST_MONGODB_URL", value), ("mongodb://ours", 1))

    def test_what_is_no_address_is_refused_and_not_repeated(self) -> None:
        with self.assertRaises(Failure) as refused:
            self.mongodb_url("LASTGOOD_TEST_MONGODB_URL", "root:secret@db:27017")
        self.assertIn("LASTGOOD_TEST_MONGODB_URL must begin with mongodb://", str(refused.exception))
        self.assertNotIn("secret", str(refused.exception))

    def mongodb_url(self, variable: str, value: str) -> tuple[str, int]:
        """Returns where the tests find the server, and how many servers were started."""
        with mock.patch.dict(os.environ, {variable: value}), mock.patch.object(test_servers, "start_mongodb") as start:
            start.return_value.url.return_value = "mongodb://ours"
            return test_servers._mongodb_url(self.session, variable, MongoVersion.MONGODB_6_0), start.call_count


class WhatTestsRead(unittest.TestCase):
    def test_odd_characters_in_names_and_passwords_are_quoted(self) -> None:
        document_store = MongoDb(27017, "root", "a/b", NO_CHILD)
        self.assertEqual(document_store.url("shop"), "mongodb://root:a%2Fb@127.0.0.1:27017/shop?authSource=admin")
        self.assertEqual(document_store.url(user="o@r", password="p:?"), "mongodb://o%40r:p%3A%3F@127.0.0.1:27017/?authSource=admin")
        cache = Redis(Flavour.VALKEY9, 6379, "a@b", NO_CHILD, 6380)
        self.assertEqual(cache.url(), "redis://:a%40b@127.0.0.1:6379")
        self.assertEqual(cache.tls_url("us/er", "p w"), "rediss://us%2Fer:p%20w@127.0.0.1:6380")

    def test_only_the_mongodb_versions_that_need_openssl_1_1_are_given_it(self) -> None:
        for version in MongoVersion:
            with self.subTest(version.name):
                libraries = mongodb.mongodb_program(version).env.get("LD_LIBRARY_PATH")
                self.assertEqual(libraries is None, version is MongoVersion.MONGODB_6_0)
                if libraries is not None:
                    for library in ("libssl.so.1.1", "libcrypto.so.1.1"):
                        self.assertTrue((Path(libraries) / library).is_file())
        self.assertNotIn("LD_LIBRARY_PATH", mongodb.mongodb_program().env)

    def test_a_program_is_json_with_argv_and_env(self) -> None:
        program = Program(("/a b/server", "--quiet"), {"LD_LIBRARY_PATH": "/lib"})
        self.assertEqual(json.loads(program.json()), {"argv": ["/a b/server", "--quiet"], "env": {"LD_LIBRARY_PATH": "/lib"}})


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> bool:
    """Lets two ends meet in memory, and tells whether the client was satisfied."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(10):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return ends[0].version() is not None


if __name__ == "__main__":
    unittest.main()
