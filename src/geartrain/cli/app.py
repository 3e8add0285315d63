"""The top-level command group and its error handling."""

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

# The first matching class determines the exit status.
_EXIT_STATUSES: Final = (
    (NoServersError, NO_SERVER),
    (ServerTimeoutError, NO_SERVER),
    (LocalProtocolError, USAGE_ERROR),
    (GearmanError, FAILED),
)


# Command -> the module that defines a function of that name, in the order shown by --help.
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


class _LazyGroup(click.Group):
    """Imports only the command that is run, so that each starts quickly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"geartrain.cli.commands.{_COMMANDS[cmd_name]}")
        return cast(click.Command, getattr(module, cmd_name))


@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="geartrain")
@click.pass_context
def app(context: click.Context) -> None:
    """Submit Gearman jobs, run workers, and inspect and manage job servers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(USAGE_ERROR)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command, report any error in one sentence, and return the exit status."""
    # Commands report errors themselves. Without a handler, Python would also print logged warnings. Commands that show
    # logs add a handler to the root logger.
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
        return next(status for kind, status in _EXIT_STATUSES if isinstance(error, kind))
    return int(status or 0)
