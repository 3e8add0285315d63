"""The commands, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

import click

import geartrain
from geartrain.cli.commands.demo import demo
from geartrain.cli.console import silence_output
from geartrain.cli.exits import BROKEN_PIPE, FAILED, INTERRUPTED, NO_SERVER, WRONG_USE
from geartrain.cli.words import explain
from geartrain.errors import GearmanError, LocalProtocolError, NoServersError, ServerTimeoutError

__all__ = ["run"]

# The first that fits decides the exit status.
_STATUSES: Final = (
    (NoServersError, NO_SERVER),
    (ServerTimeoutError, NO_SERVER),
    (LocalProtocolError, WRONG_USE),
    (GearmanError, FAILED),
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(geartrain.__version__, prog_name="geartrain")
@click.pass_context
def app(context: click.Context) -> None:
    """Gearman from the command line: submit jobs, run workers, look after job servers."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(WRONG_USE)


app.add_command(demo)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, say in one sentence what goes wrong, and return the exit status."""
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


def _complain(words: str, error: click.ClickException | None = None) -> None:
    context = getattr(error, "ctx", None)
    click.echo(f"{context.command_path if context else 'geartrain'}: {words}", err=True)
