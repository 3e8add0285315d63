"""
Processes that have connections of their own to the job servers.

- ``run``: a worker's run in the worker's own process.
- ``eligibility``: which workers can run like this.
- ``seat``: keeps one process running; ``process`` starts, watches and ends it.
- ``left_connections``: sends the last packets on the connections of a process that has ended, if ``sent_bytes`` shows
  that it has sent no part of a packet.
- ``settings``: what a process needs to know. ``board``: memory in which it shows what it does.
- ``control``: the socket between the two, ``messages`` what they send through it.
- ``main``: what runs in the process. ``reporter`` shows what it does, ``log_records`` sends what it logs.
"""
