"""Kills the processes of a worker at each point of a job."""
