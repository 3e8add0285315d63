"""
Functions that run in separate processes.

- ``pool``: hands jobs to the processes of one function.
- ``process``: one process, as the worker sees it: start, run a job, kill, end.
- ``main``: what runs in the process.
- ``pipe``: the connection between the two, ``messages`` what they send through it, ``raised`` how an exception travels.
- ``exit_descriptor``: notices the end of a process.
"""
