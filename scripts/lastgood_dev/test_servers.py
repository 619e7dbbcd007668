"""Which servers do the tests need, and how are they told where to find them?"""

from __future__ import annotations

import os

from .postgres import Major, start_postgres, without_libpq
from .session import Session


def start_test_servers(session: Session) -> dict[str, str]:
    """Starts the catalog's server and the customers', and returns the variables that the tests read."""
    catalog = start_postgres(session, "catalog")
    pg18 = start_postgres(session, "customer18")
    pg17 = start_postgres(session, "customer17", Major.PG17)
    return {
        "LASTGOOD_TEST_CATALOG_URL": catalog.url(),
        "LASTGOOD_TEST_PG18_URL": pg18.url(),
        "LASTGOOD_TEST_PG17_URL": pg17.url(),
        "LASTGOOD_TEST_PG_CLIENT_DIRS": f"{pg18.bin}:{pg17.bin}",
        "SQLX_OFFLINE": "true",
    }


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Returns our environment with `variables`, less what would lead a test to a server that is not its own."""
    return {**without_libpq(os.environ), **variables}
