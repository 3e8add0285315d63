"""The command ``geartrain``. It requires click and rich, which ``pip install geartrain[cli]`` installs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command given on the command line and exit with its status."""
    # Signal handling must work from the start, so this runs before the slower imports.
    from geartrain.cli.init_process import fork_from_init_process, reset_signals

    reset_signals()
    fork_from_init_process()

    import sys

    from geartrain.cli.exit_status import USAGE_ERROR
    from geartrain.cli.streams import prepare_streams

    prepare_streams()
    try:
        from geartrain.cli.app import run

        status = run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write("geartrain: the command line requires click and rich: pip install 'geartrain[cli]'\n")
        sys.exit(USAGE_ERROR)
    sys.exit(status)
