"""Prints results on standard output, and messages on standard error."""

from __future__ import annotations

import codecs
import sys
from typing import BinaryIO

from geartrain.cli.console import print_error
from geartrain.cli.submit.progress import ProgressDisplay
from geartrain.printable import printable

__all__ = ["ResultPrinter"]


class ResultPrinter:
    """
    Writes to standard output for one job at a time, and messages to standard error.

    On a terminal, control characters are escaped; elsewhere bytes are passed through unchanged.

    Args:
        terminator: Added at the end of a job's output unless the output ends with it.
        terminates_empty: Add it also to empty output.
        progress: Hidden while something is printed.
    """

    def __init__(self, terminator: bytes, progress: ProgressDisplay, *, terminates_empty: bool = True) -> None:
        self._terminator = terminator
        self._terminates_empty = terminates_empty
        self._progress = progress
        self._is_mid_line = False  # on a terminal: the next thing printed would continue the line
        self._stream: BinaryIO = sys.stdout.buffer
        self._encoding = sys.stdout.encoding
        # A multi-byte character may be split between two parts.
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decoder = decoder if self._stream.isatty() else None

    def print(self, data: bytes, *, final: bool = False) -> None:
        """Print bytes immediately. ``final`` marks the end of a job's output."""
        if self._decoder is not None:
            text = printable(self._decoder.decode(data, final), None, keep="\n\t")
            data = text.encode(self._encoding, "backslashreplace")
        if data:
            self._progress.hide()
            self._stream.write(data)
            self._stream.flush()
            self._is_mid_line = self._decoder is not None and not data.endswith(b"\n")
            self._resume_progress()

    def finish(self, last: bytes) -> None:
        """Terminate a job's output, whose last byte is ``last``; that is empty if nothing was printed."""
        is_terminated = last.endswith(self._terminator) if last else not self._terminates_empty
        self.print(b"" if is_terminated else self._terminator, final=True)

    def print_message(self, text: str) -> None:
        """Print a line on standard error. Newlines are escaped, so a worker cannot forge lines of geartrain's."""
        self._progress.hide()
        print_error(text)
        self._resume_progress()

    def _resume_progress(self) -> None:
        if not self._is_mid_line:
            self._progress.resume()
