"""The configuration of Prometheus and Grafana in the examples, with a real Prometheus."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from geartrain.blocking import Client
from tests.cli.command import read_until, start
from tests.examples.prometheus import Prometheus
from tests.support.eventually import wait_until
from tests.support.gearmand import Gearmand, free_port

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


def test_prometheus_scrapes_exporter_and_worker_and_every_query_of_the_dashboard_has_a_result(
    gearmand: Gearmand, tmp_path: Path
) -> None:
    worker_address = f"127.0.0.1:{free_port()}"
    worker_options = ["-s", gearmand.address, "--http", worker_address]
    with (
        start("exporter", "-s", gearmand.address, "--listen", ":0") as exporter,
        start("worker", *worker_options, "upper", "--", "tr", "a-z", "A-Z") as worker,
    ):
        try:
            found = re.search(rb"http://(.*)/metrics", read_until(exporter, b"\n"))
            assert found
            changes = {"127.0.0.1:9418": found[1].decode(), "127.0.0.1:9100": worker_address}
            with Prometheus(MONITORING, tmp_path, changes) as prometheus, Client(gearmand.address) as client:
                wait_until(lambda: prometheus.query("gearman_up == 1"), within=20.0)
                wait_until(lambda: prometheus.query("geartrain_jobs_total"), within=20.0)
                assert [target["lastError"] for target in prometheus.targets()] == ["", ""]
                # A rate is known from the second scrape on that has seen jobs.
                while not prometheus.query("rate(geartrain_job_seconds_count[1m]) > 0"):
                    assert client.do("upper", b"a", timeout=10) == b"A"
                for query in dashboard_queries():
                    assert prometheus.query(query), query
                wait_until(lambda: all(rule["health"] == "ok" for rule in prometheus.rules()), within=20.0)
                assert not prometheus.query("ALERTS")
                gearmand.kill()
                wait_until(lambda: prometheus.query('ALERTS{alertname="GearmanDown"}'), within=20.0)
                wait_until(lambda: prometheus.query('ALERTS{alertname="GearmanWorkerDisconnected"}'), within=20.0)
                assert not prometheus.query("gearman_workers")
        finally:
            exporter.terminate()
            worker.terminate()
