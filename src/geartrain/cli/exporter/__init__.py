"""The metrics of job servers for Prometheus."""
