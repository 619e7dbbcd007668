"""How fast does an archive get from one store into another, against `cp` and a plain multipart upload?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..child import wait_until
from ..measure import SECONDS_FOR_ONE, Row, clocked, forget_peak, medians, peak_mb, run_seconds, timed
from ..postgres import Postgres
from ..redis import Flavour, start_redis
from ..repo import Unavailable
from ..s3 import BUCKET, S3Server, moto_packages, start_s3s
from ..service import Lastgood
from ..session import Session
from . import redis
from .consumer import start_lastgood

UPLOAD = """
import sys, boto3
from boto3.s3.transfer import TransferConfig
endpoint, bucket, file, key, secret = sys.argv[1:4] + sys.stdin.read().split()
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key=secret)
parts = TransferConfig(multipart_chunksize=8 * 1024 * 1024, max_concurrency=4)
client.upload_file(file, bucket, "plain", Config=parts)
"""


def stores_figures(session: Session, binary: Path, catalog: Postgres) -> list[Row]:
    """One archive of some 200 MB that does not compress, copied by a consumer from a directory into a directory and into a bucket."""
    try:
        source = start_redis(session, "stores-redis", Flavour.REDIS6)
    except Unavailable as why:
        return [("stores", f"not measured: {why}", "")]
    redis.fill(source)
    server = start_s3s(session, "stores-s3")
    home = session.run_dir / "stores"
    settings = {"CACHE_URL": source.url(), "LASTGOOD_STORES": str(stores_file(session, server, home)), **server.environment()}
    lastgood, consumer = start_lastgood(session, binary, catalog, "redis", "cache", settings, "_stores")
    lastgood.start("stores-producer", "producer", "--upkeep", "1s")
    forget_peak(consumer.child.pid)

    def copied() -> dict[str, float]:
        return copies(lastgood, {run.id for run in lastgood.runs()})

    ours = [copied() for _ in range(3)]
    peak = peak_mb(consumer.child.pid)
    (archive, *_) = sorted((home / "here").rglob("*.rdb.zst"))
    size = archive.stat().st_size
    plain = medians({
        "cp, with its bytes on the disk": lambda: timed(f"cp {archive} {home}/plain && sync {home}/plain", {"PATH": "/usr/bin:/bin"}),
        "boto3's multipart upload of 8 MiB parts, 4 at a time": lambda: uploaded(server, archive),
    })
    there, bucket = (sorted(each[store] for each in ours)[1] for store in ("there", "bucket"))
    cp, upload = plain.values()
    rate = lambda seconds: f"{seconds:.2f} s, {size / seconds / 1e6:.0f} MB/s"
    return [
        (f"stores: an archive of {size / 1e6:.0f} MB into a directory, hashed on the way", rate(there), ""),
        ("… against `cp` and `sync`", f"{there / cp:.2f} × of {cp:.2f} s", ""),
        ("stores: the same into a bucket", rate(bucket), ""),
        ("… against a plain multipart upload of the file into the same server", f"{bucket / upload:.2f} × of {upload:.2f} s", ""),
        ("… peak memory of the consumer: backups and copies", f"{peak:.0f} MB", ""),
    ]


def stores_file(session: Session, server: S3Server, home: Path) -> Path:
    home.mkdir()
    file = session.run_dir / "stores.yaml"
    file.write_text(
        f"version: 1\nstores:\n- name: here\n  storage: {home}/here\n- name: there\n  storage: {home}/there\n"
        f"- name: bucket\n  storage: s3://{BUCKET}/bench\n  endpoint: {server.url}\n  region: us-east-1\n"
        "  access_key_id: env:AWS_ACCESS_KEY_ID\n  secret_access_key: env:AWS_SECRET_ACCESS_KEY\n"
    )
    return file


def copies(lastgood: Lastgood, known: set[str]) -> dict[str, float]:
    """Backs up once, and returns how long the copies took, by store."""
    run_seconds(lastgood, "backup", "now", "cache")

    def new() -> list:
        return [run for run in lastgood.runs() if run.kind == "copy" and run.id not in known and run.state == "succeeded"]

    wait_until(lambda: len(new()) == 2, SECONDS_FOR_ONE, "both copies", pause=0.5)
    return {lastgood.run_report(run.id)["store"]: lastgood.run_seconds(run.id) for run in new()}


def uploaded(server: S3Server, archive: Path) -> float:
    def upload() -> None:
        keys = f"{server.access_key_id} {server.secret_access_key}"
        subprocess.run(
            [sys.executable, "-c", UPLOAD, server.url, BUCKET, str(archive)], input=keys, text=True, check=True,
            env={"PYTHONPATH": str(moto_packages()), "PATH": "/usr/bin:/bin"},
        )

    return clocked(upload)
