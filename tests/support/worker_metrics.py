"""Reads the metrics that a worker serves by HTTP."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.support.http import get


def metrics_of(address: str, function: str) -> dict[str, float]:
    """Return the samples of a function, by the rest of their names; histograms without their buckets."""
    status, text = get(address, "/metrics")
    assert status == 200
    return {
        " ".join([sample.name, *(value for name, value in sample.labels.items() if name != "function")]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("function") == function and "le" not in sample.labels
    }


def outcomes_of(address: str, function: str) -> dict[str, float]:
    """Return how many jobs of a function have ended in each way."""
    metrics = metrics_of(address, function)
    return {name: metrics[f"geartrain_jobs_total {name}"] for name in ("completed", "failed", "raised", "lost")}
