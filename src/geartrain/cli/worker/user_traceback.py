"""Shows where a user's code has failed, without the frames that led to it."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Final

import click

__all__ = ["print_user_traceback"]

# Frames of these files are not the user's.
_OWN_CODE: Final = (
    f"{Path(__file__).parents[2]}{os.sep}",
    *(f"{Path(inspect.getfile(module)).parent}{os.sep}" for module in (asyncio, click, importlib)),
    "<frozen importlib",
)


def print_user_traceback(error: BaseException, *, may_be_ours: bool = False) -> None:
    """
    Print a traceback of the user's frames, also of the exceptions that it was raised from.

    Args:
        error: What was raised.
        may_be_ours: Whether all frames are shown if none is the user's.
    """
    report = traceback.TracebackException.from_exception(error)
    if not may_be_ours or any(_is_users(frame) for frame in report.stack):
        _remove_own_frames(report)
    print("".join(report.format()), end="", file=sys.stderr)


def _is_users(frame: traceback.FrameSummary) -> bool:
    return not frame.filename.startswith(_OWN_CODE)


def _remove_own_frames(report: traceback.TracebackException) -> None:
    report.stack = traceback.StackSummary.from_list([frame for frame in report.stack if _is_users(frame)])
    for inner in (report.__cause__, report.__context__, *(report.exceptions or ())):
        if inner is not None:
            _remove_own_frames(inner)
