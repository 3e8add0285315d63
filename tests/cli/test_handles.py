from __future__ import annotations

import click
import pytest

from geartrain.cli.handles import format_handle, parse_handle
from geartrain.handle import JobHandle

HANDLES = ["H:host:1", "a b", "a\nb", "\x1b[31m", "\udcff", "a\tb", "//", "/x", "a//b", "job:a/b/c", "-", "\N{SNOWMAN}"]


@pytest.mark.parametrize("name", HANDLES)
@pytest.mark.parametrize("server", ["127.0.0.1:4730", "[::1]:4730", "gearmans://host:4730"])
def test_every_printed_handle_can_be_parsed_again(server: str, name: str) -> None:
    handle = JobHandle(server, name)
    text = format_handle(handle)
    assert text.isprintable()
    assert parse_handle(text, ["other", "servers"]) == handle


@pytest.mark.parametrize("name", HANDLES)
def test_a_token_is_parsed_as_a_handle(name: str) -> None:
    handle = JobHandle("127.0.0.1:4730", name, "f", "unique")
    assert parse_handle(handle.token(), ["other", "servers"]) == handle


def test_a_bare_handle_belongs_to_the_only_job_server() -> None:
    assert parse_handle("H:host:1", ["a:4730"]) == JobHandle("a:4730", "H:host:1")
    with pytest.raises(click.UsageError, match="a:4730//H:host:1"):
        parse_handle("H:host:1", ["a:4730", "b:4730"])


@pytest.mark.parametrize("text", ["", "a//", "//x", "job://f/u", "job:a//f/u", "a:b:c//x", "x" * 70, "a\0b"])
def test_an_invalid_handle_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError):
        parse_handle(text, ["a:4730"])
