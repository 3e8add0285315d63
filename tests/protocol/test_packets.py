import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.client.task_options import MAX_UNIQUE
from geartrain.errors import LocalProtocolError, RemoteProtocolError
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.packets import HEADER, PACKETS, REQUEST, RESPONSE, PacketType, describe, encode, split
from geartrain.validation import MAX_FUNCTION, MAX_WORKLOAD


def test_the_table_contains_every_type_from_1_to_42() -> None:
    assert {int(kind) for kind in PACKETS} == set(range(1, 43)) - {5}
    assert list(PACKETS) == list(PacketType)


def test_the_example_of_the_protocol_text() -> None:
    """PROTOCOL, "Example": a client submits a job for the function "reverse" with the workload "test"."""
    packet = b"\0REQ\0\0\0\x07\0\0\0\x0dreverse\0\0test"
    assert encode(PacketType.SUBMIT_JOB, b"reverse", b"", b"test") == packet
    assert split(PacketType.SUBMIT_JOB, packet[12:]) == [b"reverse", b"", b"test"]


def test_the_longest_workload_fits_beside_the_longest_other_arguments() -> None:
    head = b"\0".join((b"f" * MAX_FUNCTION, b"u" * MAX_UNIQUE, b"%d" % 2**63, b""))
    packed = HEADER.pack(REQUEST, PacketType.SUBMIT_JOB_EPOCH, len(head) + MAX_WORKLOAD)
    assert HEADER.unpack(packed)[2] == len(head) + MAX_WORKLOAD


@given(st.data())
def test_decoding_returns_what_was_encoded(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(PACKETS)))
    magic = REQUEST if PACKETS[kind].to_server else RESPONSE
    names = PACKETS[kind].arguments
    early = st.binary(max_size=20).filter(lambda argument: b"\0" not in argument)
    arguments = [data.draw(early if name != names[-1] else st.binary(max_size=50)) for name in names]
    [(found, [body])] = Decoder(magic).feed(encode(kind, *arguments, magic=magic))
    assert found == kind
    assert split(kind, body) == arguments


def test_too_few_arguments_are_a_remote_protocol_error() -> None:
    with pytest.raises(
        RemoteProtocolError, match=r"WORK_COMPLETE needs 2 arguments \(handle, data\), got 1 in 5 bytes"
    ):
        split(PacketType.WORK_COMPLETE, b"H:x:1")


def test_arguments_that_no_packet_can_carry_are_a_local_protocol_error() -> None:
    with pytest.raises(LocalProtocolError, match="GET_STATUS takes 1 arguments"):
        encode(PacketType.GET_STATUS)
    with pytest.raises(LocalProtocolError, match="cannot carry the unique b'a\\\\x00b': it contains a NUL"):
        encode(PacketType.SUBMIT_JOB, b"f", b"a\0b", b"")


def test_a_log_line_elides_workloads() -> None:
    assert describe(PacketType.SUBMIT_JOB, b"reverse\0\0secret") == "SUBMIT_JOB reverse  [6 bytes]"
    assert describe(PacketType.JOB_CREATED, b"H:lap:1") == "JOB_CREATED H:lap:1"
    assert describe(99, b"secret") == "type 99 (malformed or unknown) [6 bytes]"
    assert describe(PacketType.WORK_STATUS, b"H:lap:1") == "WORK_STATUS (malformed or unknown) [7 bytes]"
