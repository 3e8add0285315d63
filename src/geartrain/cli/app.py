"""The commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Final, cast

import click

from geartrain.cli.console import silence_output
from geartrain.cli.exits import BROKEN_PIPE, FAILED, INTERRUPTED, NO_SERVER, WRONG_USE
from geartrain.cli.words import explain
from geartrain.errors import GearmanError, LocalProtocolError, NoServersError, ServerTimeoutError
from geartrain.version import __version__

__all__ = ["run"]

# The first that fits decides the exit status.
_STATUSES: Final = (
    (NoServersError, NO_SERVER),
    (ServerTimeoutError, NO_SERVER),
    (LocalProtocolError, WRONG_USE),
    (GearmanError, FAILED),
)


# In the order in which they are shown: the command, and the module that has it under its own name.
_COMMANDS: Final = {
    "submit": "submit",
    "worker": "worker",
    "status": "status",
    "job": "job",
    "workers": "looking",
    "jobs": "looking",
    "cancel": "setting",
    "maxqueue": "setting",
    "create": "setting",
    "drop": "setting",
    "ping": "looking",
    "version": "looking",
    "serve": "serve",
    "demo": "demo",
}


class _Commands(click.Group):
    """Imports a command when it is named: each is quick to start, whatever the others need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"geartrain.cli.commands.{_COMMANDS[cmd_name]}")
        return cast(click.Command, getattr(module, cmd_name))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # before click takes it for a failure
            silence_output()
            return BROKEN_PIPE


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geartrain")
@click.pass_context
def app(context: click.Context) -> None:
    """Gearman from the command line: submit jobs, run workers, look after job servers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(WRONG_USE)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, say in one sentence what goes wrong, and return the exit status."""
    _prepare_output()
    try:
        status = app.main(arguments, prog_name="geartrain", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        silence_output()
        return BROKEN_PIPE
    except click.ClickException as error:
        _complain(error.format_message(), error)
        return error.exit_code
    except GearmanError as error:
        _complain(explain(error))
        return next(status for kind, status in _STATUSES if isinstance(error, kind))
    return int(status or 0)


def _prepare_output() -> None:
    if sys.stdout is None:  # closed by whoever started us
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  # as Python's own one is, and until the end
    # A name that standard output has no letters for is no reason to fail.
    cast(TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")


def _complain(words: str, error: click.ClickException | None = None) -> None:
    context = getattr(error, "ctx", None)
    click.echo(f"{context.command_path if context else 'geartrain'}: {words}", err=True)
