"""Every alert fires when it must and at no other time, leads to a page, and asks for nothing that lastgood does not show."""

from __future__ import annotations

import json
import tempfile
import unittest
from pathlib import Path
from typing import Any

from lastgood_dev.child import run
from lastgood_dev.dashboard import panels, variable_queries
from lastgood_dev.metrics import documented, wrong_names
from lastgood_dev.prometheus import FOLDER as PROMETHEUS
from lastgood_dev.prometheus import promtool
from lastgood_dev.repo import ROOT, Unavailable
from lastgood_dev.yaml_file import read_yaml

RULES, TESTS = PROMETHEUS / "lastgood.rules.yml", PROMETHEUS / "lastgood.rules.test.yml"
RUNBOOKS = ROOT / "docs" / "runbooks"


class Alerts(unittest.TestCase):
    def test_promtool_finds_no_fault_and_sees_each_alert_as_its_tests_say(self) -> None:
        try:
            program = promtool()
        except Unavailable as why:
            self.skipTest(str(why))
        for arguments in (("check", "rules", RULES), ("test", "rules", TESTS), ("check", "config", PROMETHEUS / "prometheus.yml")):
            done = run([*program.argv, *arguments], env=dict(program.env), cwd=PROMETHEUS)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_queries_of_the_dashboard_are_well_formed(self) -> None:
        try:
            program = promtool()
        except Unavailable as why:
            self.skipTest(str(why))
        rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(panel_queries())]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "panels.yml"
            file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))  # JSON is YAML
            done = run([*program.argv, "check", "rules", file], env=dict(program.env))
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_alert_is_tested_firing_and_silent(self) -> None:
        fires = {alert["alert"]: set() for alert in alerts()}
        for test in read_yaml(TESTS)["tests"]:
            for claim in test["alert_rule_test"]:
                fires[claim["alertname"]].add(bool(claim.get("exp_alerts")))
        # A test with several series is both: those that are not among the expected alerts are silent.
        self.assertEqual({name for name, seen in fires.items() if True not in seen}, set())
        silent_elsewhere = {"LastgoodBackupsFailing", "LastgoodCopiesMissing"}
        self.assertEqual({name for name, seen in fires.items() if False not in seen} - silent_elsewhere, set())

    def test_each_alert_says_how_bad_it_is_and_leads_to_a_page_of_its_own(self) -> None:
        for alert in alerts():
            name = alert["alert"]
            with self.subTest(name):
                self.assertIn(alert["labels"]["severity"], ("critical", "warning"))
                self.assertEqual(set(alert["annotations"]), {"summary", "description", "runbook_url"})
                self.assertEqual(alert["annotations"]["runbook_url"], f"docs/runbooks/{name}.md")
        self.assertEqual(
            {page.stem for page in RUNBOOKS.glob("Lastgood*.md")}, {alert["alert"] for alert in alerts()},
        )

    def test_rules_and_dashboard_ask_only_for_what_metrics_md_promises(self) -> None:
        metrics = documented()
        queries = [alert["expr"] for alert in alerts()] + panel_queries() + variable_queries()
        self.assertGreater(len(queries), 20)
        wrong = [f"{why} in {query.strip()}" for query in queries for why in wrong_names(query, metrics)]
        self.assertEqual(wrong, [])

    def test_a_wrong_name_label_or_value_is_noticed(self) -> None:
        metrics = documented()
        self.assertEqual(wrong_names('sum(lastgood_runs_total{kind="backup",result=~"failed|retried"})', metrics), [])
        self.assertEqual(wrong_names("lastgood_run_duration_seconds_bucket", metrics), [])
        for query in ("lastgood_wrong", "lastgood_run_duration_seconds", 'lastgood_runs_total{tier="pro"}',
                      'lastgood_runs_total{result="lost"}', 'lastgood_runs_total{kind=~"backup|wrong"}'):
            with self.subTest(query):
                self.assertEqual(len(wrong_names(query, metrics)), 1)


def alerts() -> list[dict[str, Any]]:
    return [rule for group in read_yaml(RULES)["groups"] for rule in group["rules"]]


def panel_queries() -> list[str]:
    return [query for panel in panels() for query in panel.queries]
