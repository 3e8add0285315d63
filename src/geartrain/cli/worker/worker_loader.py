"""Loads the Python worker specified by ``MODULE:WORKER``."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from geartrain.cli.worker.user_traceback import print_user_traceback
from geartrain.errors import LocalProtocolError
from geartrain.worker import Worker

__all__ = ["check_worker", "load_worker"]


def load_worker(target: str, servers: Sequence[str], *, has_server_option: bool) -> Worker:
    """
    Import a worker, or import a factory and call it with a list of job servers.

    The current directory is searched first. An exception raised by the user's code is printed with its traceback.

    Raises:
        click.UsageError: If there is no such worker, or the user's code raised an exception.
    """
    module_name, _, name = target.partition(":")
    if not all([*module_name.split("."), *name.split(".")]):
        raise click.UsageError(f"invalid worker {target!r}: expected MODULE:WORKER, such as app:worker")
    found = _import(module_name, name)
    if isinstance(found, Worker):
        if has_server_option:
            raise click.UsageError(f"{target} has its own job servers; -s requires a factory that takes a list of them")
        return found
    if _is_blocking(found):
        raise click.UsageError(
            f"{target} is a geartrain.blocking.Worker: call its main(), or make it a geartrain.Worker"
        )
    if not callable(found):
        raise click.UsageError(f"{target} must be a Worker or a factory that returns one, got a {_type_name(found)}")
    with _report_exceptions(target):
        worker = found(list(servers))
    if inspect.iscoroutine(worker):
        worker.close()
    if not isinstance(worker, Worker):
        raise click.UsageError(f"{target} must return a Worker, got a {_type_name(worker)}")
    return worker


def check_worker(worker: Worker) -> None:
    """Raise UsageError if a worker can never run."""
    try:
        worker.check()
    except (LocalProtocolError, TypeError) as error:
        raise click.UsageError(str(error)) from error


def _import(module_name: str, name: str) -> object:
    with contextlib.suppress(OSError):  # the current directory was deleted, so it contains no modules
        sys.path.insert(0, os.getcwd())
    with _report_exceptions(f"the module {module_name}"):
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise click.UsageError(f"cannot load {module_name}:{name}: no module named {error.name!r}") from error
    for part in name.split("."):
        with _report_exceptions(f"{module_name}:{name}"):
            try:
                found = getattr(found, part)
            except AttributeError as error:
                raise click.UsageError(f"module {module_name!r} has no attribute {name!r}") from error
    return found


@contextmanager
def _report_exceptions(subject: str) -> Iterator[None]:
    """Print an exception raised by the user's code with its traceback, and raise a UsageError instead."""
    try:
        yield
    except click.UsageError:
        raise
    except Exception as error:
        print_user_traceback(error)
        raise click.UsageError(f"{subject} raised {type(error).__name__}") from error


def _is_blocking(found: object) -> bool:
    return type(found).__module__.startswith("geartrain.blocking.")


def _type_name(value: object) -> str:
    return type(value).__name__
