"""The configuration of Prometheus and Grafana in the examples, with a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import read_until, start
from tests.examples.prometheus import Prometheus
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand

MONITORING = Path(__file__).parents[2] / "examples" / "monitoring"


def dashboard_queries() -> list[str]:
    """Return the queries of the dashboard as Grafana sends them if nothing is selected."""
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        queries = [query.replace(f"${variable['name']}", ".*") for query in queries]
        if variable["type"] == "query":
            queries.append(re.sub(r"label_values\((.*), (.*)\)", r"group by (\2) (\1)", variable["query"]))
    queries = [query.replace("$__rate_interval", "1m") for query in queries]
    assert not any("$" in query for query in queries), queries
    return queries


@pytest.mark.parametrize(
    "command",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "--lint=all", "--lint-fatal", "alerts.yml"],
        ["test", "rules", "alerts-test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_rules_and_their_tests_pass(command: list[str]) -> None:
    subprocess.run(["promtool", *command], cwd=MONITORING, check=True, timeout=50)


def test_the_dashboard_shows_every_panel_and_position_once() -> None:
    panels = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_prometheus_scrapes_the_exporter_and_every_query_of_the_dashboard_has_a_result(
    gearmand: Gearmand, tmp_path: Path
) -> None:
    with start("exporter", "-s", gearmand.address, "--listen", ":0") as exporter:
        try:
            found = re.search(rb"http://(.*)/metrics", read_until(exporter, b"\n"))
            assert found
            with Prometheus(MONITORING, tmp_path, {"127.0.0.1:9418": found[1].decode()}) as prometheus:
                wait_until(lambda: prometheus.query("gearman_up == 1"), within=20.0)
                assert [target["lastError"] for target in prometheus.targets()] == [""]
                for query in dashboard_queries():
                    assert prometheus.query(query), query
                wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), within=20.0)
                assert not prometheus.query("ALERTS")
                gearmand.kill()
                wait_until(lambda: prometheus.query('ALERTS{alertname="GearmanDown"}'), within=20.0)
                assert not prometheus.query("gearman_workers")
        finally:
            exporter.terminate()
