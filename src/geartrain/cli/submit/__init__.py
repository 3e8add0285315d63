"""``geartrain submit``: submits jobs and prints what comes of them, in the order of the workloads."""
