"""The final output of the demo: the most frequent words and a summary."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from geartrain.cli.demo.word_count_client import WordCountResult
from geartrain.cli.messages import pluralize
from geartrain.printable import printable

__all__ = ["print_report"]

_WORDS: Final = 12
_BAR: Final = 45  # columns


def print_report(console: Console, result: WordCountResult) -> None:
    """Print a table of words with a bar chart, followed by a summary."""
    most_common = result.words.most_common(_WORDS)
    console.print()
    if most_common:
        console.print(_make_table(console, most_common))
        console.print()
    console.print(_summarize(result), highlight=False, soft_wrap=True)


def _make_table(console: Console, most_common: list[tuple[str, int]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("most frequent words", no_wrap=True, max_width=20)
    table.add_column("times", justify="right")
    table.add_column("", style="cyan", no_wrap=True)
    block = "#" if console.options.ascii_only else "█"
    for word, times in most_common:
        table.add_row(Text(printable(word)), f"{times:,}", block * max(1, round(_BAR * times / most_common[0][1])))
    return table


def _summarize(result: WordCountResult) -> str:
    parts = [f"{pluralize(result.jobs, 'job')} in {result.seconds:.1f} s"]
    if result.failures:
        parts.append(f"{result.failures} failed")
    for times, by in ((result.requeued, "by the job server"), (result.resubmitted, "by the client")):
        if times:
            parts.append(f"{pluralize(times, 'retry', 'retries')} {by}")
    if not result.requeued + result.resubmitted:
        parts.append("no retries")
    parts.append(f"{result.jobs / result.seconds:,.0f} jobs per second")
    return ", ".join(parts)
