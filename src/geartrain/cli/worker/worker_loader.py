"""Finds the Python worker that ``MODULE:WORKER`` names."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import iscoroutine
from pathlib import Path
from types import TracebackType

import click

import geartrain.cli
from geartrain.worker import Worker

__all__ = ["load_worker"]


def load_worker(target: str, servers: Sequence[str], *, servers_given: bool) -> Worker:
    """
    Import a worker, or a function that makes one of a list of job servers.

    The current directory is searched first. An exception that the user's code raises is printed with its traceback.

    Raises:
        click.UsageError: If there is no such worker, or the user's code raised an exception.
    """
    module_name, _, name = target.partition(":")
    if not all([*module_name.split("."), *name.split(".")]):
        raise click.UsageError(f"invalid worker {target!r}: expected MODULE:WORKER, such as app:worker")
    found = _find(module_name, name)
    if isinstance(found, Worker):
        if servers_given:
            raise click.UsageError(
                f"{target} has its own job servers; -s is for a function that makes a worker of a list of them"
            )
        return found
    if not callable(found):
        raise click.UsageError(f"{target} is neither a Worker nor a function that makes one, but a {_type_of(found)}")
    with _reporting(target):
        made = found(list(servers))
    if iscoroutine(made):
        made.close()
    if not isinstance(made, Worker):
        raise click.UsageError(f"{target} returned a {_type_of(made)}, not a Worker")
    return made


def _find(module_name: str, name: str) -> object:
    with contextlib.suppress(OSError):  # a current directory that has been deleted has nothing to be found in it
        sys.path.insert(0, os.getcwd())
    with _reporting(f"the module {module_name}"):
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise click.UsageError(f"there is no module {error.name} to find {module_name}:{name} in") from error
    for part in name.split("."):
        with _reporting(f"{module_name}:{name}"):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                raise click.UsageError(f"the module {module_name} has no {name}") from error
    return found


@contextmanager
def _reporting(subject: str) -> Iterator[None]:
    """Print what code of the user raises, with its traceback, and raise one sentence for it."""
    try:
        yield
    except click.UsageError:
        raise
    except Exception as error:
        traceback.print_exception(type(error), error, _skip_own_frames(error.__traceback__))
        raise click.UsageError(f"{subject} raised {type(error).__name__}") from error


def _skip_own_frames(trace: TracebackType | None) -> TracebackType | None:
    own = (str(Path(geartrain.cli.__file__).parent), str(Path(importlib.__file__).parent), "<frozen importlib")
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(own):
        trace = trace.tb_next
    return trace


def _type_of(value: object) -> str:
    return type(value).__name__
