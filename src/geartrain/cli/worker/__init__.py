"""``geartrain worker``: runs a command per job, or a Python worker in one or more processes."""
