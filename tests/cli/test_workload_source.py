from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from geartrain.cli.workload_source import split_stream


async def split(*chunks: bytes, keep_separator: bool = False, max_size: int | None = None) -> list[bytes]:
    async def stream() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    parts = split_stream(stream(), b"\n", keep_separator=keep_separator, max_size=max_size)
    return [part async for part in parts]


@pytest.mark.parametrize("size", range(1, 11))
async def test_parts_do_not_depend_on_the_chunks(size: int) -> None:
    data = b"ab\n\ncde\nf"
    chunks = [data[begin : begin + size] for begin in range(0, len(data), size)]
    assert await split(*chunks) == [b"ab", b"", b"cde", b"f"]
    assert await split(*chunks, keep_separator=True) == [b"ab\n", b"\n", b"cde\n", b"f"]


async def test_a_part_that_is_too_long_is_cut_off_and_the_next_one_is_complete() -> None:
    assert await split(b"abc", b"def", b"ghi", b"j\nk", b"lm", b"\n", max_size=4) == [b"abcdef", b"klm"]
    assert await split(b"abc", b"def", b"ghi", max_size=4) == [b"abcdef"]
    assert await split(b"abc", b"d\nefg", max_size=4) == [b"abcd", b"efg"]
