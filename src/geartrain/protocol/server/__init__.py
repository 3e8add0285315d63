"""The job server without IO: its queue, its peers, and what it does on each request."""
