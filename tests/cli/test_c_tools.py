"""Interoperation with the C tools `gearman` and `gearadmin`, and the documented correspondence of options."""

from __future__ import annotations

import re
import subprocess

from tests.cli.command import COMMAND, ROOT, geartrain, make_environment
from tests.support.gearmand import Gearmand

PAGE = (ROOT / "docs" / "command-line.md").read_text()


def run(*command: str, standard_input: bytes = b"") -> bytes:
    return subprocess.run(command, input=standard_input, capture_output=True, timeout=20, check=True).stdout


def test_gearman_submits_to_a_geartrain_worker(gearmand: Gearmand) -> None:
    command = [*COMMAND, "worker", "reverse", "-s", gearmand.address, "--", "rev"]
    with subprocess.Popen(command, env=make_environment(), cwd=ROOT) as worker:
        output = run("gearman", "-p", str(gearmand.port), "-f", "reverse", "-n", standard_input=b"abc\ndef\n")
        worker.terminate()
    assert output == b"cba\nfed\n"


def test_geartrain_submits_to_a_gearman_worker(gearmand: Gearmand) -> None:
    with subprocess.Popen(["gearman", "-w", "-p", str(gearmand.port), "-f", "reverse", "--", "rev"]) as worker:
        result = geartrain("submit", "-s", gearmand.address, "--lines", "reverse", standard_input=b"abc\ndef\n")
        worker.kill()
    assert (result.returncode, result.stdout, result.stderr) == (0, b"cba\nfed\n", b"")


def test_gearadmin_and_geartrain_show_the_same_state(gearmand: Gearmand) -> None:
    handle = geartrain("submit", "-b", "-s", gearmand.address, "paint", "wall").stdout.decode().strip()
    for ours, theirs in (("status", "--status"), ("jobs", "--show-jobs")):
        lines = run("gearadmin", "-p", str(gearmand.port), theirs).decode().splitlines()
        seen = geartrain(ours, "-s", gearmand.address).stdout.decode()
        assert lines[0].split("\t")[0] in seen
        assert len(lines) == len(seen.splitlines()) + 1  # the final dot
    run("gearadmin", "-p", str(gearmand.port), "--cancel-job", handle.partition("//")[2])
    assert geartrain("jobs", "-s", gearmand.address).stdout.decode().startswith(f"{handle}\t0\tyes\t")


def test_the_docs_name_every_option_of_gearman() -> None:
    usage = subprocess.run(["gearman", "-H"], capture_output=True, text=True, check=False)
    options = re.findall(r"^\t(-\w)\b", usage.stdout + usage.stderr, re.MULTILINE)
    assert len(options) > 15
    rows = section("Compared with `gearman`")
    assert [option for option in options if not re.search(rf"{option}\b", rows)] == []


def test_the_docs_name_every_option_of_gearadmin() -> None:
    options = re.findall(r"^  .*?(--[\w-]+)", run("gearadmin", "--help").decode(), re.MULTILINE)
    assert len(options) > 12
    rows = section("Compared with `gearadmin`")
    short = {"--host": "-h HOST", "--port": "-p PORT", "--ssl": "-S"}
    assert [option for option in options if short.get(option, option) not in rows and option != "--help"] == []


def test_the_docs_name_exactly_the_commands_of_geartrain() -> None:
    listed = re.findall(r"^  (\w+) {2,}", geartrain("--help").stdout.decode().partition("Commands:")[2], re.MULTILINE)
    table = PAGE.partition("Completion of")[0]
    named = set(re.findall(r"`(?:geartrain )?(\w+)", "".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert named - {"command"} == set(listed)


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
