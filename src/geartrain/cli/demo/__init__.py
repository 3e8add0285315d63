"""``geartrain demo``: counts words by a job server and worker processes, one of which it kills."""
