"""Which metrics does METRICS.md promise, and which does a query of Prometheus name?"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .repo import ROOT, Failure

DOCUMENT = ROOT / "METRICS.md"
ROW = re.compile(r"^\| `(?P<name>lastgood_\w+)` \| (?P<kind>counter|gauge|histogram)[^|]* \| (?P<labels>[^|]*) \|", re.MULTILINE)
NAMED = re.compile(r"\b(?P<name>lastgood_\w+)(?:\{(?P<matchers>[^}]*)\})?")
MATCHER = re.compile(r'(?P<label>\w+)\s*(?:=~|!~|!=|=)\s*"(?P<value>[^"]*)"')
FROM_PROMETHEUS = {"instance", "job", "le"}


@dataclass(frozen=True)
class Metric:
    """A row of the document. `labels` has a set of values for each, empty where any value may stand."""

    name: str
    kind: str
    labels: dict[str, frozenset[str]]

    @property
    def series(self) -> tuple[str, ...]:
        """The names under which Prometheus stores it."""
        return tuple(self.name + end for end in ("_bucket", "_sum", "_count")) if self.kind == "histogram" else (self.name,)


def documented() -> dict[str, Metric]:
    """Returns each series that lastgood shows, by its name."""
    found = [Metric(row["name"], row["kind"], _labels(row["labels"])) for row in ROW.finditer(DOCUMENT.read_text())]
    if not found:
        raise Failure(f"{DOCUMENT.name} has no row that could be read; run `make metrics`")
    return {series: metric for metric in found for series in metric.series}


def wrong_names(query: str, metrics: dict[str, Metric]) -> list[str]:
    """Returns what a query names and nothing shows: metrics, labels, and values of labels that have a closed set of them."""
    wrong = []
    for named in NAMED.finditer(query):
        metric = metrics.get(named["name"])
        if metric is None:
            wrong.append(f"there is no metric {named['name']}")
            continue
        for matcher in MATCHER.finditer(named["matchers"] or ""):
            label, values = matcher["label"], matcher["value"].split("|")
            if label not in metric.labels.keys() | FROM_PROMETHEUS:
                wrong.append(f"{named['name']} has no label {label}")
            elif (known := metric.labels.get(label)) and not all(value in known or value == ".*" for value in values):
                wrong.append(f"{named['name']} has no {label} {matcher['value']}")
    return wrong


def _labels(cell: str) -> dict[str, frozenset[str]]:
    labels = {}
    for part in filter(None, cell.strip().split(" · ")):
        name, _, values = part.partition(": ")
        labels[name.strip("`")] = frozenset(value.strip("` ") for value in values.split(",") if value)
    return labels
