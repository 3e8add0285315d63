"""Prints rows: as a table on a terminal, as tab-separated lines elsewhere, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from geartrain.cli.console import is_terminal, make_console
from geartrain.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Row", "format_value", "make_table", "print_json_line", "print_rows"]

Row: TypeAlias = Mapping[str, object]

_NUMERIC: Final = (int, float)


def print_rows(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool) -> None:
    """
    Print rows.

    Args:
        rows: Values by column name.
        columns: The columns to print, in this order.
        as_json: Print a JSON array with one object per row.
    """
    if as_json:
        sys.stdout.write(json.dumps(_select_columns(rows, columns), indent=2) + "\n")
    elif is_terminal():
        make_console().print(make_table(rows, columns))
    else:
        for row in rows:
            sys.stdout.write("\t".join(format_value(row[column]) for column in columns) + "\n")


def print_json_line(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print rows as a JSON array on one line."""
    sys.stdout.write(json.dumps(_select_columns(rows, columns)) + "\n")


def make_table(rows: Sequence[Row], columns: Sequence[str]) -> Table:
    """
    Return a table for a terminal, with numbers right-aligned.

    Args:
        rows: Values by column name.
        columns: The columns to show, in this order.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        is_numeric = bool(rows) and all(_is_number(row[column]) for row in rows)
        table.add_column(
            column.replace("_", " "),
            justify="right" if is_numeric else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(format_value(row[column])) for column in columns))
    return table


def _select_columns(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    return [{column: row[column] for column in columns} for row in rows]


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMERIC) and not isinstance(value, bool)


def format_value(value: object) -> str:
    """Return a value as text, with control characters escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return " ".join(map(format_value, value))
    return printable(str(value), None)
