"""The command line ``geartrain``. It needs click and rich, which the extra ``geartrain[cli]`` installs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command that the arguments name, and exit with its status."""
    # Before any other import: they take time, and signals have to work from the beginning.
    from geartrain.cli.init_process import fork_from_init_process, reset_signals

    reset_signals()
    fork_from_init_process()

    import sys

    from geartrain.cli.exit_status import USAGE_ERROR
    from geartrain.cli.streams import prepare_streams

    prepare_streams()
    try:
        from geartrain.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write("geartrain: the command line needs click and rich: pip install 'geartrain[cli]'\n")
        sys.exit(USAGE_ERROR)
    sys.exit(run())
