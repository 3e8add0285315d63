"""``geartrain worker``: runs commands, or Python workers, one or several processes of them."""
