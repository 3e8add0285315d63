"""The parts of processes with connections of their own, each alone."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import socket

import pytest

from geartrain.worker import Worker
from geartrain.worker.config import WorkerConfig
from geartrain.worker.counters import WorkerCounters
from geartrain.worker.observer import RunObserver
from geartrain.worker.prefork.board import Board, BoardJob, create_board_file
from geartrain.worker.prefork.control import ControlSocket
from geartrain.worker.prefork.log_records import RecordSender, rebuild_record
from geartrain.worker.prefork.messages import (
    Connected,
    Disconnected,
    Finished,
    Logged,
    Message,
    MessageDecoder,
    Replied,
    Stop,
    encode_message,
)
from geartrain.worker.prefork.reporter import ProcessReporter
from geartrain.worker.prefork.sent_bytes import count_sent
from geartrain.worker.prefork.settings import LateCall, ProcessSettings
from tests.worker.prefork import functions


def make_boards(servers: int) -> tuple[Board, Board]:
    """Return the same board twice, as the process and the worker have it."""
    descriptor = create_board_file(servers)
    boards = Board(descriptor, servers), Board(descriptor, servers)
    os.close(descriptor)
    return boards


def test_a_worker_reads_the_job_that_its_process_runs() -> None:
    written, read = make_boards(1)
    job = BoardJob(7, 0, 3, math.inf, True, b"H:host:1")
    assert read.read_job() is None
    assert read.due == math.inf
    written.set_job(job)
    assert read.read_job() == job
    written.set_job(job._replace(number=8, due=2.5, handle=b"x" * 255))
    assert read.due == 2.5
    written.clear_job()
    assert read.read_job() is None
    written.set_job(job._replace(handle=b"x" * 256))
    assert read.read_job() is None


def test_each_job_server_has_its_part_of_the_board() -> None:
    written, read = make_boards(3)
    counters = WorkerCounters()
    for number, name in enumerate(WorkerCounters.__slots__):
        setattr(counters, name, number + 1)
    written.set_counters(1, counters)
    written.set_sending(2, 10, 2**40)
    assert read.read_counters(0) == read.read_counters(2) == (0,) * 6
    assert sorted(read.read_counters(1)) == [1, 2, 3, 4, 5, 6]
    assert read.read_sending(1) is None
    assert read.read_sending(2) == (10, 2**40)
    written.clear_sending(2)
    assert read.read_sending(2) is None


MESSAGES: list[Message] = [
    *(Replied(1), Disconnected(2**40), Finished(), Stop(), Connected(3, 4)),
    Logged({"msg": "x" * 100_000, "exc_text": None, "created": 1.5}, (b"pickled", "E", "text", False, "trace")),
]


def test_messages_do_not_depend_on_how_their_bytes_arrive() -> None:
    data = b"".join(map(encode_message, MESSAGES))
    for size in (1, 7, len(data)):
        decoder = MessageDecoder()
        pieces = (data[start : start + size] for start in range(0, len(data), size))
        assert [message for piece in pieces for message in decoder.receive_data(piece)] == MESSAGES


def test_sockets_arrive_with_their_message() -> None:
    here, there = map(ControlSocket, socket.socketpair())
    sockets = [socket.socket(), socket.socket()]
    inodes = [os.fstat(each.fileno()).st_ino for each in sockets]
    for number, each in enumerate(sockets):
        here.send(Replied(number))
        here.send(Connected(0, number), each.fileno())
        each.close()
    here.close()
    arrived: list[tuple[Message, socket.socket | None]] = []
    while (messages := there.receive()) is not None:
        arrived += messages
    connected = [(message, sock) for message, sock in arrived if sock is not None]
    assert [message for message, _ in connected] == [Connected(0, 0), Connected(0, 1)]
    assert [os.fstat(sock.fileno()).st_ino for _, sock in connected] == inodes
    for _, sock in connected:
        sock.close()
    there.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_sent_bytes_are_counted_whoever_has_sent_them(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as listener,
        socket.create_connection(listener.getsockname()[:2]) as connection,
        connection.dup() as copy,
    ):
        assert count_sent(copy) == 0
        connection.send(b"x" * 10)
        assert count_sent(copy) == 10
        connection.setblocking(False)
        sent = 10
        with pytest.raises(BlockingIOError):
            while True:
                sent += connection.send(bytes(65536))  # the peer does not read
        assert count_sent(copy) == sent
    one, other = socket.socketpair()
    with one, other:
        assert count_sent(one) is None


def test_a_log_record_keeps_its_place_and_its_exception() -> None:
    sent: list[Logged] = []
    logger = logging.Logger("a.process")
    logger.addHandler(RecordSender(sent.append))
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("%s went wrong", "it")
    (decoded,) = MessageDecoder().receive_data(encode_message(sent[0]))
    assert isinstance(decoded, Logged)
    record = rebuild_record(decoded, "worker", "process")
    assert (record.name, record.processName, record.levelname) == ("worker", "process", "ERROR")
    assert record.getMessage() == "it went wrong"
    assert (record.funcName, record.process) == ("test_a_log_record_keeps_its_place_and_its_exception", os.getpid())
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


def test_a_process_has_every_option_of_its_worker() -> None:
    worker = Worker(
        "h:1", client_id="me", heartbeat=7.0, regrab_interval=0.5, max_packet_size=5000, connect_timeout=2.0
    )
    worker.function("f", processes=3, timeout=4.0)(functions.pid)
    settings = ProcessSettings.make(tuple(worker._servers), worker._config, worker._functions[b"f"])
    assert {*settings.options, "logger", "metrics"} == {field.name for field in dataclasses.fields(WorkerConfig)}
    config = settings.make_config(logging.Logger("x"))
    for name in ("client_id", "heartbeat", "regrab_interval", "max_packet_size", "connect_timeout"):
        assert getattr(config, name) == getattr(worker._config, name)
    assert (settings.function.timeout, settings.function.processes) == (4.0, None)


def test_what_cannot_be_unpickled_is_an_exception_of_each_call() -> None:
    import pickle

    call = pickle.loads(pickle.dumps(LateCall(functions.pid)))
    assert call(None) == str(os.getpid())
    call.__setstate__(b"nonsense")
    for _ in range(2):
        with pytest.raises(pickle.UnpicklingError):
            call(None)


def test_a_process_observes_all_of_its_run() -> None:
    """The protocol is otherwise seen by the type checker alone."""
    methods = [name for name in vars(RunObserver) if name.startswith("on_")]
    assert "on_connected" in methods
    assert [name for name in methods if not callable(getattr(ProcessReporter, name, None))] == []
