"""The commands, and what becomes of their errors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, cast

import click

from geartrain.cli.console import print_error
from geartrain.cli.exit_status import FAILED, INTERRUPTED, NO_SERVER, USAGE_ERROR
from geartrain.cli.messages import describe_error
from geartrain.errors import GearmanError, LocalProtocolError, NoServersError, ServerTimeoutError
from geartrain.version import __version__

__all__ = ["run"]

# The first that fits decides the exit status.
_STATUSES: Final = (
    (NoServersError, NO_SERVER),
    (ServerTimeoutError, NO_SERVER),
    (LocalProtocolError, USAGE_ERROR),
    (GearmanError, FAILED),
)


# In the order in which they are shown: the command, and the module that has it under its own name.
_COMMANDS: Final = {
    "submit": "submit",
    "worker": "worker",
    "status": "status",
    "job": "job",
    "workers": "inspect",
    "jobs": "inspect",
    "cancel": "manage",
    "maxqueue": "manage",
    "create": "manage",
    "drop": "manage",
    "ping": "inspect",
    "version": "inspect",
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


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geartrain")
@click.pass_context
def app(context: click.Context) -> None:
    """Gearman from the command line: submit jobs, run workers, look after job servers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE_ERROR)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, say in one sentence what goes wrong, and return the exit status."""
    # Commands report errors themselves; without a handler Python would print the warnings as well. A command that shows
    # logs adds a handler to the root logger.
    logging.getLogger("geartrain").addHandler(logging.NullHandler())
    try:
        status = app.main(arguments, prog_name="geartrain", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        print_error(f"{context.command_path if context else 'geartrain'}: {error.format_message()}")
        return error.exit_code
    except GearmanError as error:
        print_error(f"geartrain: {describe_error(error)}")
        return next(status for kind, status in _STATUSES if isinstance(error, kind))
    return int(status or 0)
