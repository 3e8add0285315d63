import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geartrain.errors import LocalProtocolError
from geartrain.protocol import text
from geartrain.protocol.text import Command, TextProtocol, encode_command
from geartrain.protocol.text_replies import (
    FunctionStatus,
    ListedJob,
    ListedUnique,
    PriorityStatus,
    Refusal,
    WorkerStatus,
)

# Replies of gearmand 1.1.20, byte for byte.
STATUS = (
    b"e\xff\xe9\t0\t0\t0\nc\r\t5\t1\t2\na\tb\t0\t0\t0\n.\t7\t0\t0\nERR\t0\t0\t0\nd\rx\t0\t0\t0\nf\x0bg\t0\t0\t0\n.\n"
)
ANSWERS: list[tuple[Command[Any], bytes, object]] = [
    (
        text.STATUS,
        STATUS,
        [
            FunctionStatus("e\udcff\udce9", 0, 0, 0),
            FunctionStatus("c\r", 5, 1, 2),
            FunctionStatus("a\tb", 0, 0, 0),
            FunctionStatus(".", 7, 0, 0),
            FunctionStatus("ERR", 0, 0, 0),
            FunctionStatus("d\rx", 0, 0, 0),
            FunctionStatus("f\x0bg", 0, 0, 0),
        ],
    ),
    (text.PRIORITY_STATUS, b"a\tb\t1\t2\t3\t4\n.\n", [PriorityStatus("a\tb", 1, 2, 3, 4)]),
    (
        text.WORKERS,
        b"35 127.0.0.1  : a\n36 127.0.0.1 - :\n37 ::3433:3133:3200:0%839336864 my id : a b::c :\n.\n",
        [
            WorkerStatus(35, "127.0.0.1", "", ("a",)),
            WorkerStatus(36, "127.0.0.1", "-", ()),
            WorkerStatus(37, "::3433:3133:3200:0%839336864", "my id", ("a", "b::c", ":")),
        ],
    ),
    (text.VERSION, b"OK 1.1.20+ds\n", "1.1.20+ds"),
    (text.SHOW_JOBS, b"H:lap:1\t0\t1\t0\nH:lap:2\t3\t0\t1\n.\n", [
        ListedJob("H:lap:1", 0, ignored=True, persisted=False),
        ListedJob("H:lap:2", 3, ignored=False, persisted=True),
    ]),
    (text.DROP_FUNCTION, b"ERR function not found\r\n", Refusal("", "function not found")),
    (text.SHOW_UNIQUE_JOBS, b"\nu\n-\n\xff\n.\n", [ListedUnique(u) for u in ("", "u", "-", "\udcff")]),
    (text.CANCEL_JOB, b"ERR UNKNOWN_JOB\r\n", Refusal("UNKNOWN_JOB", "")),
    (text.CREATE_FUNCTION, b"OK\r\n", None),
    (text.GETPID, b"OK 4711\n", 4711),
    (text.VERBOSE, b"OK ERROR\n", "ERROR"),
    (text.MAXQUEUE, b"OK\r\n", None),
    (
        text.SHUTDOWN,
        b"ERR UNKNOWN_COMMAND Unknown+server+commandshutdown\r\n",
        Refusal("UNKNOWN_COMMAND", "Unknown server commandshutdown"),
    ),
    (text.STATUS, b".\n", []),
]  # fmt: skip


class Conversation:
    """A protocol with commands in progress, and the answers so far."""

    def __init__(self, commands: Sequence[Command[Any]], **options: int) -> None:
        self.protocol = TextProtocol(**options)
        self.answers: list[tuple[int, object]] = []
        for number, command in enumerate(commands):
            self.protocol.send_command(command, on_reply=self.record_reply(number))

    def record_reply(self, number: int) -> Callable[[object], None]:
        return lambda answer: self.answers.append((number, answer))

    def feed(self, data: bytes, step: int = 1_000_000) -> None:
        for start in range(0, len(data), step):
            self.protocol.receive_data(data[start : start + step])

    @property
    def failure(self) -> str:
        return str(self.protocol.failure)


def answer_to(command: Command[Any], data: bytes) -> object:
    conversation = Conversation([command])
    conversation.feed(data)
    assert conversation.protocol.failure is None
    ((_, answer),) = conversation.answers
    return answer


@pytest.mark.parametrize(("command", "data", "answer"), ANSWERS)
def test_each_answer_is_parsed(command: Command[Any], data: bytes, answer: object) -> None:
    assert answer_to(command, data) == answer


@pytest.mark.parametrize("step", [1, 2, 3, 7, 64, 10_000])
def test_answers_are_separated_in_order_however_the_bytes_arrive(step: int) -> None:
    conversation = Conversation([command for command, _, _ in ANSWERS])
    conversation.feed(b"".join(data for _, data, _ in ANSWERS), step)
    assert conversation.answers == list(enumerate(answer for _, _, answer in ANSWERS))
    assert conversation.protocol.failure is None
    assert conversation.protocol.pending_count == 0
    assert conversation.protocol.unfinished == 0


@pytest.mark.parametrize(
    ("command", "data", "answer"),
    [
        (text.VERSION, b"v1.130.1\n", "v1.130.1"),
        (text.STATUS, b"f\t1\t0\t1\r\n.\r\n", [FunctionStatus("f", 1, 0, 1)]),
        (text.WORKERS, b"9 127.0.0.1 - : \n10 ::1 id : f\n.\n", [
            WorkerStatus(9, "127.0.0.1", "-", ()),
            WorkerStatus(10, "::1", "id", ("f",)),
        ]),
        (text.PRIORITY_STATUS, b"ERR unknown_command \r\n", Refusal("unknown_command", "")),
        (text.SHOW_UNIQUE_JOBS, b"ERR unknown_command \r\n", Refusal("unknown_command", "")),
        (text.SHOW_JOBS, b"ERR UNKNOWN_COMMAND Unknown+server\n", Refusal("UNKNOWN_COMMAND", "Unknown server")),
        (text.WORKERS, b"ERR unknown_command \r\n", Refusal("unknown_command", "")),
        (text.MAXQUEUE, b"OK\n", None),
        (text.MAXQUEUE, b"ERR incomplete_args no+such\r\n", Refusal("incomplete_args", "no such")),
        (text.SHUTDOWN, b"BYE\n", None),
        (text.SHUTDOWN, b"OK\n", None),
    ],
)  # fmt: skip
def test_answers_of_other_job_servers_are_parsed(command: Command[Any], data: bytes, answer: object) -> None:
    assert answer_to(command, data) == answer


def test_an_incomplete_answer_is_not_returned() -> None:
    conversation = Conversation([text.STATUS])
    conversation.feed(STATUS[:-1])
    assert conversation.answers == []
    assert conversation.protocol.pending_count == 1
    assert conversation.protocol.unfinished > len(STATUS) - 1
    conversation.feed(b"\n")
    assert len(conversation.answers) == 1


def test_queued_jobs_are_jobs_that_are_not_running() -> None:
    assert FunctionStatus("f", 5, 2, 3).queued == 3
    # gearmand's counter underflows if a timeout fires for a job that has ended
    assert FunctionStatus("f", 0, 4294967295, 1).queued == 0


# Names with parts of rows, ends and refusals.
NAMES = st.lists(
    st.sampled_from([b"\t", b"\n", b".", b"\r", b"0", b"7", b" ", b":", b"ERR ", b"OK"]) | st.binary(max_size=4),
    max_size=8,
).map(b"".join)
NUMBERS = st.integers(0, 2**64 - 1)


def is_ambiguous(name: bytes, numbers: int) -> bool:
    """Whether one of the complete lines in a name looks like a row, the end or a refusal."""
    row = re.compile(rb".*(\t[0-9]+){%d}\r?" % numbers, re.DOTALL)
    *lines, _ = name.split(b"\n")
    return any(map(row.fullmatch, lines)) or (bool(lines) and lines[0].startswith((b".", b"ERR ")))


@given(st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS), max_size=5))
def test_any_name_is_parsed_from_status(rows: list[tuple[bytes, int, int, int]]) -> None:
    assume(not any(b"\0" in name or is_ambiguous(name, 3) for name, *_ in rows))
    data = b"".join(b"%s\t%d\t%d\t%d\n" % row for row in rows) + b".\n"
    expected = [(name.decode("utf-8", "surrogateescape"), *numbers) for name, *numbers in rows]
    assert answer_to(text.STATUS, data) == expected


@given(st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=5))
def test_any_name_is_parsed_from_priority_status(rows: list[tuple[bytes, int, int, int, int]]) -> None:
    assume(not any(b"\0" in name or is_ambiguous(name, 4) for name, *_ in rows))
    data = b"".join(b"%s\t%d\t%d\t%d\t%d\n" % row for row in rows) + b".\n"
    expected = [(name.decode("utf-8", "surrogateescape"), *numbers) for name, *numbers in rows]
    assert answer_to(text.PRIORITY_STATUS, data) == expected


@pytest.mark.parametrize("client_id", ["x", "", "my id", "a\nb", "a:b", "a\n.\nb", "\udcff", "9 10.0.0.1 "])
@pytest.mark.parametrize("functions", [(), ("f",), ("a::b", "c"), ("a\nb",), ("\udcff\t",)])
def test_any_client_id_is_parsed_from_workers(client_id: str, functions: tuple[str, ...]) -> None:
    one = WorkerStatus(33, "127.0.0.1", client_id, functions)
    two = WorkerStatus(34, "10.0.0.1", "-", ("g",))
    data = "".join(f"{w.fd} {w.ip} {w.client_id} :{''.join(f' {f}' for f in w.functions)}\n" for w in (one, two))
    assert answer_to(text.WORKERS, data.encode("utf-8", "surrogateescape") + b".\n") == [one, two]


LINES = [b"OK", b"ERR X_Y z\r", b".", b"f\t1\t2\t3", b"1 a b :", b"1 a  : c", b"1 a :", b" : d", b"", b"."]


@given(st.lists(st.sampled_from([line + b"\n" for line in LINES]) | st.binary(max_size=30)), st.integers(1, 40))
def test_any_bytes_give_answers_or_a_protocol_error(pieces: list[bytes], step: int) -> None:
    data = b"".join(pieces)
    whole, cut = (Conversation([command for command, _, _ in ANSWERS], max_size=2000) for _ in range(2))
    whole.feed(data)
    cut.feed(data, step)
    assert cut.protocol.pending_count == len(ANSWERS) - len(cut.answers)
    # How many answers precede an error depends on the pieces; their contents do not.
    shorter, longer = sorted((whole.answers, cut.answers), key=len)
    assert longer[: len(shorter)] == shorter


@pytest.mark.parametrize(
    ("command", "data", "reason"),
    [
        (text.VERSION, b"SSH-2.0-OpenSSH_9.2p1\r\n", "OK or ERR"),
        (text.GETPID, b"OK twelve\n", "OK or ERR"),
        (text.CREATE_FUNCTION, b"\n", "OK or ERR"),
        (text.WORKERS, b"HTTP/1.1 400 Bad Request\r\n", "must begin with a number and an address"),
        (text.STATUS, b"\0RES\0\0\0\x13\0\0\0\0", "must not contain a NUL"),
        (text.STATUS, b"\x15\x03\x01\0\x02\x02P", "must not contain a NUL"),
        (text.STATUS, b".\nmore", "no command is pending, got b'm"),
        (text.CREATE_FUNCTION, b"OK\r\nOK\r\n", "no command is pending"),
    ],
)
@pytest.mark.parametrize("step", [1, 100])
def test_an_invalid_answer_is_a_failure_with_its_reason(
    command: Command[Any], data: bytes, reason: str, step: int
) -> None:
    conversation = Conversation([command])
    conversation.feed(data, step)
    assert reason in conversation.failure


def test_nothing_is_parsed_after_a_failure() -> None:
    conversation = Conversation([text.GETPID, text.GETPID])
    conversation.feed(b"OK\0")
    conversation.feed(b"OK 1\nOK 2\n")
    assert conversation.answers == []
    assert "NUL" in conversation.failure


@pytest.mark.parametrize(
    "command", [text.STATUS, text.PRIORITY_STATUS, text.WORKERS, text.SHOW_JOBS, text.SHOW_UNIQUE_JOBS]
)
@pytest.mark.parametrize("line", [b"\n", b"x\n", b"x", b"1 a b : c\n", b"f\t1\t2\t3\n"])  # fmt: skip
def test_an_endless_answer_fails_at_the_limit(command: Command[Any], line: bytes) -> None:
    conversation = Conversation([command], max_size=10_000)
    taken = 0
    while conversation.protocol.failure is None:
        conversation.feed(line * 10)
        taken += len(line) * 10
        assert taken <= 10_000 + len(line) * 10
    if command is not text.WORKERS or line.startswith(b"1"):
        assert "longer than 10000 bytes" in conversation.failure


def test_the_limit_applies_to_each_answer_separately() -> None:
    conversation = Conversation([text.STATUS] * 50, max_size=1000)
    conversation.feed((b"f\t1\t2\t3\n" * 12 + b".\n") * 50)
    assert len(conversation.answers) == 50


@pytest.mark.parametrize(
    ("command", "arguments", "line"),
    [
        ("status", (), b"status\r\n"),
        ("create function", ("f",), b"create function f\r\n"),
        ("create function", ("prefix\tf\udcff",), b"create function prefix\tf\xff\r\n"),
        ("maxqueue", ("f", "1", "2", "3"), b"maxqueue f 1 2 3\r\n"),
    ],
)
def test_a_command_is_one_line_that_ends_in_cr_lf(command: str, arguments: tuple[str, ...], line: bytes) -> None:
    assert encode_command(command, *arguments) == line


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\0b", " ", "a\n"])
def test_a_name_that_a_command_cannot_contain_is_rejected(name: str) -> None:
    protocol = TextProtocol()
    with pytest.raises(LocalProtocolError, match=re.escape(f"cannot contain {name!r}")):
        protocol.send_command(text.CREATE_FUNCTION, name, on_reply=lambda answer: None)
    assert protocol.pending_count == 0


def test_a_command_longer_than_gearmand_accepts_is_rejected() -> None:
    assert len(encode_command("create function", "f" * 8174)) == 8192
    with pytest.raises(LocalProtocolError, match="at most 8191 bytes"):
        encode_command("create function", "f" * 8175)


# Marks: each listing is followed by the reply to a GET_STATUS, which no name can imitate.

HEAD = b"\0RES" + (20).to_bytes(4)
GEARMAND_MARK = HEAD + (21).to_bytes(4) + b"geartrain:end\x000\x000\x000\x000"
PERL_MARK = HEAD + (19).to_bytes(4) + b"geartrain:end\x000\x000\0\0"  # it leaves unreported numbers empty
LISTINGS: list[Command[Any]] = [
    text.STATUS,
    text.PRIORITY_STATUS,
    text.WORKERS,
    text.SHOW_JOBS,
    text.SHOW_UNIQUE_JOBS,
]


def test_a_mark_is_requested_after_each_listing_and_before_the_first() -> None:
    protocol = TextProtocol()
    mark = b"\0REQ" + (15).to_bytes(4) + (13).to_bytes(4) + b"geartrain:end"
    commands: list[Command[Any]] = [text.VERSION, text.STATUS, text.GETPID, text.WORKERS]
    sent = [protocol.send_command(command, on_reply=lambda answer: None) for command in commands]
    assert sent == [b"version\r\n", mark + b"status\r\n" + mark, b"getpid\r\n", b"workers\r\n" + mark]


@pytest.mark.parametrize("mark", [GEARMAND_MARK, PERL_MARK])
@pytest.mark.parametrize("step", [1, 2, 7, 13, 1000])
def test_answers_with_marks_are_separated_however_the_bytes_arrive(mark: bytes, step: int) -> None:
    conversation = Conversation([command for command, _, _ in ANSWERS])
    assert ANSWERS[0][0] in LISTINGS, "the first answer must be a listing, so that its mark comes first"
    conversation.feed(mark + b"".join(data + mark * (command in LISTINGS) for command, data, _ in ANSWERS), step)
    assert conversation.protocol.failure is None
    assert conversation.answers == list(enumerate(answer for _, _, answer in ANSWERS))
    assert conversation.protocol.unfinished == 0


FORGED: list[tuple[Command[Any], bytes, object]] = [
    (text.SHOW_UNIQUE_JOBS, b"a\n.\nb\n.\n.\n", [ListedUnique(u) for u in ("a", ".", "b", ".")]),
    (text.SHOW_UNIQUE_JOBS, b".\nghost\t9\t9\t9\n.\n", [ListedUnique("."), ListedUnique("ghost\t9\t9\t9")]),
    (text.SHOW_UNIQUE_JOBS, b"ERR UNKNOWN_COMMAND x\n.\n", [ListedUnique("ERR UNKNOWN_COMMAND x")]),
    (text.STATUS, b".\nf\t1\t2\t3\n.\n", [FunctionStatus(".\nf", 1, 2, 3)]),
    (text.STATUS, b"ERR X_Y z\r\n\t1\t2\t3\n.\n", [FunctionStatus("ERR X_Y z\r\n", 1, 2, 3)]),
    (text.PRIORITY_STATUS, b".\n.\n.\t1\t2\t3\t4\n.\n", [PriorityStatus(".\n.\n.", 1, 2, 3, 4)]),
    (text.WORKERS, b"8 ::1 - : f\n.\n.\n", [WorkerStatus(8, "::1", "-", ("f\n.",))]),
    (text.WORKERS, b"8 ::1 x :\n.\n :\n.\n", [WorkerStatus(8, "::1", "x", (".\n", ":"))]),
    (text.SHOW_JOBS, b".\nH:1\t0\t0\t1\n.\n", [ListedJob(".\nH:1", 0, ignored=False, persisted=True)]),
]


@pytest.mark.parametrize(("command", "data", "answer"), FORGED)
@pytest.mark.parametrize("step", [1, 1000])
def test_no_name_ends_a_listing_or_shifts_the_answers_after_it(
    command: Command[Any], data: bytes, answer: object, step: int
) -> None:
    conversation = Conversation([command, text.GETPID, text.STATUS])
    conversation.feed(GEARMAND_MARK + data + GEARMAND_MARK + b"OK 4711\n.\n" + GEARMAND_MARK, step)
    assert conversation.protocol.failure is None
    assert conversation.answers == [(0, answer), (1, 4711), (2, [])]


@pytest.mark.parametrize("command", LISTINGS)
@pytest.mark.parametrize("refused", [b"ERR unknown_command \r\n", b"ERR UNKNOWN_COMMAND x\r\n"])
def test_a_refused_listing_is_followed_by_a_mark(command: Command[Any], refused: bytes) -> None:
    conversation = Conversation([command, command])
    conversation.feed(GEARMAND_MARK + (refused + GEARMAND_MARK) * 2)
    assert [type(answer) for _, answer in conversation.answers] == [Refusal, Refusal]


def test_no_more_marks_are_requested_from_a_job_server_that_ignores_them() -> None:
    conversation = Conversation([text.GETPID, *LISTINGS])
    conversation.feed(b"OK 1\n" + b".\n" * len(LISTINGS))
    assert conversation.answers == [(0, 1), *((number, []) for number in range(1, 6))]
    assert conversation.protocol.send_command(text.STATUS, on_reply=lambda answer: None) == b"status\r\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GEARMAND_MARK + GEARMAND_MARK, "a listing must end with a dot, got b''"),
        (GEARMAND_MARK + b"f\t1\t2\t3\n" + GEARMAND_MARK, "a listing must end with a dot"),
        (GEARMAND_MARK + b"name\n.\n" + GEARMAND_MARK, "the last row of an answer is incomplete"),
        (GEARMAND_MARK + b"f\t1\t2\t3" + GEARMAND_MARK, "must not contain a NUL"),
        (GEARMAND_MARK + b"a\nERR x_y z\r\n" + GEARMAND_MARK, "a listing must end with a dot"),
        (b".\n" + GEARMAND_MARK, "unexpected STATUS_RES"),
        (GEARMAND_MARK + b".\n" + GEARMAND_MARK * 2, "unexpected STATUS_RES"),
        (HEAD + (6).to_bytes(4) + b"H:1\x000\x00", "got that of b'H:1'"),
        (HEAD + bytes(4), "must not contain a NUL"),
        (HEAD + (1_000_000).to_bytes(4), "must not contain a NUL"),
        (b"\0RES" + (19).to_bytes(4), "must not contain a NUL"),
        (b"\0REQ", "must not contain a NUL"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_a_misplaced_or_invalid_mark_is_a_failure(data: bytes, reason: str, step: int) -> None:
    conversation = Conversation([text.STATUS])
    conversation.feed(data, step)
    assert reason in conversation.failure


def test_a_mark_without_a_listing_is_a_failure() -> None:
    conversation = Conversation([text.GETPID, text.STATUS])
    conversation.feed(GEARMAND_MARK)
    assert "unexpected STATUS_RES" in conversation.failure
    conversation = Conversation([text.GETPID])
    conversation.feed(GEARMAND_MARK)
    assert "must not contain a NUL" in conversation.failure


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"a\tb\tc\td", "a\tb\tc\td"),  # as many fields as a row, but no numbers
        (b"a\t1\t2\tx", "a\t1\t2\tx"),
        (b"a\t1\t2\t", "a\t1\t2\t"),
        (b"a\t1\t2\t-3", "a\t1\t2\t-3"),
        (b"a\t1\t2\t\xc2\xb2", "a\t1\t2\t\N{SUPERSCRIPT TWO}"),
        (b"a\t1\t2\t" + b"3" * 21, "a\t1\t2\t" + "3" * 21),
        (b"a\t1\t2\t" + b"3" * 5000, "a\t1\t2\t" + "3" * 5000),
        (b"a\t1\t2", "a\t1\t2"),
        (b"", ""),
    ],
)
def test_a_line_that_does_not_end_in_numbers_is_the_start_of_a_name(line: bytes, name: str) -> None:
    conversation = Conversation([text.STATUS])
    conversation.feed(GEARMAND_MARK + line + b"\nb\t1\t2\t3\n.\n" + GEARMAND_MARK)
    assert conversation.protocol.failure is None
    assert conversation.answers == [(0, [FunctionStatus(f"{name}\nb", 1, 2, 3)])]


def test_numbers_of_twenty_digits_are_parsed() -> None:
    conversation = Conversation([text.STATUS])
    conversation.feed(GEARMAND_MARK + b"f\t1\t2\t" + b"9" * 20 + b"\n.\n" + GEARMAND_MARK)
    assert conversation.answers == [(0, [FunctionStatus("f", 1, 2, 10**20 - 1)])]


def test_the_colon_of_a_row_of_workers_may_be_several_lines_after_its_start() -> None:
    """A line without a colon may be part of the id or of a function."""
    conversation = Conversation([text.WORKERS])
    rows = b"8 ::1 my\nown\nid : f\ng\nh\n9 ::1 - :\n"
    conversation.feed(GEARMAND_MARK + rows + b".\n" + GEARMAND_MARK)
    expected = [WorkerStatus(8, "::1", "my\nown\nid", ("f\ng\nh",)), WorkerStatus(9, "::1", "-", ())]
    assert conversation.answers == [(0, expected)]


def test_nothing_is_buffered_after_a_failure() -> None:
    conversation = Conversation([text.STATUS], max_size=1000)
    conversation.feed(b"a" * 500)
    conversation.feed(b"a" * 501)
    assert "longer than 1000 bytes" in conversation.failure
    assert conversation.protocol.unfinished == 0
