"""
Runs many commands in the environment it was started in, each in a fork: Python starts and imports geartrain only once.

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


class Request(NamedTuple):
    """
    What to run.

    Attributes:
        commands: The arguments of each.
        captured: The descriptors whose output is returned; the others stay what they are.
    """

    commands: Sequence[Sequence[bytes]]
    captured: Sequence[int]


class Outcome(NamedTuple):
    """How a command ended."""

    status: int
    output: bytes
    errors: bytes


def main() -> None:
    """Run the commands one after the other; return in each child with ``sys.argv`` set."""
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
    gc.freeze()  # what is shared with the parent need not be collected at the end of each child
    # By this name the tests know the classes that are pickled.
    importlib.import_module("tests.cli.forked_commands").main()
    geartrain.cli.main()
