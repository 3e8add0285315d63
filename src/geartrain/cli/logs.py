"""Log output on standard error, and the options for it."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from geartrain.log_format import JsonFormatter, TextFormatter

__all__ = ["LogOptions", "configure_logging", "log_options", "verbose_option"]

F = TypeVar("F", bound=Callable[..., Any])

_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_VERBOSE: Final = (logging.WARNING, logging.INFO, logging.DEBUG)
_READERS: Final = {".json": "json", ".toml": "tomllib"}  # the modules that read them


def verbose_option(command: F) -> F:
    """Add the option ``-v``, which passes ``verbose``, the number of times it was given, to a command."""
    return click.option(
        "-v", "--verbose", count=True, show_default=False, help="Log connections; if repeated, every packet."
    )(command)


def configure_logging(verbose: int) -> None:
    """Log to standard error, unless the root logger already has handlers."""
    _add_handler(TextFormatter())
    logging.getLogger("geartrain").setLevel(_VERBOSE[min(verbose, 2)])


@dataclass(frozen=True)
class LogOptions:
    """
    What a worker logs.

    Attributes:
        own_level: The level of geartrain's loggers.
        level: The level of all others.
        as_json: Log JSON instead of text.
        configuration: For :func:`logging.config.dictConfig`, which then replaces all of these.
        arguments: The command-line arguments that say this.
    """

    own_level: int
    level: int
    as_json: bool
    configuration: dict[str, Any] | None
    arguments: tuple[str, ...]

    def apply(self, *, tracebacks: bool = True) -> None:
        """
        Configure logging, unless the root logger already has handlers.

        Args:
            tracebacks: Show tracebacks, not just exception messages. When a user's command fails, a traceback would
                only show geartrain's code.

        Raises:
            click.UsageError: If the configuration is invalid.
        """
        if self.configuration is None:
            _add_handler(JsonFormatter() if self.as_json else TextFormatter(tracebacks=tracebacks))
            logging.getLogger().setLevel(self.level)
            logging.getLogger("geartrain").setLevel(self.own_level)
            return
        from logging import config  # slow to import

        try:
            # By default it would disable the loggers that exist already, which includes geartrain's.
            config.dictConfig({"disable_existing_loggers": False, **self.configuration})
        except (ValueError, TypeError, AttributeError, ImportError) as error:
            reason = f"{error}: {error.__cause__}" if error.__cause__ else error
            raise click.UsageError(f"invalid --log-config: {reason}") from error


def log_options(command: F) -> F:
    """Add the options for logs to a command, which gets them as ``logs``, a :class:`LogOptions`."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        names = ("verbose", "quiet", "log_level", "log_format", "log_config")
        logs = _read_options(*(options.pop(name) for name in names))
        return command(*arguments, logs=logs, **options)

    options = (
        click.option("-q", "--quiet", is_flag=True, help="Log only warnings and errors."),
        click.option(
            "-v",
            "--verbose",
            count=True,
            show_default=False,
            help="Log INFO of all loggers; if repeated, DEBUG: every packet.",
        ),
        click.option(
            "--log-level",
            type=click.Choice(_LEVELS, case_sensitive=False),
            help="Log this level of all loggers. Defaults to info for geartrain's, and to warning for others.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(("text", "json")),
            default="text",
            show_default=True,
            help="Log lines of text, or JSON objects with all structured fields.",
        ),
        click.option(
            "--log-config",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Configure logging by FILE (.json or .toml) for logging.config.dictConfig. Defaults to no file.",
        ),
    )
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), run)  # type: ignore[return-value]


def _read_options(
    verbose: int, quiet: bool, log_level: str | None, log_format: str, log_config: Path | None
) -> LogOptions:
    given = {
        "--quiet": quiet,
        "--verbose": verbose,
        "--log-level": log_level is not None,
        "--log-config": log_config is not None,
    }
    names = [name for name, is_given in given.items() if is_given]
    if log_config is not None and log_format != "text":
        names.append("--log-format")
    if len(names) > 1:
        raise click.UsageError(f"{names[0]} and {names[1]} exclude each other")
    own_level, level = logging.INFO, logging.WARNING
    if quiet:
        own_level = logging.WARNING
    elif verbose:
        own_level = level = _VERBOSE[min(verbose, 2)]
    elif log_level is not None:
        own_level = level = logging.getLevelNamesMapping()[log_level.upper()]
    arguments = ["--quiet"] * quiet + ["-v"] * verbose + [f"--log-format={log_format}"] * (log_format != "text")
    if log_level is not None:
        arguments.append(f"--log-level={log_level}")
    if log_config is not None:
        arguments.append(f"--log-config={log_config}")
    configuration = None if log_config is None else _read_configuration(log_config)
    return LogOptions(own_level, level, log_format == "json", configuration, tuple(arguments))


def _read_configuration(path: Path) -> dict[str, Any]:
    module = _READERS.get(path.suffix.lower())
    if module is None:
        raise click.UsageError(f"cannot read {path}: expected a file that ends in .json or .toml")
    try:
        configuration = import_module(module).loads(path.read_text("utf-8"))
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # of both formats, and of UTF-8
        raise click.UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(configuration, dict):
        raise click.UsageError(f"cannot read {path}: expected an object, got {type(configuration).__name__}")
    return {"version": 1, **configuration}


def _add_handler(formatter: logging.Formatter) -> None:
    root = logging.getLogger()
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(formatter)
        root.addHandler(handler)
