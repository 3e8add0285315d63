"""What a worker serves for probes and for Prometheus."""
