"""
Runs several commands in one environment, each in a forked child, so that Python imports geartrain only once.

``python -m tests.cli.forked_commands REQUEST`` unpickles a :class:`Request` and pickles a list of :class:`Outcome` to
``REQUEST.done``.
"""

from __future__ import annotations

import gc
import importlib
import os
import pickle
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import geartrain.cli.app
import geartrain.cli.commands
from tests.support.forked_coverage import save_before_forks


class Request(NamedTuple):
    """
    The commands to run.

    Attributes:
        commands: The arguments of each command.
        captured: The descriptors whose output is returned. The others are left unchanged.
    """

    commands: Sequence[Sequence[bytes]]
    captured: Sequence[int]


class Outcome(NamedTuple):
    """The exit status and output of a command."""

    status: int
    output: bytes
    errors: bytes


def main() -> None:
    """Run the commands one after the other. Returns only in a child, with ``sys.argv`` set."""
    request_path = Path(sys.argv[1])
    request: Request = pickle.loads(request_path.read_bytes())
    outcomes = []
    for arguments in request.commands:
        files = {descriptor: Path(f"{request_path}.{descriptor}") for descriptor in request.captured}
        child = os.fork()
        if not child:
            for descriptor, path in files.items():
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            sys.argv = ["geartrain", *map(os.fsdecode, arguments)]
            return
        _, status = os.waitpid(child, 0)
        texts = {descriptor: path.read_bytes() for descriptor, path in files.items()}
        outcomes.append(Outcome(os.waitstatus_to_exitcode(status), texts.get(1, b""), texts.get(2, b"")))
    Path(f"{request_path}.done").write_bytes(pickle.dumps(outcomes))
    sys.exit()


if __name__ == "__main__":
    for module in pkgutil.iter_modules(geartrain.cli.commands.__path__, "geartrain.cli.commands."):
        importlib.import_module(module.name)
    gc.freeze()  # so that children do not collect objects shared with the parent when they exit
    save_before_forks()
    # The pickled classes must be those of the module as the tests import it, not of __main__.
    importlib.import_module("tests.cli.forked_commands").main()
    geartrain.cli.main()
