"""Commands import only what they need, which determines how long they take to start."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from tests.cli.command import ROOT, make_environment

pytestmark = pytest.mark.untraced

# Each command runs in a child of a process that has imported nothing but the interpreter's own modules.
PROGRAM = """
import os, pickle, sys

def run(arguments):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.argv = ["geartrain", *arguments]
    from geartrain.cli import main
    try:
        main()
    except SystemExit:
        pass

imported = {}
for command in sys.argv[1:]:
    reader, writer = os.pipe()
    if not os.fork():
        run(command.split())
        with open(writer, "wb") as file:
            pickle.dump(set(sys.modules), file)
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        imported[command] = pickle.load(file)
    os.wait()
sys.stdout.buffer.write(pickle.dumps(imported))
"""

# Each command, packages that it needs and packages that it does not.
COMMANDS = {
    "--version": ("click", "asyncio rich geartrain.cli.commands geartrain.client geartrain.protocol"),
    "--help": ("click", "asyncio rich geartrain.cli.commands geartrain.client geartrain.protocol"),
    "status -s 127.0.0.1:1": ("geartrain.admin", "rich geartrain.client geartrain.worker geartrain.server"),
    "serve -l 192.0.2.1": ("geartrain.server", "rich geartrain.client geartrain.worker geartrain.admin"),
    "submit -s 127.0.0.1:1 f x": ("geartrain.client", "rich geartrain.worker geartrain.server"),
}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """The modules that each command has imported when it ends. Standard output is not a terminal."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *COMMANDS], stdout=subprocess.PIPE, cwd=ROOT, env=make_environment(), check=True
    )
    modules: dict[str, set[str]] = pickle.loads(result.stdout)
    return modules


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_imports_only_what_it_needs(imported: dict[str, set[str]], command: str) -> None:
    needed, unneeded = COMMANDS[command]
    assert needed in imported[command]
    assert imported[command].isdisjoint(unneeded.split())
