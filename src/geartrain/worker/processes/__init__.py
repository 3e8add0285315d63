"""
Functions that run in separate processes.

- ``pool``: hands jobs to the processes of one function.
- ``process``: one process, as the worker sees it: run a job, kill, end. ``interpreter`` starts and ends it.
- ``main``: what runs in the process.
- ``pipe``: the connection between the two, ``messages`` what they send through it.
- ``exception_transfer``: how an exception travels.
- ``exit_descriptor``: notices the end of a process.
"""
