import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from geartrain.errors import RemoteProtocolError
from geartrain.protocol import decoder as decoder_module
from geartrain.protocol.decoder import TEXT_LINE, WRONG_MAGIC, Decoder
from geartrain.protocol.long_packet import LONG_PACKET
from geartrain.protocol.packets import HEADER, PACKETS, REQUEST, RESPONSE, PacketType, encode


def one_of_each(magic: int) -> bytes:
    """Return a packet of every type of this direction, with NULs in the arguments that may contain them."""
    stream = b""
    for kind, spec in PACKETS.items():
        if spec.to_server if magic == REQUEST else spec.from_server:
            arguments = [name.encode() for name in spec.arguments]
            if arguments:
                arguments[-1] += b"\0tail\0"
            stream += encode(kind, *arguments, magic=magic)
    return stream


def flat(decoder: Decoder, *chunks: bytes) -> list[tuple[int, bytes]]:
    return [(kind, body) for chunk in chunks for kind, bodies in decoder.feed(chunk) for body in bodies]


def test_the_limit_applies_to_a_packet_that_arrives_in_one_piece() -> None:
    decoder = Decoder(RESPONSE, max_size=3)
    assert decoder.feed(encode(PacketType.ECHO_RES, b"1234", magic=RESPONSE)) == []
    assert "4 bytes" in str(decoder.failure)


def test_a_wrong_magic_is_detected_at_its_first_wrong_byte() -> None:
    decoder = Decoder(RESPONSE)
    for byte in (b"\0", b"R", b"E"):
        decoder.feed(byte)
        assert decoder.failure is None
    decoder.feed(b"X")
    assert decoder.failure is not None


@pytest.mark.parametrize("magic", [REQUEST, RESPONSE])
def test_decoding_does_not_depend_on_how_the_bytes_arrive(magic: int) -> None:
    stream = one_of_each(magic)
    whole = flat(Decoder(magic), stream)
    assert len(whole) > 15
    for step in range(1, len(stream)):
        chunks = (stream[i : i + step] for i in range(0, len(stream), step))
        assert flat(Decoder(magic), *chunks) == whole, f"in chunks of {step}"


def test_text_lines_and_packets_may_alternate_in_any_chunking() -> None:
    stream = (
        b"status\n" + encode(PacketType.ECHO_REQ, b"a\nb") + b"\r\n\n" + encode(PacketType.GRAB_JOB) + b"version\r\n"
    )
    expected = [
        (TEXT_LINE, b"status"),
        (PacketType.ECHO_REQ, b"a\nb"),
        (TEXT_LINE, b"\r"),
        (TEXT_LINE, b""),
        (PacketType.GRAB_JOB, b""),
        (TEXT_LINE, b"version\r"),
    ]
    for step in range(1, len(stream) + 1):
        decoder = Decoder(REQUEST, text=True)
        assert flat(decoder, *(stream[i : i + step] for i in range(0, len(stream), step))) == expected


def test_consecutive_packets_of_one_type_are_one_run() -> None:
    noop, no_job = encode(PacketType.NOOP, magic=RESPONSE), encode(PacketType.NO_JOB, magic=RESPONSE)
    assert Decoder(RESPONSE).feed(noop * 3 + no_job + noop) == [
        (PacketType.NOOP, [b"", b"", b""]),
        (PacketType.NO_JOB, [b""]),
        (PacketType.NOOP, [b""]),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([PacketType.NOOP, PacketType.WORK_COMPLETE, PacketType.JOB_CREATED]),
            st.sampled_from([b"", b"1", b"2", b"\0RES\0\0\0\x06\0\0\0\0", b"a longer one"]),
            st.sampled_from([RESPONSE, RESPONSE, RESPONSE, REQUEST]),
            st.integers(1, 4),
        ),
        max_size=12,
    ),
    st.integers(1, 100),
)
def test_packets_of_equal_and_different_sizes_are_decoded_in_order(
    drawn: list[tuple[PacketType, bytes, int, int]], step: int
) -> None:
    """Consecutive packets of one type and size are decoded on a separate path."""
    packets = [each for kind, body, magic, count in drawn for each in [(kind, body, magic)] * count]
    stream = b"".join(HEADER.pack(magic, kind, len(body)) + body for kind, body, magic in packets)
    expected = [(kind if magic == RESPONSE else WRONG_MAGIC, body) for kind, body, magic in packets]
    assert flat(Decoder(RESPONSE), stream) == expected
    chunks = (stream[i : i + step] for i in range(0, len(stream), step))
    assert flat(Decoder(RESPONSE), *chunks) == expected


LONG_TYPES = (PacketType.WORK_COMPLETE, PacketType.JOB_ASSIGN_UNIQ, PacketType.ECHO_RES)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*LONG_TYPES, PacketType.WORK_FAIL]),
            st.sampled_from([b"", b"short", b"without a NUL but long", b"a\0b\0c\0" + bytes(30), b"h\0" + b"xyz" * 20]),
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 60), max_size=40),
)
def test_long_packets_that_are_split_on_arrival_are_the_same_packets(
    packets: list[tuple[PacketType, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(HEADER.pack(RESPONSE, kind, len(body)) + body for kind, body in packets)
    chunks = []
    for cut in cuts:
        chunks.append(stream[:cut])
        stream = stream[cut:]
    found: list[tuple[int, bytes]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_module, "LONG_PACKET_SIZE", 25)
        decoder = Decoder(RESPONSE, long_types=LONG_TYPES)
        for chunk in (*chunks, stream):
            for kind, bodies in decoder.feed(chunk):
                if kind <= LONG_PACKET:
                    assert len(bodies) == len(PACKETS[PacketType(LONG_PACKET - kind)].arguments)
                    found.append((LONG_PACKET - kind, b"\0".join(bodies)))
                else:
                    found += [(kind, body) for body in bodies]
    assert found == packets
    assert decoder.failure is None
    assert decoder.held == 0


def test_the_data_of_a_long_packet_is_not_copied() -> None:
    size = 16 * 1024 * 1024
    stream = encode(PacketType.WORK_COMPLETE, b"H:1", bytes(size), magic=RESPONSE)
    decoder = Decoder(RESPONSE, long_types={PacketType.WORK_COMPLETE})
    tracemalloc.start()
    try:
        runs = [run for i in range(0, len(stream), 65536) for run in decoder.feed(stream[i : i + 65536])]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert runs == [(LONG_PACKET - PacketType.WORK_COMPLETE, [b"H:1", bytes(size)])]
    assert peak < 1.1 * size


def test_a_long_packet_that_is_only_announced_takes_no_memory() -> None:
    decoder = Decoder(RESPONSE, long_types={PacketType.WORK_COMPLETE})
    tracemalloc.start()
    try:
        decoder.feed(HEADER.pack(RESPONSE, PacketType.WORK_COMPLETE, 60_000_000) + b"H:1\0" + bytes(100_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_packet_that_is_too_long_fails_before_its_body_arrives() -> None:
    decoder = Decoder(RESPONSE, max_size=100)
    good = encode(PacketType.ECHO_RES, b"x" * 100, magic=RESPONSE)
    assert flat(decoder, good + HEADER.pack(RESPONSE, PacketType.ECHO_RES, 101)) == [(PacketType.ECHO_RES, b"x" * 100)]
    assert isinstance(decoder.failure, RemoteProtocolError)
    assert "101 bytes" in str(decoder.failure)
    assert decoder.feed(good) == []


@pytest.mark.parametrize("garbage", [b"H", b"\0REX", b"\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n"])
def test_garbage_fails_as_soon_as_it_cannot_become_a_packet(garbage: bytes) -> None:
    decoder = Decoder(RESPONSE)
    assert decoder.feed(encode(PacketType.NOOP, magic=RESPONSE) + garbage) == [(PacketType.NOOP, [b""])]
    assert isinstance(decoder.failure, RemoteProtocolError)


def test_the_magic_of_the_other_direction_is_distinguished() -> None:
    decoder = Decoder(REQUEST)
    stream = encode(PacketType.NOOP, magic=RESPONSE) + encode(PacketType.GRAB_JOB)
    assert flat(decoder, stream) == [(WRONG_MAGIC, b""), (PacketType.GRAB_JOB, b"")]
    assert decoder.failure is None


def test_an_endless_line_of_text_fails() -> None:
    decoder = Decoder(REQUEST, text=True)
    for _ in range(8191):
        assert decoder.feed(b"x") == []
        assert decoder.failure is None
    decoder.feed(b"x")
    assert "8191" in str(decoder.failure)


def test_lines_before_one_that_is_too_long_count() -> None:
    decoder = Decoder(REQUEST, text=True)
    stream = b"one\ntwo\n" + b"x" * 8192 + b"\nthree\n" + encode(PacketType.GRAB_JOB)
    assert decoder.feed(stream) == [(TEXT_LINE, [b"one", b"two"])]
    assert "8191" in str(decoder.failure)


def test_a_nul_within_a_line_is_part_of_it() -> None:
    stream = b"a\0b\n\0REQ\0\0\0\x09\0\0\0\0c\0\n\n"
    assert Decoder(REQUEST, text=True).feed(stream) == [
        (TEXT_LINE, [b"a\0b"]),
        (PacketType.GRAB_JOB, [b""]),
        (TEXT_LINE, [b"c\0", b""]),
    ]


def test_many_lines_of_text_in_one_chunk() -> None:
    assert len(flat(Decoder(REQUEST, text=True), b"\n" * 65536)) == 65536


def test_a_large_body_in_small_pieces_is_joined_once() -> None:
    """Appending to a buffer would reallocate the body repeatedly. The memory is about the size of what arrived."""
    size = 8 * 1024 * 1024
    piece = bytes(4096)
    decoder = Decoder(RESPONSE)
    decoder.feed(HEADER.pack(RESPONSE, PacketType.ECHO_RES, size))
    tracemalloc.start()
    try:
        runs = [run for _ in range(size // len(piece)) for run in decoder.feed(piece)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert runs == [(PacketType.ECHO_RES, [bytes(size)])]
    assert peak < 3 * size


def peak_of(decoder: Decoder, chunks: Iterator[bytes]) -> int:
    """Feed chunks, and return the peak of the allocated memory."""
    tracemalloc.start()
    try:
        for chunk in chunks:
            decoder.feed(chunk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.untraced
def test_a_body_that_arrives_in_tiny_pieces_takes_about_its_size() -> None:
    """Storing each piece separately would take fifty bytes for two."""
    size = 400_000
    decoder = Decoder(RESPONSE)
    decoder.feed(HEADER.pack(RESPONSE, PacketType.ECHO_RES, size + 1))
    assert peak_of(decoder, (bytes([n % 251, n % 7]) for n in range(size // 2))) < 1.5 * size
    assert decoder.held == HEADER.size + size


def test_consecutive_lines_are_one_run() -> None:
    assert Decoder(REQUEST, text=True).feed(b"a\nb\n" + encode(PacketType.GRAB_JOB) + b"\n") == [
        (TEXT_LINE, [b"a", b"b"]),
        (PacketType.GRAB_JOB, [b""]),
        (TEXT_LINE, [b""]),
    ]


@given(st.binary(max_size=200), st.booleans(), st.lists(st.integers(1, 20), max_size=20))
@example(b"\0\0", False, [1])
def test_any_bytes_give_packets_or_a_protocol_error(data: bytes, text: bool, cuts: list[int]) -> None:
    whole = Decoder(REQUEST, max_size=50, text=text)
    expected = flat(whole, data)
    pieces = Decoder(REQUEST, max_size=50, text=text)
    found: list[tuple[int, bytes]] = []
    rest = data
    for cut in cuts:
        found += flat(pieces, rest[:cut])
        rest = rest[cut:]
    assert found + flat(pieces, rest) == expected
    assert (pieces.failure is None) == (whole.failure is None)
