import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.address import Address, parse_addresses


@pytest.mark.parametrize(
    ("text", "address", "canonical"),
    [
        ("localhost", Address("localhost"), "localhost:4730"),
        ("10.0.0.1:7003", Address("10.0.0.1", 7003), "10.0.0.1:7003"),
        ("::1", Address("::1"), "[::1]:4730"),
        ("[::1]", Address("::1"), "[::1]:4730"),
        ("[fe80::1%eth0]:99", Address("fe80::1%eth0", 99), "[fe80::1%eth0]:99"),
        ("gearman://a:1", Address("a", 1), "a:1"),
        ("gearmans://a", Address("a", 4730, True), "gearmans://a:4730"),
    ],
)
def test_an_address_is_read_and_written(text: str, address: Address, canonical: str) -> None:
    assert Address.parse(text) == address
    assert str(address) == canonical
    assert Address.parse(canonical) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":4730", "a:", "a:0", "a:65536", "a:1e3", "a:٣", "http://a", "a b", "a/b", "[::1]x", "[]:1"),
        *("a:999999999999", "a:000019999999", "[::1", "::1]", "[a]:1", "a:1:2", "a:1,b:2", "a,b"),
    ],
)
def test_what_is_no_address_is_one_clear_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="a job server's") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


def test_a_list_keeps_its_order_and_drops_repetitions() -> None:
    assert parse_addresses(["b", "a:4730", "b:4730", "a"]) == (Address("b"), Address("a"))
    assert parse_addresses("b") == (Address("b"),)
    with pytest.raises(TypeError, match="got 4730"):
        parse_addresses([4730])  # type: ignore[list-item]
    for wrong in (None, 4730, b"a:4730"):
        with pytest.raises(TypeError, match="job servers are strings like 'localhost:4730', got"):
            parse_addresses(wrong)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (("LOCALHOST", "localhost", "gearman://LocalHost:4730", "GEARMAN://localhost"), "localhost:4730"),
        (("localhost.", "LOCALHOST."), "localhost.:4730"),
        (("::1", "[::1]", "0:0:0:0:0:0:0:1", "[0000::0001]:4730"), "[::1]:4730"),
        (("::ffff:127.0.0.1", "[::FFFF:7f00:1]"), "[::ffff:127.0.0.1]:4730"),
        (("fe80::1%eth0", "[FE80:0::1%eth0]"), "[fe80::1%eth0]:4730"),
        (("bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--bcher-kva.EXAMPLE"), "bücher.example:4730"),
    ],
)
def test_spellings_of_one_address_are_equal(spellings: tuple[str, ...], canonical: str) -> None:
    assert {str(Address.parse(text)) for text in spellings} == {canonical}
    assert len({Address.parse(text) for text in spellings}) == 1


def test_the_names_of_network_interfaces_differ_by_case() -> None:
    assert Address.parse("fe80::1%ETH0") != Address.parse("fe80::1%eth0")


@given(st.text(max_size=40) | st.from_regex(r"\A[\w.:%\[\]-]{1,30}\Z"))
def test_whatever_is_an_address_is_the_same_when_it_is_read_again(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("name", ["a\0b", "a\x1bb", "\udcff", "fe80::1%", "fe80::1%a b"])
def test_what_cannot_be_printed_or_looked_up_is_no_address(name: str) -> None:
    with pytest.raises(ValueError, match="a job server's address"):
        Address.parse(name)
