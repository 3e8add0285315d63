"""Rows of facts: a table on a terminal, lines parted by tabs elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from rich.table import Table
from rich.text import Text

from geartrain.cli.console import make_console
from geartrain.printable import printable

__all__ = ["Row", "make_table", "print_json_line", "print_rows"]

Row: TypeAlias = Mapping[str, object]

_NUMERIC: Final = (int, float)


def print_rows(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool) -> None:
    """
    Print rows.

    Args:
        rows: Their values by column.
        columns: The order in which they are shown.
        as_json: Print a JSON array, an object for each row.
    """
    console = make_console()
    if as_json:
        sys.stdout.write(json.dumps(_choose(rows, columns), indent=2) + "\n")
    elif console.is_terminal:
        console.print(make_table(rows, columns))
    else:
        for row in rows:
            sys.stdout.write("\t".join(_to_text(row[column]) for column in columns) + "\n")


def print_json_line(rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Print rows as a JSON array in one line, for a stream of such."""
    sys.stdout.write(json.dumps(_choose(rows, columns)) + "\n")


def make_table(rows: Sequence[Row], columns: Sequence[str], folded: str | None = None) -> Table:
    """
    Return a table for a terminal; numbers stand to the right.

    Args:
        rows: Their values by column.
        columns: The order in which they are shown.
        folded: The only column that may be narrower than what is in it; any may if it is ``None``.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        texts = [_to_text(row[column]) for row in rows]
        numeric = bool(rows) and all(_is_number(row[column]) for row in rows)
        table.add_column(
            column.replace("_", " "),
            justify="right" if numeric else "left",
            overflow="fold",
            min_width=None if folded in (None, column) else max(map(len, texts), default=None),
        )
    for row in rows:
        table.add_row(*(Text(_to_text(row[column])) for column in columns))
    return table


def _choose(rows: Sequence[Row], columns: Sequence[str]) -> list[Row]:
    return [{column: row[column] for column in columns} for row in rows]


def _is_number(value: object) -> bool:
    return isinstance(value, _NUMERIC) and not isinstance(value, bool)


def _to_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list | tuple):
        return " ".join(map(_to_text, value))
    return printable(str(value), None)
