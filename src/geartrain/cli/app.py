"""The top-level command group and its error handling."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, cast

import click
from click.shell_completion import CompletionItem

from geartrain.cli.console import print_error
from geartrain.cli.exit_status import FAILED, INTERRUPTED, NO_SERVER, USAGE_ERROR
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


# Command -> the module that defines a function of that name, and a description, in the order shown by --help.
_COMMANDS: Final = {
    "submit": ("submit", "Submit jobs and print their results."),
    "worker": ("worker", "Run a command for each job, or a Python worker."),
    "status": ("status", "Show functions with their jobs and workers."),
    "job": ("job", "Show the status and progress of a job."),
    "workers": ("inspect", "List workers and other connections."),
    "jobs": ("inspect", "List queued and running jobs."),
    "cancel": ("job", "Cancel queued jobs."),
    "maxqueue": ("manage", "Limit the queue of a function."),
    "create": ("manage", "Create a function on the job servers."),
    "drop": ("manage", "Remove a function from the job servers."),
    "ping": ("ping", "Measure the response time of the job servers."),
    "version": ("inspect", "Show the versions of the job servers."),
    "exporter": ("exporter", "Serve the metrics of job servers to Prometheus."),
    "serve": ("serve", "Run a job server, for development."),
    "demo": ("demo", "Demonstrate Gearman: count words while a worker is killed."),
}


class _LazyGroup(click.Group):
    """Imports only the command that is run. The list of commands, also for shells, needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _ = _COMMANDS[cmd_name]
        return cast(click.Command, getattr(import_module(f"geartrain.cli.commands.{module}"), cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, description) for name, (_, description) in _COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        commands = [
            CompletionItem(name, help=description)
            for name, (_, description) in _COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return commands + click.Command.shell_complete(self, ctx, incomplete)


def _print_man_page(context: click.Context, parameter: click.Parameter, is_given: bool) -> None:
    if is_given and not context.resilient_parsing:
        from geartrain.cli.man_page import format_man_page

        click.echo(format_man_page(context), nl=False)
        context.exit()


@click.group(
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog="The exit status is 0 for success, 1 if a job failed or a job server rejected a request, "
    "2 for a usage error, 3 if a job server could not be reached, and 128 + n after signal n.",
)
@click.version_option(__version__, prog_name="geartrain")
@click.option(
    "--man-page",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_man_page,
    help="Print the manual page and exit; `geartrain --man-page | man -l -` shows it.",
)
@click.pass_context
def app(context: click.Context) -> None:
    """
    Submit Gearman jobs, run workers, and inspect and manage job servers.

    `geartrain COMMAND --help` describes a command, with examples.
    """
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
        from geartrain.cli.messages import describe_error  # imports ssl

        print_error(f"geartrain: {describe_error(error)}")
        return next(status for kind, status in _EXIT_STATUSES if isinstance(error, kind))
    return int(status or 0)
