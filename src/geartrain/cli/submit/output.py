"""Prints what becomes of each job in the order of the workloads, whatever the order in which jobs end."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from geartrain.cli.handles import format_handle
from geartrain.cli.messages import describe_error
from geartrain.cli.submit.printer import ResultPrinter
from geartrain.handle import JobHandle

__all__ = ["JobOutput", "JobTitle", "JsonOutput", "TextOutput"]


@dataclass(frozen=True, slots=True)
class JobTitle:
    """
    What identifies a job in the output.

    Attributes:
        function: The function's name.
        number: The number of its workload in the input, from 1; ``None`` if there is only one.
        unit: What the input consists of: ``line`` or ``part``.
    """

    function: str
    number: int | None = None
    unit: str = "line"

    def __str__(self) -> str:
        """Return a prefix for messages; empty if there is only one workload."""
        return "" if self.number is None else f"{self.unit} {self.number}: "


class JobOutput(ABC):
    """The output of one job: buffered until it is the job's turn, then printed as it arrives."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Add a part of the result."""

    @abstractmethod
    def warn(self, data: bytes) -> None:
        """Add a warning."""

    @abstractmethod
    def start_printing(self) -> None:
        """Print what is buffered, and from now on everything immediately."""

    @abstractmethod
    def complete(self, result: bytes, handle: JobHandle | None) -> None:
        """Print the end of a job that has succeeded."""

    @abstractmethod
    def accept(self, handle: JobHandle) -> None:
        """Print the handle of a background job."""

    @abstractmethod
    def fail(self, error: Exception, handle: JobHandle | None) -> None:
        """Print the error that has ended the job."""


class TextOutput(JobOutput):
    """
    Results as they are on standard output, warnings and errors on standard error.

    Args:
        printer: Prints the output.
        title: What identifies the job.
        label: Prefix of each line of the result.
    """

    def __init__(self, printer: ResultPrinter, title: JobTitle, label: bytes = b"") -> None:
        self._printer = printer
        self._title = title
        self._label = label
        self._buffered: list[tuple[Callable[[bytes], None], bytes]] | None = []  # None once it is the job's turn
        self._last = b""
        self._is_line_start = True

    def write(self, data: bytes) -> None:
        """Add a part of the result."""
        if data:
            data = self._add_labels(data)
            self._last = data[-1:]
            self._print(self._printer.print, data)

    def warn(self, data: bytes) -> None:
        """Add a warning."""
        self._print(self._print_warning, data)

    def start_printing(self) -> None:
        """Print what is buffered, and from now on everything immediately."""
        buffered, self._buffered = self._buffered, None
        for action, data in buffered or ():
            action(data)

    def complete(self, result: bytes, handle: JobHandle | None) -> None:
        """Print the end of a job that has succeeded."""
        self.write(result)
        self._printer.finish(self._last)

    def accept(self, handle: JobHandle) -> None:
        """Print the handle of a background job."""
        self.complete(format_handle(handle).encode(), handle)

    def fail(self, error: Exception, handle: JobHandle | None) -> None:
        """Print the error that has ended the job."""
        if self._last:
            self._printer.finish(self._last)
        self._printer.print_message(f"geartrain: {self._title}{describe_error(error)}")

    def _print(self, action: Callable[[bytes], None], data: bytes) -> None:
        if self._buffered is None:
            action(data)
        else:
            self._buffered.append((action, data))

    def _print_warning(self, data: bytes) -> None:
        text = data.removesuffix(b"\n").decode("utf-8", "surrogateescape")
        self._printer.print_message(f"{self._title}{text}")

    def _add_labels(self, data: bytes) -> bytes:
        if not self._label:
            return data
        lines = data.splitlines(keepends=True)
        is_line_start = self._is_line_start
        self._is_line_start = data.endswith(b"\n")
        labelled = [self._label + line for line in lines[1:]]
        return (self._label if is_line_start else b"") + lines[0] + b"".join(labelled)


class JsonOutput(JobOutput):
    """
    One line with a JSON object for each job.

    Args:
        printer: Prints the output.
        title: What identifies the job.
    """

    def __init__(self, printer: ResultPrinter, title: JobTitle) -> None:
        self._printer = printer
        self._title = title
        self._data: list[bytes] = []
        self._warnings: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add a part of the result."""
        self._data.append(data)

    def warn(self, data: bytes) -> None:
        """Add a warning."""
        self._warnings.append(data)

    def start_printing(self) -> None:
        """Do nothing: an object is printed when its job has ended."""

    def complete(self, result: bytes, handle: JobHandle | None) -> None:
        """Print the end of a job that has succeeded."""
        self._print(handle, **_encode("result", b"".join([*self._data, result])))

    def accept(self, handle: JobHandle) -> None:
        """Print the handle of a background job."""
        self._print(handle)

    def fail(self, error: Exception, handle: JobHandle | None) -> None:
        """Print the error that has ended the job."""
        self._print(handle, error=describe_error(error), error_type=type(error).__name__)

    def _print(self, handle: JobHandle | None, **outcome: str) -> None:
        job: dict[str, object] = {} if self._title.number is None else {self._title.unit: self._title.number}
        job |= {"function": _encode_text(self._title.function), "handle": format_handle(handle) if handle else None}
        if self._warnings:
            job["warnings"] = [each.decode("utf-8", "backslashreplace") for each in self._warnings]
        self._printer.print(json.dumps({**job, **outcome}).encode())
        self._printer.finish(b"}")


def _encode(name: str, data: bytes) -> dict[str, str]:
    """Return bytes as an item of a JSON object: as text if they are UTF-8, else in Base64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}


def _encode_text(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
