"""How do we get promtool, which checks and tests Prometheus' rules, without installing Prometheus?"""

from __future__ import annotations

from .debian import library_path, unpacked_packages
from .program import Program


def promtool() -> Program:
    """Returns promtool, unpacked if need be. It takes `check rules FILE` and `test rules FILE`."""
    home = unpacked_packages(("prometheus",), "prometheus", lambda version: version[:2] in ("2.", "3."), "promtool")
    return Program((str(home / "usr" / "bin" / "promtool"),), {"LD_LIBRARY_PATH": library_path(home)})
