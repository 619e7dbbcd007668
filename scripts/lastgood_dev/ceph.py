"""How do we get an object gateway of Ceph (radosgw) of our own, without Docker and without root?

Behind it are one monitor and one disk, which is memory. Nothing that they hold is kept, so all three are stopped by SIGKILL.
"""

from __future__ import annotations

import json
import signal
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .child import Child, run, wait_until
from .debian import library_path, unpacked_packages
from .ports import free_port
from .program import Program
from .repo import Failure
from .s3 import BUCKET, SECONDS_TO_START, TRIES, S3Server, answers, client
from .session import Session

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
VERSIONED_BUCKET = f"{BUCKET}-versioned"
# Without keys there is no encryption, which the gateway would ask the monitor for. The monitor gathers changes for a hundredth of a
# second instead of a whole one, because the gateway makes pools one after another at its first start.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = v2:127.0.0.1:{port}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
ms mon client mode = crc
auth cluster required = none
auth service required = none
auth client required = none
admin socket =
log file =
log to file = false
log to stderr = true
mon cluster log to file = false
debug rocksdb = 0
mon data = {home}/mon/data
mon data avail crit = 0
mon allow pool size one = true
paxos propose interval = 0.01
paxos min wait = 0.01
osd data = {home}/osd/data
osd objectstore = memstore
memstore device bytes = 8G
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd class dir = {libraries}/rados-classes
osd erasure code plugins =
plugin dir = {libraries}/ceph
rgw data = {home}/gateway/data
"""


class PortTaken(Failure):
    """Another process took the port that was free a moment ago."""


@dataclass(frozen=True)
class Ceph:
    """Ceph's programs, and the folder of one cluster."""

    programs: Path
    home: Path

    def prepare(self, monitor_port: int) -> None:
        """Makes a monitor that knows of one disk from the start: adding one later needs a client that fits one version of Python only."""
        for part in ("mon", "osd", "gateway"):
            (self.home / part / "data").mkdir(mode=0o700, parents=True)
        fsid = str(uuid.uuid4())
        libraries = next(self.programs.glob("usr/lib/*/rados-classes")).parent
        (self.home / "ceph.conf").write_text(CONFIGURATION.format(fsid=fsid, port=monitor_port, home=self.home, libraries=libraries))
        monitors, disks = self.home / "monitors", self.home / "disks"
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{monitor_port}]", monitors)
        self.run("osdmaptool", "--createsimple", "1", disks)
        self.run("ceph-mon", "--mkfs", "--id", "a", "--monmap", monitors, "--osdmap", disks)

    def run(self, name: str, *args: str | Path) -> str:
        """Runs a program to its end, and returns what it said."""
        program = self._program(name)
        done = run([*program.argv, *args], env=program.environment(), cwd=self.home)
        if done.returncode != 0:
            raise Failure(f"{name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def child(self, part: str, name: str, *args: str) -> Child:
        return self._program(name).child(f"ceph's {part}", ("--foreground", *args), self.home / part, stop_signal=signal.SIGKILL)

    def _program(self, name: str) -> Program:
        return Program((str(self.programs / "usr" / "bin" / name),), {
            "LD_LIBRARY_PATH": library_path(self.programs), "CEPH_CONF": str(self.home / "ceph.conf"), "CEPH_ARGS": "",
        })


def ceph_programs() -> Path:
    """Returns the folder with Ceph's programs, unpacked if need be."""
    return unpacked_packages(PACKAGES, "ceph16", lambda version: version.startswith("16."), "Ceph 16")


def start_ceph(session: Session, name: str) -> S3Server:
    """Returns a gateway that accepts connections on 127.0.0.1 until the session closes; `VERSIONED_BUCKET` keeps versions."""
    programs = ceph_programs()
    for number in range(1, TRIES + 1):
        try:
            server = _start(session, Ceph(programs, session.run_dir / f"{name}-{number}"))
            break
        except PortTaken as taken:
            if number == TRIES:
                raise Failure(f"Ceph's gateway {name} did not start: {taken}") from taken
    ours = client(server)
    for bucket in (BUCKET, VERSIONED_BUCKET):
        ours.create_bucket(Bucket=bucket)
    ours.put_bucket_versioning(Bucket=VERSIONED_BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return server


def _start(session: Session, ceph: Ceph) -> S3Server:
    monitor_port, port = free_port(), free_port()
    ceph.prepare(monitor_port)
    _listens(session.start(ceph.child("mon", "ceph-mon", "--id", "a")), monitor_port)
    ceph.run("ceph-osd", "--mkfs", "--id", "0")
    disk = session.start(ceph.child("osd", "ceph-osd", "--id", "0"))
    access, secret = _keys(ceph, disk)
    start = partial(ceph.child, "gateway", "radosgw", "--name", "client.admin", "--rgw-frontends", f"beast endpoint=127.0.0.1:{port}")
    gateway = session.start(start())
    _listens(gateway, port)
    return S3Server(f"http://127.0.0.1:{port}", access, secret, gateway, start)


def _keys(ceph: Ceph, disk: Child) -> tuple[str, str]:
    """Returns the keys of a new user. Ceph makes them up, so that they are in no argument list."""
    patience = (f"--{what}={SECONDS_TO_START}" for what in ("client-mount-timeout", "rados-mon-op-timeout", "rados-osd-op-timeout"))
    try:
        made = ceph.run("radosgw-admin", *patience, "user", "create", "--uid", "lastgood", "--display-name", "lastgood")
    except Failure as failure:
        raise Failure(f"{failure}\n{disk.name} said:\n{disk.log_tail()}") from failure
    (keys,) = json.loads(made)["keys"]
    return keys["access_key"], keys["secret_key"]


def _listens(child: Child, port: int) -> None:
    wait_until(lambda: child.exit_code() is not None or answers(port), SECONDS_TO_START, f"{child.name} to accept connections")
    if child.exit_code() is not None:
        failure = PortTaken if "in use" in child.log_tail() else Failure
        raise failure(f"{child.name} did not start:\n{child.log_tail()}")
