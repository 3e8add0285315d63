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

__all__ = ["Row", "make_table", "print_json_line", "print_rows"]

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
            sys.stdout.write("\t".join(_format_value(row[column]) for column in columns) + "\n")


def print_json_line(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print rows as a JSON array on one line."""
    sys.stdout.write(json.dumps(_select_columns(rows, columns)) + "\n")


def make_table(rows: Sequence[Row], columns: Sequence[str], folded: str | None = None) -> Table:
    """
    Return a table for a terminal, with numbers right-aligned.

    Args:
        rows: Values by column name.
        columns: The columns to show, in this order.
        folded: The only column that may wrap; ``None`` if any may.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        texts = [_format_value(row[column]) for row in rows]
        is_numeric = bool(rows) and all(_is_number(row[column]) for row in rows)
        table.add_column(
            column.replace("_", " "),
            justify="right" if is_numeric else "left",
            overflow="fold",
            min_width=None if folded in (None, column) else max(map(len, texts), default=None),
        )
    for row in rows:
        table.add_row(*(Text(_format_value(row[column])) for column in columns))
    return table


def _select_columns(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    return [{column: row[column] for column in columns} for row in rows]


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMERIC) and not isinstance(value, bool)


def _format_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return " ".join(map(_format_value, value))
    return printable(str(value), None)
