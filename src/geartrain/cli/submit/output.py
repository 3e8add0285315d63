"""What ``geartrain submit`` prints, in the order of the workloads although jobs end in any."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable
from typing import BinaryIO

from geartrain.printable import printable

__all__ = ["JobOutput", "ResultPrinter"]


class ResultPrinter:
    """
    Standard output, of which one job at a time has the use.

    On a terminal, what it would obey is escaped; elsewhere bytes stay as they are.

    Args:
        ending: What every job's output ends with, added where it is missing.
        before: Called before anything is printed.
    """

    def __init__(self, ending: bytes, before: Callable[[], None]) -> None:
        self._ending = ending
        self._before = before
        self._stream: BinaryIO = sys.stdout.buffer
        self._encoding = sys.stdout.encoding
        # A character may arrive in two parts.
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._decoder = decoder if self._stream.isatty() else None

    def print(self, data: bytes, *, final: bool = False) -> None:
        """Print bytes immediately; ``final`` if nothing follows of a job's output."""
        if self._decoder is not None:
            text = printable(self._decoder.decode(data, final), None, keep="\n\t")
            data = text.encode(self._encoding, "backslashreplace")
        if data:
            self._before()
            self._stream.write(data)
            self._stream.flush()

    def end(self, last: bytes) -> None:
        """End a job's output."""
        self.print(b"" if last.endswith(self._ending) else self._ending, final=True)


class JobOutput:
    """
    The output of one job: held until it is the job's turn, then passed on as it comes.

    Args:
        printer: Where it goes.
        label: What each line is to begin with.
    """

    def __init__(self, printer: ResultPrinter, label: bytes = b"") -> None:
        self._printer = printer
        self._label = label
        self._held: list[bytes] | None = []  # None: it is its turn
        self._last = b""
        self._line_begins = True

    def write(self, data: bytes) -> None:
        """Take a part of the job's output."""
        if not data:
            return
        data = self._put_labels(data)
        self._last = data[-1:]
        if self._held is None:
            self._printer.print(data)
        else:
            self._held.append(data)

    def take_turn(self) -> None:
        """Print what is held, and from now on what comes."""
        held, self._held = self._held, None
        self._printer.print(b"".join(held or ()))

    def end(self) -> None:
        """See that it ends as it should."""
        self._printer.end(self._last)

    def _put_labels(self, data: bytes) -> bytes:
        if not self._label:
            return data
        lines = data.splitlines(keepends=True)
        begin = self._line_begins
        self._line_begins = data.endswith(b"\n")
        labelled = [self._label + line for line in lines[1:]]
        return (self._label if begin else b"") + lines[0] + b"".join(labelled)
