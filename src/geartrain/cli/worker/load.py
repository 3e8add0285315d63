"""Finds the Python worker that ``MODULE:WORKER`` names."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from geartrain.worker import Worker

__all__ = ["load_worker"]


def load_worker(target: str, servers: Sequence[str], *, servers_given: bool) -> Worker:
    """
    Import a worker, or a function that makes one of a list of job servers.

    The current directory is looked into first. What the module itself raises is raised here.

    Raises:
        click.UsageError: If there is no such thing.
    """
    module_name, _, name = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise click.UsageError(f"there is no module {error.name} to find {target} in") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise click.UsageError(f"the module {module_name} has no {name}")
        found = getattr(found, part)
    if isinstance(found, Worker):
        if servers_given:
            raise click.UsageError(
                f"{target} has its own job servers; -s is for a function that makes a worker of a list of them"
            )
        return found
    worker = found(list(servers)) if callable(found) else found
    if not isinstance(worker, Worker):
        raise click.UsageError(f"{target} is no Worker and no function that makes one, but {found!r}")
    return worker
