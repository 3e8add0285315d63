"""Text from the network is made safe for logs, error messages and terminals."""

from __future__ import annotations

import unicodedata

import pytest

from geartrain.printable import printable

pytestmark = pytest.mark.untraced


@pytest.mark.parametrize("text", ["", "reverse", "H:host:1", "Größe ✓ 東京", "C:\\path", 'it\'s "quoted"'])
def test_printable_text_is_unchanged(text: str) -> None:
    assert printable(text) == printable(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x9b31m", r"\x9b31m"),  # CSI in one character
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\u2028", r"\u2028"),
        ("\x7f\0", r"\x7f\x00"),
        ("\ufeff", r"\ufeff"),
        ("\U000e0041", r"\U000e0041"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("\udcff", r"\xff"),  # the same byte, kept by "surrogateescape"
        ("\ud800", r"\ud800"),
    ],
)
def test_unprintable_characters_are_escaped(data: bytes | str, shown: str) -> None:
    assert printable(data) == shown


@pytest.mark.parametrize("encode", [False, True])
def test_no_character_that_could_control_a_terminal_remains(encode: bool) -> None:
    everything = "".join(map(chr, range(0x110000)))
    shown = printable(everything.encode("utf-8", "surrogatepass") if encode else everything, None)
    assert not {c for c in set(shown) if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}
    assert shown.encode("utf-8")


@pytest.mark.parametrize("data", ["a" * 1_000_000, "\n" * 1_000_000, "東" * 1_000_000, "\U000e0041" * 1_000_000])
@pytest.mark.parametrize("encode", [False, True])
def test_long_text_is_shortened_to_the_limit_and_followed_by_its_length(data: str, encode: bool) -> None:
    shown = printable(data.encode() if encode else data, 50)
    head, note = shown[:50], shown[50:]
    assert head == printable(data[:50])[:50]
    assert note == (f"... [{len(data.encode())} bytes]" if encode else "... [1000000 characters]")


def test_text_as_long_as_the_limit_is_not_shortened() -> None:
    assert printable("a" * 200) == printable(b"a" * 200) == "a" * 200
    assert printable("東" * 200) == printable(("東" * 200).encode()) == "東" * 200
    assert printable(b"a" * 201) == "a" * 200 + "... [201 bytes]"


def test_whole_texts_keep_chosen_characters_and_have_no_limit() -> None:
    assert printable("a\tb\n\x1b\r" * 100, None, keep="\n\t") == "a\tb\n\\x1b\\r" * 100
