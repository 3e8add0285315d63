"""How the body of a submission begins, by function."""

from __future__ import annotations

from typing import Final

from geartrain.validation import MAX_FUNCTION, shorten

__all__ = ["SubmitPrefixes"]

_MAX_KEPT: Final = 10_000  # names that are made up for each task must not pile up


class SubmitPrefixes(dict[str, bytes]):
    r"""
    The first bytes of submissions by function, computed on first use: the client's prefix, the function, ``ending``.

    Args:
        prefix: The client's prefix with its separator.
        ending: One NUL, or two where an empty unique follows.
    """

    def __init__(self, prefix: bytes, ending: bytes) -> None:
        super().__init__()
        self._prefix = prefix
        self._ending = ending

    def __missing__(self, function: str) -> bytes:
        """
        Encode a function's name.

        Raises:
            ValueError: If it is longer with the prefix than Gearman carries.
        """
        name = self._prefix + function.encode("utf-8", "surrogateescape")
        if len(name) > MAX_FUNCTION:
            raise ValueError(
                f"a function must have at most {MAX_FUNCTION} bytes with its prefix, got {len(name)}: {shorten(name)}"
            )
        if len(self) >= _MAX_KEPT:
            self.clear()
        encoded = self[function] = name + self._ending
        return encoded
