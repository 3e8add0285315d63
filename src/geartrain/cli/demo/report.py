"""What the demo ends with: the most frequent words, and how the work went."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from geartrain.cli.demo.word_count_client import Outcome
from geartrain.cli.messages import pluralize
from geartrain.printable import printable

__all__ = ["print_report"]

_WORDS: Final = 12
_BAR: Final = 45  # columns


def print_report(console: Console, outcome: Outcome) -> None:
    """Print a table of words with a bar chart, and a summary."""
    most = outcome.words.most_common(_WORDS)
    console.print()
    if most:
        console.print(_make_table(console, most))
        console.print()
    console.print(_summarize(outcome), highlight=False, soft_wrap=True)


def _make_table(console: Console, most: list[tuple[str, int]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("most frequent words", no_wrap=True, max_width=20)
    table.add_column("times", justify="right")
    table.add_column("", style="cyan", no_wrap=True)
    block = "#" if console.options.ascii_only else "█"
    for word, times in most:
        table.add_row(Text(printable(word)), f"{times:,}", block * max(1, round(_BAR * times / most[0][1])))
    return table


def _summarize(outcome: Outcome) -> str:
    facts = [f"{pluralize(outcome.jobs, 'job')} in {outcome.seconds:.1f} s"]
    if outcome.failures:
        facts.append(f"{outcome.failures} failed")
    for times, by in ((outcome.requeued, "by the job server"), (outcome.resubmitted, "by the client")):
        if times:
            facts.append(f"{pluralize(times, 'retry', 'retries')} {by}")
    if not outcome.requeued + outcome.resubmitted:
        facts.append("no retries")
    facts.append(f"{outcome.jobs / outcome.seconds:,.0f} jobs per second")
    return ", ".join(facts)
