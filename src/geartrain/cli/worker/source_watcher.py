"""Watches Python files for changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["SourceWatcher"]

_SKIPPED_DIRECTORIES: Final = frozenset({"__pycache__", "site-packages", "node_modules"})


class SourceWatcher:
    """Watches the Python files below a directory, except in hidden directories and installed packages."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._modified = self._scan()

    def find_changed(self) -> Path | None:
        """Return a file that was added, removed or modified since the last call, or ``None``."""
        before, self._modified = self._modified, self._scan()
        changed = dict(before.items() ^ self._modified.items())
        return min(changed, default=None)

    def _scan(self) -> dict[Path, int]:
        times = {}
        for directory, directories, names in os.walk(self._root):
            directories[:] = [
                name for name in directories if name not in _SKIPPED_DIRECTORIES and not name.startswith(".")
            ]
            for name in names:
                if name.endswith(".py"):
                    path = Path(directory, name)
                    try:
                        times[path] = path.stat().st_mtime_ns
                    except OSError:  # removed meanwhile, or a broken or circular link; treated as absent
                        continue
        return times
