"""What the repository's host runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.package.conftest import ROOT, run

COMMANDS = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_auditors_find_nothing() -> None:
    run(COMMANDS / "zizmor", "--offline", "--persona", "auditor", ROOT / ".github")
    run(COMMANDS / "actionlint", *WORKFLOWS)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_its_hash(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", action), action


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_only_targets_of_make_are_run(workflow: Path) -> None:
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in re.findall(r"run: (.*)", workflow.read_text()):
        make, target = command.split()
        assert make == "make"
        assert target in targets
