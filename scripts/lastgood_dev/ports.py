"""Which TCP port is free?"""

from __future__ import annotations

import socket


def free_port() -> int:
    """Returns a port of 127.0.0.1 that was free a moment ago; another process may still take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
