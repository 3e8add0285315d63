"""Standard streams that keep working when they are closed, full, broken or non-blocking."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Callable
from typing import BinaryIO, Final, TextIO, cast

from geartrain.cli.current_run import stop_command
from geartrain.cli.exit_status import BROKEN_PIPE, FAILED

__all__ = ["ignore_output_errors", "prepare_streams"]

_OUTPUT: Final = 1
_ERRORS: Final = 2


def prepare_streams() -> None:
    """
    Replace standard output and standard error with streams that never raise an OSError.

    Output that cannot be written to standard error is dropped. If standard output fails, the command is stopped with an
    appropriate exit status, unless :func:`ignore_output_errors` was called. A broken pipe, as in
    ``geartrain jobs | head -1``, is not reported.
    """
    _fill_descriptors()
    sys.stderr = _make_stream(_Writer(_ERRORS, lambda error: None), sys.stderr)
    sys.stdout = _make_stream(_Writer(_OUTPUT, _on_output_error), sys.stdout)


def ignore_output_errors() -> None:
    """Drop output that cannot be written to standard output, so that a command such as ``worker`` keeps running."""
    sys.stdout.flush()
    sys.stdout = _make_stream(_Writer(_OUTPUT, _discard_output), sys.stdout)


class _Writer(io.FileIO):
    """Writes to a descriptor and calls ``on_error`` instead of raising an error."""

    def __init__(self, descriptor: int, on_error: Callable[[OSError], None]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._on_error = on_error

    def write(self, data: object, /) -> int:
        """Write all of the data; claim to have done so if that fails."""
        remaining = view = memoryview(data).cast("B")  # type: ignore[arg-type]  # Python 3.11 has no type for buffers
        try:
            while remaining:
                if (written := super().write(remaining)) is None:
                    select.select([], [self], [])  # another process has made it non-blocking
                else:
                    remaining = remaining[written:]
        except OSError as error:
            self._on_error(error)
        return view.nbytes


def _make_stream(writer: _Writer, original: TextIO | None) -> TextIO:
    """Wrap a descriptor the way Python wrapped the original stream."""
    # Job servers use UTF-8 for names, so a pipe or file receives UTF-8 whatever the locale.
    encoding = original.encoding if original is not None and writer.isatty() else "utf-8"
    unbuffered = getattr(original, "write_through", False)  # PYTHONUNBUFFERED, common in containers
    line_buffering = getattr(original, "line_buffering", True)
    buffer = writer if unbuffered else io.BufferedWriter(writer)
    return io.TextIOWrapper(
        cast(BinaryIO, buffer), encoding, "backslashreplace", line_buffering=line_buffering, write_through=unbuffered
    )


def _fill_descriptors() -> None:
    """Open /dev/null for closed standard descriptors; otherwise the next file or socket would take their numbers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            os.set_inheritable(descriptor, True)


def _on_output_error(error: OSError) -> None:
    _discard_output(error)
    if error.errno != errno.EPIPE:
        sys.stderr.write(f"geartrain: cannot write to standard output: {error.strerror}\n")
    stop_command(BROKEN_PIPE if error.errno == errno.EPIPE else FAILED)


def _discard_output(error: OSError) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _OUTPUT)
    os.close(null)
