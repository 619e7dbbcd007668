"""How do we get Prometheus, and promtool, which checks and tests its rules, without installing them?"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .child import wait_until
from .debian import library_path, unpacked_packages
from .ports import free_port
from .program import Program
from .repo import ROOT, Failure
from .session import Session
from .yaml_file import read_yaml

FOLDER = ROOT / "deploy" / "prometheus"
SECONDS_TO_START = 30


@dataclass(frozen=True)
class Prometheus:
    """A running server."""

    url: str

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Returns the series that a query has now; one that is wrong raises."""
        try:
            return self._get("query", query=query)["result"]
        except urllib.error.HTTPError as error:
            raise Failure(f"Prometheus refuses {query}: {error.read().decode()}") from error

    def alerts(self) -> dict[str, str]:
        """Returns the state of each alert that the rules have: inactive, pending or firing."""
        return {rule["name"]: rule["state"] for group in self._get("rules")["groups"] for rule in group["rules"]}

    def _get(self, what: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/api/v1/{what}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]


def promtool() -> Program:
    """Returns promtool, unpacked if need be. It takes `check rules FILE` and `test rules FILE`."""
    return _program("promtool")


def start_prometheus(session: Session, targets: list[str]) -> Prometheus:
    """Returns a server with the configuration in deploy/prometheus, looking at these addresses, and every second."""
    configuration = read_yaml(FOLDER / "prometheus.yml")
    configuration["global"] = dict.fromkeys(configuration["global"], "1s")
    configuration["rule_files"] = [str(FOLDER / file) for file in configuration["rule_files"]]
    for job in configuration["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": targets}]
    home = session.run_dir / "prometheus"
    home.mkdir()
    file, port = home / "prometheus.yml", free_port()
    file.write_text(json.dumps(configuration))  # JSON is YAML
    child = session.start(_program("prometheus").child("prometheus", (
        f"--config.file={file}", f"--storage.tsdb.path={home / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
    ), home))
    server = Prometheus(f"http://127.0.0.1:{port}")
    wait_until(lambda: child.exit_code() is not None or _is_ready(server), SECONDS_TO_START, "Prometheus to be ready")
    if child.exit_code() is not None:
        raise Failure(f"Prometheus did not start:\n{child.log_tail()}")
    return server


def _program(name: str) -> Program:
    home = unpacked_packages(("prometheus",), "prometheus", lambda version: version[:2] in ("2.", "3."), "Prometheus")
    return Program((str(home / "usr" / "bin" / name),), {"LD_LIBRARY_PATH": library_path(home)})


def _is_ready(server: Prometheus) -> bool:
    try:
        with urllib.request.urlopen(f"{server.url}/-/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False
