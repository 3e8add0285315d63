"""What users install."""

from __future__ import annotations

import sys
import tarfile
from email.message import Message
from email.parser import Parser
from importlib.metadata import Distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

import geartrain
from tests.package.conftest import ROOT, Distributions, build, make_environment, run

COMMANDS = Path(sys.executable).parent


@pytest.fixture(scope="session")
def metadata(distributions: Distributions) -> Message:
    with ZipFile(distributions.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


def test_two_builds_are_equal_bit_by_bit(distributions: Distributions, tmp_path: Path) -> None:
    again = build(tmp_path / "elsewhere", tmp_path / "dist")
    for first, second in zip(distributions, again, strict=True):
        assert first.name == second.name
        assert first.read_bytes() == second.read_bytes()


def test_the_files_are_valid(distributions: Distributions) -> None:
    run(COMMANDS / "twine", "check", "--strict", *distributions)
    run(COMMANDS / "check-wheel-contents", distributions.wheel)


def test_the_source_distribution_contains_what_it_takes_to_test_it(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "tools/setup.sh"} <= names
    assert {"src/geartrain/py.typed", "tests/conftest.py", "docs/guide.md", "examples/first_job.py"} <= names


def test_the_wheel_contains_the_package_alone(distributions: Distributions) -> None:
    with ZipFile(distributions.wheel) as wheel:
        folders = {name.partition("/")[0] for name in wheel.namelist()}
    assert folders == {"geartrain", f"geartrain-{geartrain.__version__}.dist-info"}


def test_all_is_every_extra(metadata: Message) -> None:
    required: dict[str, set[str]] = {}
    for line in metadata.get_all("Requires-Dist") or ():
        requirement, _, extra = line.partition("; extra == ")
        required.setdefault(extra.strip("'\""), set()).add(requirement)
    everything = required.pop("all")
    assert everything == set().union(*required.values())
    assert required


def test_the_metadata_invent_nothing(metadata: Message) -> None:
    assert metadata["Author"] == "geartrain contributors"
    assert metadata["Author-email"] is None
    assert metadata.get_all("Project-URL") is None
    pythons = [each for each in metadata.get_all("Classifier") or () if "Python :: 3." in each]
    assert pythons == [f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)]


def test_the_wheel_works_without_the_repository(distributions: Distributions, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "venv", f"{distributions.wheel}[cli]")
    (tmp_path / "first_job.py").write_bytes((ROOT / "examples" / "first_job.py").read_bytes())
    assert run(programs / "geartrain", "--version", directory=tmp_path).strip().endswith(geartrain.__version__)
    assert "!namraeG ,olleH" in run(programs / "python", "first_job.py", directory=tmp_path)
    assert "Usage" in run(programs / "geartrain", "submit", "--help", directory=tmp_path)


def test_the_core_needs_no_other_package(distributions: Distributions, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "venv", distributions.wheel)
    folders = [str(path) for path in (tmp_path / "venv").glob("lib/*/site-packages")]
    installed = {each.metadata["Name"] for each in Distribution.discover(path=folders)}
    assert installed - {"pip", "setuptools"} == {"geartrain"}
    run(
        programs / "python",
        "-W",
        "error",
        "-c",
        "from geartrain import *; from geartrain.blocking import *",
        directory=tmp_path,
    )


def test_the_oldest_dependencies_are_new_enough(distributions: Distributions, tmp_path: Path) -> None:
    programs = make_environment(tmp_path / "venv")
    target = ("--python", programs / "python", "--resolution", "lowest-direct")
    run(COMMANDS / "uv", "pip", "install", *target, f"{distributions.wheel}[all]")
    program = """
import asyncio, subprocess, sys
from geartrain import JobServer

async def main():
    async with JobServer() as server:
        for command in (["submit", "--background", "f", "abc"], ["status"], ["jobs"], ["workers"], ["version"]):
            geartrain = await asyncio.create_subprocess_exec(sys.argv[1], *command, "-s", server.address)
            assert await geartrain.wait() == 0, command

import uvloop
uvloop.run(main())
"""
    run(programs / "python", "-c", program, programs / "geartrain", directory=tmp_path)
