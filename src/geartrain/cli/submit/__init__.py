"""``geartrain submit``: submits jobs and prints their results in the order of the workloads."""
