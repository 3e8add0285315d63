"""The reference of log messages lists what an operator may see."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import geartrain

SOURCE = Path(geartrain.__file__).parent
PAGE = SOURCE.parents[1] / "docs" / "reference" / "logs.md"
LEVELS = {"warning", "error", "exception", "critical", "log"}
# Methods that log at WARNING or above.
WRAPPERS = {"log_exception", "_warn"}


def find_messages(tree: ast.AST) -> Iterator[str]:
    """Yield the formats of what a module logs at WARNING and above."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        is_logged = name in LEVELS and isinstance(node.func, ast.Attribute) and "logger" in ast.unparse(node.func.value)
        if is_logged or name in WRAPPERS:
            yield from (
                each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def test_every_warning_and_error_is_listed() -> None:
    page = PAGE.read_text()
    listed = set(re.findall(r"^\| (.*?) \| (?:WARNING|ERROR) \|", page, re.MULTILINE))
    found = {
        re.sub(r"'?%[.\d]*[a-z]'?", "…", message).removeprefix("…: ").rstrip()
        for path in SOURCE.rglob("*.py")
        for message in find_messages(ast.parse(path.read_text()))
    }
    # "connected to" is logged below WARNING.
    assert found - {"…", "connected to …"} <= listed
    assert len(found) > 10
