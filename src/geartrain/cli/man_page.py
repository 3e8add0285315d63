"""Writes the manual page, from what ``--help`` prints."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from geartrain.cli.example_command import ExampleCommand
from geartrain.version import __version__

__all__ = ["format_man_page"]


def format_man_page(context: click.Context) -> str:
    """Return the manual page of a group of commands in the language of troff, with the macros of ``man``."""
    return "\n".join(_format_group(context)) + "\n"


def _format_group(context: click.Context) -> Iterator[str]:
    group = context.command
    assert isinstance(group, click.Group), "the page describes a group"
    name = context.command_path
    yield f'.TH {name.upper()} 1 "" "{name} {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"{name} \\- {_escape(_first_paragraph(group)).removesuffix('.')}"
    yield ".SH SYNOPSIS"
    yield f".B {name}"
    yield _escape(" ".join(group.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    yield from _format_text(group.help or "")
    yield from _format_options(context)
    yield ".SH COMMANDS"
    for each in group.list_commands(context):
        command = group.get_command(context, each)
        assert command is not None, "it is in the list"
        yield from _format_command(click.Context(command, context, each))
    yield ".SH EXIT STATUS"
    yield from _format_text(group.epilog or "")


def _format_command(context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *context.command.collect_usage_pieces(context)])
    yield f'.SS "{_escape(usage)}"'
    yield from _format_text(context.command.help or "")
    yield from _format_options(context)
    if isinstance(context.command, ExampleCommand):
        yield ".PP"
        yield "Examples:"
        yield ".PP"
        yield ".RS 4"
        yield ".nf"
        yield from map(_escape, context.command.examples)
        yield ".fi"
        yield ".RE"


def _format_options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)) is not None:
            names, text = record
            yield ".TP"
            yield f"\\fB{_escape(names)}\\fR"
            yield _escape(" ".join(text.split()))


def _format_text(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text))):
        if number:
            yield ".PP"
        yield _escape(" ".join(paragraph.split()))


def _first_paragraph(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\n\n")[0]


def _escape(text: str) -> str:
    r"""Escape what troff would interpret: a backslash, a hyphen that is to be copied, and the start of a request."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    return f"\\&{text}" if text.startswith((".", "'")) else text
