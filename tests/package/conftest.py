"""What is published, built twice from copies of the checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import ENVIRONMENT

ROOT = Path(__file__).parents[2]


class Distributions(NamedTuple):
    """
    The files of one build.

    Attributes:
        sdist: The source distribution.
        wheel: The wheel.
    """

    sdist: Path
    wheel: Path


def run(*command: str | Path, directory: Path | None = None) -> str:
    """Run a command, and return what it prints on both streams; fail if its exit status is not 0."""
    ended = subprocess.run(
        command,
        cwd=directory,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, f"{command} ended with {ended.returncode}:\n{ended.stdout}"
    return ended.stdout


def build(checkout: Path, output: Path) -> Distributions:
    """Build a copy of the files under version control, in a folder of its own."""
    for name in run("git", "ls-files", "--cached", "--others", "--exclude-standard", directory=ROOT).splitlines():
        if (ROOT / name).is_file():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, checkout / name)  # with the present time
    run(sys.executable, "-m", "build", "--outdir", output, checkout)
    (sdist,), (wheel,) = output.glob("*.tar.gz"), output.glob("*.whl")
    return Distributions(sdist, wheel)


@pytest.fixture(scope="session")
def distributions() -> Distributions:
    """The files in ``dist/``."""
    output = ROOT / "dist"
    shutil.rmtree(output, ignore_errors=True)
    checkout = ROOT / "build" / "package"
    shutil.rmtree(checkout, ignore_errors=True)
    return build(checkout, output)


def make_environment(folder: Path, *packages: str | Path) -> Path:
    """Install packages in a new virtual environment, and return its folder of programs."""
    run(sys.executable, "-m", "venv", folder)
    if packages:
        run(folder / "bin" / "python", "-m", "pip", "install", "--quiet", *packages)
    return folder / "bin"
