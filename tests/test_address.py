from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain import Admin, AdminGroup, Client, Worker, blocking
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
def test_an_address_is_parsed_and_formatted(text: str, address: Address, canonical: str) -> None:
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
def test_an_invalid_address_raises_an_error_with_the_address(text: str) -> None:
    with pytest.raises(ValueError, match="a job server's") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


def test_a_list_keeps_its_order_and_drops_duplicates() -> None:
    assert parse_addresses(["b", "a:4730", "b:4730", "a"]) == (Address("b"), Address("a"))
    assert parse_addresses("b") == (Address("b"),)
    with pytest.raises(TypeError, match="got 4730"):
        parse_addresses([4730])  # type: ignore[list-item]
    for wrong in (None, 4730, b"a:4730"):
        with pytest.raises(TypeError, match="job servers must be strings like 'localhost:4730', got"):
            parse_addresses(wrong)  # type: ignore[arg-type]  # the wrong type is the point


@pytest.mark.parametrize(
    ("spellings", "canonical"),
    [
        (("LOCALHOST", "localhost", "gearman://LocalHost:4730", "GEARMAN://localhost"), "localhost:4730"),
        (("localhost.", "LOCALHOST."), "localhost.:4730"),
        (("::1", "[::1]", "0:0:0:0:0:0:0:1", "[0000::0001]:4730"), "[::1]:4730"),
        (("::ffff:127.0.0.1", "[::FFFF:7f00:1]"), "[::ffff:127.0.0.1]:4730"),
        (("fe80::1%eth0", "[FE80:0::1%eth0]"), "[fe80::1%eth0]:4730"),
        (("a::", "ａ::０", "０a:０::"), "[a::]:4730"),  # getaddrinfo accepts full-width digits
        (("127.0.0.1", "１２７.0。0.1"), "127.0.0.1:4730"),
        (("bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--bcher-kva.EXAMPLE"), "bücher.example:4730"),
    ],
)
def test_spellings_of_one_address_are_equal(spellings: tuple[str, ...], canonical: str) -> None:
    assert {str(Address.parse(text)) for text in spellings} == {canonical}
    assert len({Address.parse(text) for text in spellings}) == 1


def test_the_names_of_network_interfaces_differ_by_case() -> None:
    assert Address.parse("fe80::1%ETH0") != Address.parse("fe80::1%eth0")


@pytest.mark.untraced
@given(st.text(max_size=40) | st.from_regex(r"\A[\w.:%\[\]-]{1,30}\Z") | st.text("0０①²aａ:%é\xad.", max_size=12))
def test_a_formatted_address_parses_to_the_same_address(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("name", ["a\0b", "a\x1bb", "\udcff", "fe80::1%", "fe80::1%a b"])
def test_unprintable_characters_and_empty_scopes_are_invalid(name: str) -> None:
    with pytest.raises(ValueError, match="a job server's address"):
        Address.parse(name)


@pytest.mark.parametrize(
    "text",
    [
        *("a..b", ".a", ".", "..", "a..", "1..2", "a" * 64, "a" * 300, "b." + "a" * 64 + ".c:4730", "ü" * 70),
        *("bücher..example", "a。。b", "xn--ü", "gearmans://a..b"),
    ],
)
def test_a_name_that_cannot_be_looked_up_is_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="a job server's host must be a name with labels of 1 to 63") as caught:
        Address.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "localhost.",
            "LOCALHOST",
            "_gearman._tcp.example",
            "a_b",
            "-a-",
            "1.2.3",
            "0x7f.1",
            "xn--a",
            "a%b",
            "a" * 63,
        ),
        *(".".join(["a" * 63] * 5), "fe80::1%" + "e" * 300, "[fe80::1%a..b]:1", "bücher.example.", "ß", "a。b"),
    ],
)
def test_a_name_that_can_be_looked_up_is_valid(text: str) -> None:
    host = Address.parse(text).host
    if ":" not in host:  # IPv6 addresses are not encoded
        host.encode("idna")


@given(st.text(st.sampled_from("aA1-_.%*ü。ß"), min_size=1, max_size=12))
def test_exactly_the_names_that_can_be_encoded_are_valid(text: str) -> None:
    try:
        text.encode("idna")
    except UnicodeError:
        with pytest.raises(ValueError, match="a job server's host"):
            Address.parse(text)
    else:
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", ("127.0.0.1:4730",)),
        (" , ", ("127.0.0.1:4730",)),
        ("a", ("a:4730",)),
        ("a:1, gearmans://b ,a:1", ("a:1", "gearmans://b:4730")),
    ],
)
def test_the_default_servers_are_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str, servers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", text)
    assert Client().job_servers == Worker().job_servers == tuple(AdminGroup().admins) == servers
    assert Admin().job_server == servers[0]
    assert blocking.Client().job_servers == blocking.Worker().job_servers == servers
    assert tuple(blocking.AdminGroup().admins) == servers
    assert blocking.Admin().job_server == servers[0]


@pytest.mark.parametrize("create", [Client, Worker, Admin, AdminGroup, blocking.Client, blocking.Admin])
def test_a_wrong_address_in_the_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, create: Callable[[], object]
) -> None:
    monkeypatch.setenv("GEARMAN_SERVERS", "a:b:c")
    with pytest.raises(ValueError, match=r"GEARMAN_SERVERS='a:b:c': .*got 'a:b:c'"):
        create()
