"""What does the dashboard ask Prometheus?"""

from __future__ import annotations

import json
from dataclasses import dataclass

from .repo import ROOT

FILE = ROOT / "deploy" / "grafana" / "lastgood.json"
VARIABLES = {"$__rate_interval": "5m", "$tier": ".*", "$engine": ".*"}  # as after a click on "All"


@dataclass(frozen=True)
class Panel:
    """One panel, and its queries as Grafana sends them."""

    title: str
    queries: tuple[str, ...]


def panels() -> list[Panel]:
    """Returns the panels that ask anything."""
    return [
        Panel(panel["title"], tuple(_filled_in(target["expr"]) for target in panel["targets"]))
        for panel in _read()["panels"] if panel.get("targets")
    ]


def variable_queries() -> list[str]:
    """Returns what fills the lists above the panels."""
    return [variable["query"]["query"] for variable in _read()["templating"]["list"] if variable["type"] == "query"]


def _filled_in(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def _read() -> dict:
    return json.loads(FILE.read_text())
