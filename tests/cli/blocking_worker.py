"""A worker that the command line cannot run."""

from __future__ import annotations

from geartrain.blocking import Worker

worker = Worker()
