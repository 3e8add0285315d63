"""Prints results in the order of the workloads, whatever the order in which jobs end."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from typing import BinaryIO

from geartrain.printable import printable

__all__ = ["JobOutput", "ResultPrinter"]


class ResultPrinter:
    """
    Writes to standard output for one job at a time.

    On a terminal, control characters are escaped; elsewhere bytes are passed through unchanged.

    Args:
        terminator: Added at the end of a job's output unless the output ends with it.
        before_print: Called before anything is printed.
    """

    def __init__(self, terminator: bytes, before_print: Callable[[], None]) -> None:
        self._terminator = terminator
        self._before_print = before_print
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
            self._before_print()
            self._stream.write(data)
            self._stream.flush()

    def finish(self, last: bytes) -> None:
        """Terminate a job's output, whose last byte is ``last``."""
        self.print(b"" if last.endswith(self._terminator) else self._terminator, final=True)


class JobOutput:
    """
    The output of one job: buffered until it is the job's turn, then printed as it arrives.

    Args:
        printer: Prints the output.
        label: Prefix of each line.
    """

    def __init__(self, printer: ResultPrinter, label: bytes = b"") -> None:
        self._printer = printer
        self._label = label
        self._buffered: list[bytes] | None = []  # None once it is the job's turn
        self._last = b""
        self._is_line_start = True

    def write(self, data: bytes) -> None:
        """Add a part of the job's output."""
        if not data:
            return
        data = self._add_labels(data)
        self._last = data[-1:]
        if self._buffered is None:
            self._printer.print(data)
        else:
            self._buffered.append(data)

    def start_printing(self) -> None:
        """Print the buffered output, and from now on any output immediately."""
        buffered, self._buffered = self._buffered, None
        self._printer.print(b"".join(buffered or ()))

    def finish(self) -> None:
        """Terminate the output."""
        self._printer.finish(self._last)

    def _add_labels(self, data: bytes) -> bytes:
        if not self._label:
            return data
        lines = data.splitlines(keepends=True)
        is_line_start = self._is_line_start
        self._is_line_start = data.endswith(b"\n")
        labelled = [self._label + line for line in lines[1:]]
        return (self._label if is_line_start else b"") + lines[0] + b"".join(labelled)
