"""Standard streams that can be used although they are closed, full, broken or not blocking."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import BinaryIO, Final, TextIO, cast

from geartrain.cli.event_loop import stop_command
from geartrain.cli.exit_status import BROKEN_PIPE, FAILED

__all__ = ["ignore_output_errors", "prepare_streams"]

_OUTPUT: Final = 1
_ERRORS: Final = 2


def prepare_streams() -> None:
    """
    Replace standard output and standard error by streams that never raise an OSError.

    What cannot be written to standard error is dropped. Where standard output cannot be written the command is stopped,
    with an exit status that says so, unless :func:`ignore_output_errors` was called. If nobody reads it any more, as in
    ``geartrain jobs | head -1``, that is not reported.
    """
    _fill_descriptors()
    sys.stderr = _make_stream(_Writer(_ERRORS, lambda error: None), sys.stderr)
    sys.stdout = _make_stream(_Writer(_OUTPUT, _end_output), sys.stdout)


def ignore_output_errors() -> None:
    """Drop what cannot be written to standard output: the command goes on, since its output is not what it is for."""
    sys.stdout.flush()
    sys.stdout = _make_stream(_Writer(_OUTPUT, _discard_output), sys.stdout)


class _Writer(io.FileIO):
    """Writes to a descriptor, and calls a function instead of raising an error."""

    def __init__(self, descriptor: int, on_error: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._on_error = on_error

    def write(self, data: object, /) -> int:
        """Write all of the data, or none of it if that fails."""
        rest = view = memoryview(data).cast("B")  # type: ignore[arg-type]  # Python 3.11 has no type for buffers
        try:
            while rest:
                if (written := super().write(rest)) is None:
                    select.select([], [self], [])  # whoever shares it has made it non-blocking
                else:
                    rest = rest[written:]
        except OSError as error:
            self._on_error(error)
        return view.nbytes


def _make_stream(writer: _Writer, before: TextIO | None) -> TextIO:
    """Wrap a descriptor as Python wrapped it before."""
    # Names are UTF-8 to job servers: in a pipe or file they are the same bytes whatever the locale.
    encoding = before.encoding if before is not None and writer.isatty() else "utf-8"
    unbuffered = getattr(before, "write_through", False)  # PYTHONUNBUFFERED, which containers often set
    lines = getattr(before, "line_buffering", True)
    buffer = writer if unbuffered else io.BufferedWriter(writer)
    return io.TextIOWrapper(
        cast(BinaryIO, buffer), encoding, "backslashreplace", line_buffering=lines, write_through=unbuffered
    )


def _fill_descriptors() -> None:
    """Open /dev/null where a standard descriptor is closed, or the next file or socket would take its place."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(descriptor, True)


def _end_output(error: OSError) -> None:
    _discard_output(error)
    if error.errno != errno.EPIPE:
        sys.stderr.write(f"geartrain: standard output cannot be written: {error.strerror}\n")
    stop_command(BROKEN_PIPE if error.errno == errno.EPIPE else FAILED)


def _discard_output(error: OSError) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _OUTPUT)
    os.close(null)
