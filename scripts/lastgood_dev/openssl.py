"""How does a program that was built for OpenSSL 1.1 run on a system that has OpenSSL 3 only?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from .pip import Wheel, installed

# A PostgreSQL driver for Python. Its wheel carries the last release of OpenSSL 1.1 (1.1.1w).
CARRIER = Wheel("psycopg2-binary", "2.9.9", (
    "ed1184ab8f113e8d660ce49a56390ca181f2981066acc27cf637d5c1e10ce46e",  # Linux x86_64
), tagged="310")
LIBRARIES = ("libssl", "libcrypto")


def openssl_1_1() -> Path:
    """Returns a folder with OpenSSL 1.1, installed if need be, for the LD_LIBRARY_PATH of the program that needs it and of no other."""
    folder = installed(CARRIER, "openssl1.1") / "psycopg2_binary.libs"
    for library in LIBRARIES:
        # The wheel adds a hash to the name that a program asks for.
        (carried,) = folder.glob(f"{library}-*.so.1.1")
        with suppress(FileExistsError):
            (folder / f"{library}.so.1.1").symlink_to(carried.name)
    return folder
