"""What the job server does on each packet of a client or worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.decoder import TEXT_LINE, WRONG_MAGIC
from geartrain.protocol.numbers import INT64_MAX, c_integer, c_uint32
from geartrain.protocol.packets import MAX_HANDLE, OVERSIZE, PACKETS, PacketType, split
from geartrain.protocol.server.admin_commands import run_command
from geartrain.protocol.server.job_queue import HIGH, LOW, NORMAL
from geartrain.protocol.server.peer import OVERSIZE_REQUESTS, Work

if TYPE_CHECKING:
    from geartrain.protocol.server.broker import Broker
    from geartrain.protocol.server.peer import Peer

__all__ = ["REQUESTS", "Request", "unknown"]

# (broker, peer, packet type, body) -> the rest of a long request
Request = Callable[["Broker", "Peer", int, bytes], Work | None]

MAX_FUNCTION: Final = 8180  # gearmand closes the connection if the name is longer
MAX_UNIQUE: Final = 64
MAX_CLIENT_ID: Final = 127  # a longer ID is truncated
MAX_COPIES: Final = 100_000  # submissions of the same job by one peer, which gets each packet as many times
MAX_ABILITIES: Final = 16_384  # of one worker: each GRAB_JOB checks all of them
MIN_TIMEOUT_MS: Final = 1000  # a shorter timeout is raised to this

# Identical to gearmand's.
_COMMAND_NOT_EXPECTED: Final = b"INVALID_COMMAND\0Command not expected"
_REQUEST_MAGIC_EXPECTED: Final = b"INVALID_MAGIC\0Request magic expected"
_UNIQUE_TOO_LARGE: Final = b"ARGUMENT_TOO_LARGE\0Unique value too large"
_HANDLE_TOO_LARGE: Final = (
    b"ARGUMENT_TOO_LARGE\0Error occurred due to GEARMAND_JOB_HANDLE_SIZE being too small from snprintf"
)
_QUEUE_FULL: Final = b"QUEUE_ERROR\0Job queue is full"
_UNKNOWN_OPTION: Final = b"UNKNOWN_OPTION\0Server does not recognize given option"
_RESULT_NOT_FOUND: Final = b"JOB_NOT_FOUND\0Job given in work result not found"
_DATA_NOT_FOUND: Final = b"JOB_NOT_FOUND\0Job does not exist on server"
_EXCEPTION_NOT_FOUND: Final = b"JOB_NOT_FOUND\0An exception was received for a job that does not exist"
# gearmand does not reply at all.
_EPOCH_TOO_LARGE: Final = b"ARGUMENT_TOO_LARGE\0Epoch value too large"
# gearmand has no limit.
_WORKLOAD_TOO_LARGE: Final = b"ARGUMENT_TOO_LARGE\0Workload exceeds max_packet_size"

_SUBMITS: Final[Mapping[int, tuple[int, bool]]] = {  # priority, background
    PacketType.SUBMIT_JOB: (NORMAL, False),
    PacketType.SUBMIT_JOB_BG: (NORMAL, True),
    PacketType.SUBMIT_JOB_HIGH: (HIGH, False),
    PacketType.SUBMIT_JOB_HIGH_BG: (HIGH, True),
    PacketType.SUBMIT_JOB_LOW: (LOW, False),
    PacketType.SUBMIT_JOB_LOW_BG: (LOW, True),
    PacketType.SUBMIT_REDUCE_JOB: (NORMAL, False),
    PacketType.SUBMIT_REDUCE_JOB_BACKGROUND: (NORMAL, True),
    PacketType.SUBMIT_JOB_EPOCH: (NORMAL, True),
}


def _arguments(kind: int, body: bytes, count: int) -> list[bytes]:
    """Split a body; :func:`split`, which takes three times as long, raises the error."""
    arguments = body.split(b"\0", count - 1)
    return arguments if len(arguments) == count else split(PacketType(kind), body)


def _send_error(peer: Peer, error: bytes) -> None:
    peer.send(PacketType.ERROR, error)


def _c_string(argument: bytes) -> bytes:
    # gearmand copies some arguments into C strings.
    return argument.partition(b"\0")[0]


# Requests of clients.


def _submit(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, workload = _arguments(kind, body, 3)
    _add_or_join_job(broker, peer, kind, function, unique, workload)


def _submit_reduce(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, reducer, _, workload = split(PacketType(kind), body)
    if len(reducer) > MAX_UNIQUE:
        _send_error(peer, _UNIQUE_TOO_LARGE)
    else:
        _add_or_join_job(broker, peer, kind, function, unique, workload, reducer=reducer)


def _submit_epoch(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, epoch, workload = split(PacketType(kind), body)
    due = c_integer(epoch)
    if abs(due) > INT64_MAX:
        _send_error(peer, _EPOCH_TOO_LARGE)
    else:
        _add_or_join_job(broker, peer, kind, function, unique, workload, due=due if due > broker.now else None)


def _add_or_join_job(
    broker: Broker,
    peer: Peer,
    kind: int,
    name: bytes,
    unique: bytes,
    workload: bytes,
    *,
    reducer: bytes = b"",
    due: float | None = None,
) -> None:
    """Join a submission to the existing job that it equals, or add a new job, or refuse it."""
    if len(unique) > MAX_UNIQUE:
        _send_error(peer, _UNIQUE_TOO_LARGE)
        return
    _check_function(name)
    priority, background = _SUBMITS[kind]
    queue = broker.queue
    function = queue.functions.get(name)
    if function is None and queue.is_full:
        _send_error(peer, _QUEUE_FULL)
        return
    function = function or queue.ensure_function(name)
    job = queue.find_job(function, unique, workload)
    if job is not None:
        if not background and (queue.is_full or job.clients.get(peer, 0) >= MAX_COPIES):
            _send_error(peer, _QUEUE_FULL)
        else:
            broker.accept_submission(peer, job, background=background)
        return
    if queue.is_full_for(function, priority):
        _send_error(peer, _QUEUE_FULL)
        return
    job = queue.add_job(function, unique, workload, priority, background=background, reducer=reducer, due=due)
    broker.accept_submission(peer, job, background=background)
    if function.sleepers:
        broker.wake_workers(function)


def _submit_oversize(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, *_ = split(PacketType(OVERSIZE - kind), body)
    _check_function(function)
    _send_error(peer, _UNIQUE_TOO_LARGE if len(unique) > MAX_UNIQUE else _WORKLOAD_TOO_LARGE)


def _check_function(name: bytes) -> None:
    if len(name) > MAX_FUNCTION:
        raise RemoteProtocolError(f"a function name must have at most {MAX_FUNCTION} bytes, got {len(name)}")


def _get_status(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    handle = _c_string(body)
    job = broker.queue.jobs.get(handle)
    if job is None:
        peer.send(PacketType.STATUS_RES, handle + b"\x000\x000\x000\x000")
    else:
        numbers = (job.worker is not None, job.numerator, job.denominator)
        peer.send(PacketType.STATUS_RES, handle + b"\x001\0%d\0%d\0%d" % numbers)


def _get_status_unique(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    unique = _c_string(body)
    job = broker.queue.find_by_unique(unique)
    if job is None:
        peer.send(PacketType.STATUS_RES_UNIQUE, unique + b"\x000\x000\x000\x000\x000")
    else:
        broker.work_done += len(job.clients)
        numbers = (job.worker is not None, job.numerator, job.denominator, sum(job.clients.values()))
        peer.send(PacketType.STATUS_RES_UNIQUE, unique + b"\x001\0%d\0%d\0%d\0%d" % numbers)


def _option(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    if body.removesuffix(b"\0").lower() == b"exceptions":
        peer.wants_exceptions = True
        peer.send(PacketType.OPTION_RES, body)
    else:
        _send_error(peer, _UNKNOWN_OPTION)


def _echo(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    peer.send(PacketType.ECHO_RES, b"", body)


# Requests of workers.


def _can_do(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    _register_function(broker, peer, body, None)


def _can_do_timeout(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    name, text = split(PacketType.CAN_DO_TIMEOUT, body)
    timeout_ms = c_integer(text)
    _register_function(broker, peer, name, max(timeout_ms, MIN_TIMEOUT_MS) / 1000 if timeout_ms > 0 else None)


def _register_function(broker: Broker, peer: Peer, name: bytes, timeout: float | None) -> None:
    _check_function(name)
    if name not in peer.abilities:
        if broker.queue.is_full:
            raise RemoteProtocolError("the job server is full: no further function can be registered")
        if len(peer.abilities) >= MAX_ABILITIES:
            raise RemoteProtocolError(f"a worker can register at most {MAX_ABILITIES} functions")
    broker.register_ability(peer, name, timeout)


def _cant_do(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return broker.remove_ability(peer, body)


def _reset_abilities(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return broker.remove_all_abilities(peer)


def _set_client_id(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    peer.client_id = _c_string(body[:MAX_CLIENT_ID])


def _pre_sleep(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    broker.put_to_sleep(peer)


def _grab(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    job = broker.assign_job(peer)
    if job is None:
        peer.send(PacketType.NO_JOB, b"")
        return
    name = job.function.name
    if kind == PacketType.GRAB_JOB:
        peer.send(PacketType.JOB_ASSIGN, b"%b\0%b\0" % (job.handle, name), job.workload)
    elif kind == PacketType.GRAB_JOB_ALL and job.reducer:
        head = b"%b\0%b\0%b\0%b\0" % (job.handle, name, job.unique, job.reducer)
        peer.send(PacketType.JOB_ASSIGN_ALL, head, job.workload)
    else:
        peer.send(PacketType.JOB_ASSIGN_UNIQ, b"%b\0%b\0%b\0" % (job.handle, name, job.unique), job.workload)


def _work_status(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    handle, numerator, denominator = _arguments(kind, body, 3)
    job = peer.running_jobs.get(handle)
    if job is None:
        _send_error(peer, _RESULT_NOT_FOUND)
        return None
    job.numerator, job.denominator = c_uint32(numerator), c_uint32(denominator)
    return broker.forward_update(job, kind, body)


def _work_data(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    handle, _ = _arguments(kind, body, 2)
    job = peer.running_jobs.get(handle)
    if job is None:
        _send_error(peer, _DATA_NOT_FOUND)
        return None
    return broker.forward_update(job, kind, body)


def _work_complete(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return _finish_job(broker, peer, kind, body, _RESULT_NOT_FOUND)


def _work_exception(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return _finish_job(broker, peer, kind, body, _EXCEPTION_NOT_FOUND)


def _finish_job(broker: Broker, peer: Peer, kind: int, body: bytes, not_found: bytes) -> Work | None:
    handle, _ = _arguments(kind, body, 2)
    job = peer.running_jobs.get(handle)
    if job is None:
        _send_error(peer, not_found)
        return None
    return broker.finish_job(job, kind, body)


def _work_fail(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    handle = _c_string(body)
    job = peer.running_jobs.get(handle)
    if job is None:
        _send_error(peer, _RESULT_NOT_FOUND if len(handle) <= MAX_HANDLE else _HANDLE_TOO_LARGE)
        return None
    return broker.finish_job(job, kind, body[: len(handle) + 1])


def _work_oversize(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    """Fail a job whose result or update is too large, so that it is not assigned to another worker."""
    handle, separator, _ = body.partition(b"\0")
    if not separator:
        raise RemoteProtocolError("the job handle is not terminated by a NUL")
    job = peer.running_jobs.get(handle)
    if job is None:
        _send_error(peer, _NOT_FOUND[OVERSIZE - kind])
        return None
    return broker.finish_job(job, PacketType.WORK_FAIL, job.handle)


_NOT_FOUND: Final[Mapping[int, bytes]] = {
    PacketType.WORK_STATUS: _RESULT_NOT_FOUND,
    PacketType.WORK_DATA: _DATA_NOT_FOUND,
    PacketType.WORK_WARNING: _DATA_NOT_FOUND,
    PacketType.WORK_COMPLETE: _RESULT_NOT_FOUND,
    PacketType.WORK_EXCEPTION: _EXCEPTION_NOT_FOUND,
}


# Invalid requests.


def _not_expected(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    _send_error(peer, _COMMAND_NOT_EXPECTED)


def _wrong_magic(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    _send_error(peer, _REQUEST_MAGIC_EXPECTED)


def unknown(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    """Close the connection of a peer that sent an unknown packet type: the stream may be corrupt."""
    raise RemoteProtocolError(f"unknown packet type {kind}")


REQUESTS: Final[Mapping[int, Request]] = {
    **dict.fromkeys((kind for kind, spec in PACKETS.items() if not spec.to_server), _not_expected),
    5: _not_expected,  # never assigned, but known to gearmand
    PacketType.ALL_YOURS: _not_expected,
    PacketType.SUBMIT_JOB_SCHED: _not_expected,
    WRONG_MAGIC: _wrong_magic,
    TEXT_LINE: run_command,
    **dict.fromkeys(_SUBMITS, _submit),
    PacketType.SUBMIT_REDUCE_JOB: _submit_reduce,
    PacketType.SUBMIT_REDUCE_JOB_BACKGROUND: _submit_reduce,
    PacketType.SUBMIT_JOB_EPOCH: _submit_epoch,
    PacketType.GET_STATUS: _get_status,
    PacketType.GET_STATUS_UNIQUE: _get_status_unique,
    PacketType.OPTION_REQ: _option,
    PacketType.ECHO_REQ: _echo,
    PacketType.CAN_DO: _can_do,
    PacketType.CAN_DO_TIMEOUT: _can_do_timeout,
    PacketType.CANT_DO: _cant_do,
    PacketType.RESET_ABILITIES: _reset_abilities,
    PacketType.SET_CLIENT_ID: _set_client_id,
    PacketType.PRE_SLEEP: _pre_sleep,
    PacketType.GRAB_JOB: _grab,
    PacketType.GRAB_JOB_UNIQ: _grab,
    PacketType.GRAB_JOB_ALL: _grab,
    PacketType.WORK_STATUS: _work_status,
    PacketType.WORK_DATA: _work_data,
    PacketType.WORK_WARNING: _work_data,
    PacketType.WORK_COMPLETE: _work_complete,
    PacketType.WORK_FAIL: _work_fail,
    PacketType.WORK_EXCEPTION: _work_exception,
    **{OVERSIZE - kind: _submit_oversize if kind in _SUBMITS else _work_oversize for kind in OVERSIZE_REQUESTS},
}
