"""What runs at the start and at the end of each process of a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

__all__ = ["NO_HOOKS", "STOP_WITHIN", "ProcessHook", "ProcessHooks"]

STOP_WITHIN: Final = 5.0  # seconds after which a process that is in on_process_stop is killed

ProcessHook = Callable[[], object]


class ProcessHooks(NamedTuple):
    """
    Called without arguments in each process.

    Attributes:
        start: Called before the first job.
        stop: Called when the process ends by itself, if ``start`` has succeeded.
    """

    start: ProcessHook | None = None
    stop: ProcessHook | None = None

    def map(self, change: Callable[[ProcessHook], Any]) -> ProcessHooks:
        """Return hooks with each one changed."""
        return ProcessHooks(*(None if hook is None else change(hook) for hook in self))

    def check_picklable(self) -> None:
        """
        Check that the hooks can be sent to processes.

        Raises:
            TypeError: If one of them cannot be pickled.
        """
        if not any(self):
            return
        import pickle  # few workers need it

        for name, hook in self._asdict().items():
            try:
                pickle.dumps(hook)
            except Exception as error:
                raise TypeError(
                    f"on_process_{name} runs in processes, so it has to be a function that a module has by name: "
                    f"{error}"
                ) from error


NO_HOOKS: Final = ProcessHooks()
