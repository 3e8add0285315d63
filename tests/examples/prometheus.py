"""A real Prometheus that scrapes what the examples name."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.eventually import wait_until
from tests.support.gearmand import free_port


class Prometheus:
    """
    A Prometheus with the configuration of the examples.

    Args:
        configuration: The directory of ``prometheus.yml``.
        directory: Where it stores its data.
        changes: Texts to replace in ``prometheus.yml``, such as the ports of its targets.
    """

    def __init__(self, configuration: Path, directory: Path, changes: Mapping[str, str]) -> None:
        self._port = free_port()
        self._directory = directory
        text = (configuration / "prometheus.yml").read_text().replace("15s", "200ms")
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        (directory / "prometheus.yml").write_text(text)
        (directory / "alerts.yml").write_bytes((configuration / "alerts.yml").read_bytes())

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression, and return its vector."""
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return the scraped targets with their last error."""
        result: list[dict[str, Any]] = self._get("targets")["activeTargets"]
        return result

    def _get(self, what: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)["data"]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=10) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def __enter__(self) -> Self:
        command = ["prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{self._port}"],
                cwd=self._directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._is_ready, within=30.0)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
