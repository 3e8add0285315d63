"""Set up the other contestants: compile the C programs, and install the other Python clients separately."""

from __future__ import annotations

import compileall
import subprocess
import venv
from pathlib import Path
from typing import Final

import geartrain
from benchmarks.contestants import BUILD, HERE, PEERS_PYTHON

# source -> libraries
PROGRAMS: Final = {
    HERE / "clients" / "ceiling.c": (),
    HERE / "clients" / "with_libgearman.c": ("-lgearman",),
    HERE / "workers" / "echo.c": (),
    HERE / "workers" / "with_libgearman_worker.c": ("-lgearman",),
}
PEERS: Final = ("gear==0.16.0", "aiogear==0.2.6", "pygearman==0.2.6", "setuptools<81")


def compile_program(source: Path, libraries: tuple[str, ...]) -> None:
    """Compile a program, if it is older than its source or the headers."""
    program = BUILD / source.stem
    newest = max(path.stat().st_mtime for path in (source, *source.parent.glob("*.h")))
    if program.exists() and program.stat().st_mtime >= newest:
        return
    BUILD.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source), *libraries]
    subprocess.run(command, check=True)


def compile_programs() -> None:
    for source, libraries in PROGRAMS.items():
        compile_program(source, libraries)


def compile_package() -> None:
    """Write our bytecode, as an installation does: the first import after a change takes three times as long."""
    compileall.compile_dir(Path(geartrain.__file__).parent, quiet=1)


def provide_peers() -> None:
    """Create a separate environment for the other Python clients."""
    stamp = PEERS_PYTHON.parent / "installed"
    wanted = "\n".join(PEERS)
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(BUILD / "peers", clear=True, with_pip=True)
    subprocess.run([PEERS_PYTHON, "-m", "pip", "-q", "--disable-pip-version-check", "install", *PEERS], check=True)
    stamp.write_text(wanted)
