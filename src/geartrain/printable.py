"""Escapes text from the network for logs, error messages and terminals."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["printable"]


def printable(data: bytes | str, limit: int | None = 200, *, keep: str = "") -> str:
    r"""
    Escape unprintable characters, and truncate long text.

    Control characters, terminal escapes, line breaks, directional overrides and surrogates become ``\n``, ``\x1b``,
    ``\u202e``; bytes that are not UTF-8 become ``\xff``. A backslash stays as it is.

    Args:
        data: Text, or bytes that may be UTF-8.
        limit: Maximum number of characters before a note such as ``... [5000000 bytes]``; ``None`` for no limit.
            No more of ``data`` is read than that takes.
        keep: Characters to leave as they are, such as ``"\n\t"`` for text with several lines.
    """
    # A character takes at most four bytes in UTF-8.
    head = data if limit is None else data[: limit + 1 if isinstance(data, str) else 4 * limit + 4]
    text = head if isinstance(head, str) else head.decode("utf-8", "surrogateescape")
    if not text.isprintable():
        text = "".join([c if c.isprintable() or c in keep else _escape(c) for c in text])
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}... [{len(data)} {'characters' if isinstance(data, str) else 'bytes'}]"


@lru_cache(maxsize=256)  # a peer may send only such characters
def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that "surrogateescape" kept
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
