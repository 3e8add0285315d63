"""Handles: their attributes, their texts, and parsing."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain import JobHandle
from geartrain.handle import names_server

HANDLES = [
    JobHandle("127.0.0.1:4730", "H:host:1"),
    JobHandle("127.0.0.1:4730", "H:host:1", "f", "u"),
    JobHandle("127.0.0.1:4730", "H:host:1", "f", ""),
    JobHandle("127.0.0.1:4730", "H:host:1", "f"),
    JobHandle("127.0.0.1:4730", "H:host:1", None, "u"),
    JobHandle("127.0.0.1:4730", "-", "-", "-"),
    JobHandle("[::1]:4730", "H:host:1", "a function", "job:/\n\t %2F?&#\\"),
    JobHandle("gearmans://host:4730", "H//x//1", "path//to//f", "//"),
    JobHandle("host:4730", "H:ünïcode:1", "\udcff\u4e2d", "\udc80"),
]


@pytest.mark.parametrize("handle", HANDLES, ids=repr)
def test_a_token_contains_all_attributes_of_the_handle(handle: JobHandle) -> None:
    token = handle.token()
    assert tuple(JobHandle.parse(token)) == tuple(handle)
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token


# Invalid UTF-8 becomes surrogates, as Python decodes it.
TEXT = st.binary(min_size=1).map(lambda data: data.decode("utf-8", "surrogateescape"))


@given(TEXT, st.none() | TEXT, st.none() | st.just("") | TEXT)
def test_any_bytes_survive_in_a_token(name: str, function: str | None, unique: str | None) -> None:
    handle = JobHandle("127.0.0.1:4730", name, function, unique)
    assert tuple(JobHandle.parse(handle.token())) == tuple(handle)


def test_the_format_of_a_token() -> None:
    handle = JobHandle("127.0.0.1:4730", "H:lap:1", "index", "Ab3dEf7hIj000001")
    assert handle.token() == "job:127.0.0.1:4730/H:lap:1/index/Ab3dEf7hIj000001"
    assert str(handle) == "127.0.0.1:4730//H:lap:1"
    assert JobHandle.parse(str(handle)).token() == "job:127.0.0.1:4730/H:lap:1/-/-"


def test_a_handle_of_a_job_server_named_job_is_not_a_token() -> None:
    assert tuple(JobHandle.parse("job:4730//H:1")) == ("job:4730", "H:1", None, None)


@pytest.mark.parametrize(
    "text",
    ["job:", "job:host:4730", "job:host:4730/H:1", "job:a/b/c/d/e", "job:/H:1/f/u", "job:host:4730/-/f/u"],
)
def test_an_invalid_token_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="a token of a handle must be written like"):
        JobHandle.parse(text)


@pytest.mark.parametrize("handle", HANDLES, ids=repr)
def test_both_texts_of_a_handle_name_its_server(handle: JobHandle) -> None:
    assert names_server(str(handle))
    assert names_server(handle.token())


@pytest.mark.parametrize("text", ["H:host:1", "", "job", "job:1", "job:host/1", "H/x/1", "job:a/b/c/d/e"])
def test_a_bare_handle_names_no_server(text: str) -> None:
    assert not names_server(text)


def test_handles_are_equal_if_server_and_handle_are_equal() -> None:
    bare, full = HANDLES[:2]
    assert bare == full
    assert (bare != full) is False
    assert hash(bare) == hash(full)
    assert len({bare, full}) == 1
    for other in (JobHandle("127.0.0.1:4731", "H:host:1"), JobHandle("127.0.0.1:4730", "H:host:2")):
        assert bare != other
        assert (bare == other) is False
    assert bare != ("127.0.0.1:4730", "H:host:1")


@pytest.mark.parametrize("handle", HANDLES, ids=repr)
def test_a_handle_can_be_pickled_and_copied(handle: JobHandle) -> None:
    assert tuple(pickle.loads(pickle.dumps(handle))) == tuple(handle)
    assert tuple(copy.deepcopy(handle)) == tuple(handle)


SERVERS = ("10.0.0.1:4730", "gearmans://a.example:1", "[::1]:4730", "[fe80::1%eth0]:4730", "gearman:4730")


@given(
    st.sampled_from(SERVERS), st.text(st.characters(exclude_characters="\0"), min_size=1) | st.text("/:H1", min_size=1)
)
def test_a_formatted_handle_parses_to_the_same_handle(server: str, handle: str) -> None:
    written = JobHandle(server, handle)
    assert JobHandle.parse(str(written)) == written


@pytest.mark.parametrize(
    "text", ["", "H:1", "a:4730", "a:4730//", "//H:1", "gearmans://a", "gearmans://a//", "a b//H:1"]
)
def test_an_invalid_handle_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"a handle must be written like|a job server's"):
        JobHandle.parse(text)


@pytest.mark.parametrize("begin", ["job:", "", "127.0.0.1:4730//"])
def test_an_error_shows_the_beginning_of_a_long_handle(begin: str) -> None:
    with pytest.raises(ValueError, match=r"\.\.\.$") as caught:
        assert JobHandle.parse(begin + "x\x1b[31m" * 100_000).wire
    assert len(str(caught.value)) < 200
