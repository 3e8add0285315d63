"""``geartrain demo``: counts words with worker processes, one of which it kills."""
