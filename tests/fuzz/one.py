"""
Run one target under atheris: ``python -m tests.fuzz.one TARGET [libFuzzer's arguments]``.

The arguments may be the path of a saved input, to run only that.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["geartrain"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    _, name, *arguments = sys.argv
    atheris.Setup([name, *arguments], TARGETS[name])
    atheris.Fuzz()
