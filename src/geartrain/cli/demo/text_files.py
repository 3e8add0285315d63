"""Finds the files whose words the demo counts."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["TextFile", "find_text_files"]

_MAX_SIZE: Final = 16 * 1024 * 1024  # bytes; a workload is sent as a single packet

# Directories in the standard library with third-party code, or with thousands of tiny files.
_SKIPPED: Final = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test"})


class TextFile(NamedTuple):
    """A file and its display name."""

    path: Path
    name: str


def find_text_files(paths: Sequence[Path]) -> list[TextFile]:
    """
    Return the text files in ``paths``, directories included recursively.

    Without paths, return the Python files of geartrain and of the standard library.

    Raises:
        OSError: If a file cannot be read.
    """
    if not paths:
        return _find_default()
    files = {
        file.path: file for path in paths for file in ([_make_text_file(path, path)] if path.is_file() else _walk(path))
    }
    return [file for file in files.values() if _is_text(file.path)]


def _find_default() -> list[TextFile]:
    package = Path(__file__).parents[2]
    library = Path(sysconfig.get_path("stdlib"))
    return [file for root in (package, library) for file in _walk(root, _SKIPPED) if file.path.suffix == ".py"]


def _walk(root: Path, skipped: frozenset[str] = frozenset()) -> Iterator[TextFile]:
    for directory, directories, names in os.walk(root):
        directories[:] = sorted(name for name in directories if name not in skipped and not name.startswith("."))
        for name in sorted(names):
            file = Path(directory, name)
            if not name.startswith(".") and file.is_file():
                yield _make_text_file(file, root)


def _make_text_file(file: Path, root: Path) -> TextFile:
    """Return a file with a display name that starts with the name of the directory it was found in."""
    return TextFile(file, str(Path(root.name or root) / file.relative_to(root)))


def _is_text(file: Path) -> bool:
    """Return whether a file is small enough and looks like text: no NUL near its beginning, as in git."""
    if file.stat().st_size > _MAX_SIZE:
        return False
    with file.open("rb") as opened:
        return b"\0" not in opened.read(8000)
