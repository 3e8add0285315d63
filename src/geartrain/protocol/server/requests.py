"""What a job server does at each packet of its clients and workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.decoder import TEXT_LINE, WRONG_MAGIC
from geartrain.protocol.numbers import INT64_MAX, c_integer, c_uint32
from geartrain.protocol.packets import MAX_HANDLE, OVERSIZE, PACKETS, PacketType, split
from geartrain.protocol.server.admin_commands import answer
from geartrain.protocol.server.job_queue import HIGH, LOW, NORMAL
from geartrain.protocol.server.peer import OVERSIZE_REQUESTS, Work

if TYPE_CHECKING:
    from geartrain.protocol.server.broker import Broker
    from geartrain.protocol.server.peer import Peer

__all__ = ["REQUESTS", "Request", "unknown"]

# (broker, peer, packet type, body) -> the rest of the work, if the request takes long
Request = Callable[["Broker", "Peer", int, bytes], Work | None]

MAX_FUNCTION: Final = 8180  # gearmand closes the connection on a longer one
MAX_UNIQUE: Final = 64
MAX_CLIENT_ID: Final = 127  # a longer one is cut
MAX_COPIES: Final = 100_000  # of each packet that one peer can ask for, by submitting the same job so often
MAX_ABILITIES: Final = 16_384  # of one worker, since each grab looks for jobs of all of them
MIN_TIMEOUT_MS: Final = 1000  # a shorter one is raised to it

# Word for word gearmand's.
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
# gearmand answers nothing at all.
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
    """Split a body as :func:`split` does, which takes three times as long, and says what is wrong."""
    arguments = body.split(b"\0", count - 1)
    return arguments if len(arguments) == count else split(PacketType(kind), body)


def _error(peer: Peer, error: bytes) -> None:
    peer.send(PacketType.ERROR, error)


def _until_nul(argument: bytes) -> bytes:
    # gearmand copies some arguments into C strings.
    return argument.partition(b"\0")[0]


# What clients send.


def _submit(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, workload = _arguments(kind, body, 3)
    _take_job(broker, peer, kind, function, unique, workload)


def _submit_reduce(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, reducer, _, workload = split(PacketType(kind), body)
    if len(reducer) > MAX_UNIQUE:
        _error(peer, _UNIQUE_TOO_LARGE)
    else:
        _take_job(broker, peer, kind, function, unique, workload, reducer=reducer)


def _submit_epoch(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, epoch, workload = split(PacketType(kind), body)
    due = c_integer(epoch)
    if abs(due) > INT64_MAX:
        _error(peer, _EPOCH_TOO_LARGE)
    else:
        _take_job(broker, peer, kind, function, unique, workload, due=due if due > broker.now else None)


def _take_job(
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
    """Let a submission join the job that it equals, or make it a new one, or refuse it."""
    if len(unique) > MAX_UNIQUE:
        _error(peer, _UNIQUE_TOO_LARGE)
        return
    _check_function(name)
    priority, background = _SUBMITS[kind]
    queue = broker.queue
    function = queue.functions.get(name)
    if function is None and queue.is_full:
        _error(peer, _QUEUE_FULL)
        return
    function = function or queue.ensure_function(name)
    job = queue.find_job(function, unique, workload)
    if job is not None:
        if not background and (queue.is_full or job.clients.get(peer, 0) >= MAX_COPIES):
            _error(peer, _QUEUE_FULL)
        else:
            broker.accept_submission(peer, job, background=background)
        return
    if queue.is_full_for(function, priority):
        _error(peer, _QUEUE_FULL)
        return
    job = queue.add_job(function, unique, workload, priority, background=background, reducer=reducer, due=due)
    broker.accept_submission(peer, job, background=background)
    if function.sleepers:
        broker.wake_workers(function)


def _submit_oversize(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    function, unique, *_ = split(PacketType(OVERSIZE - kind), body)
    _check_function(function)
    _error(peer, _UNIQUE_TOO_LARGE if len(unique) > MAX_UNIQUE else _WORKLOAD_TOO_LARGE)


def _check_function(name: bytes) -> None:
    if len(name) > MAX_FUNCTION:
        raise RemoteProtocolError(f"a function's name has {MAX_FUNCTION} bytes at most, got {len(name)}")


def _get_status(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    handle = _until_nul(body)
    job = broker.queue.jobs.get(handle)
    if job is None:
        peer.send(PacketType.STATUS_RES, handle + b"\x000\x000\x000\x000")
    else:
        numbers = (job.worker is not None, job.numerator, job.denominator)
        peer.send(PacketType.STATUS_RES, handle + b"\x001\0%d\0%d\0%d" % numbers)


def _get_status_unique(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    unique = _until_nul(body)
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
        _error(peer, _UNKNOWN_OPTION)


def _echo(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    peer.send(PacketType.ECHO_RES, b"", body)


# What workers send.


def _can_do(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    _register(broker, peer, body, None)


def _can_do_timeout(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    name, text = split(PacketType.CAN_DO_TIMEOUT, body)
    timeout_ms = c_integer(text)
    _register(broker, peer, name, max(timeout_ms, MIN_TIMEOUT_MS) / 1000 if timeout_ms > 0 else None)


def _register(broker: Broker, peer: Peer, name: bytes, timeout: float | None) -> None:
    _check_function(name)
    if name not in peer.abilities:
        if broker.queue.is_full:
            raise RemoteProtocolError("the job server is full: it takes no further functions and abilities")
        if len(peer.abilities) >= MAX_ABILITIES:
            raise RemoteProtocolError(f"a worker can register for {MAX_ABILITIES} functions at most")
    broker.register_ability(peer, name, timeout)


def _cant_do(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return broker.remove_ability(peer, body)


def _reset_abilities(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return broker.remove_all_abilities(peer)


def _set_client_id(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    peer.client_id = _until_nul(body[:MAX_CLIENT_ID])


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
        _error(peer, _RESULT_NOT_FOUND)
        return None
    job.numerator, job.denominator = c_uint32(numerator), c_uint32(denominator)
    return broker.forward_update(job, kind, body)


def _work_data(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    handle, _ = _arguments(kind, body, 2)
    job = peer.running_jobs.get(handle)
    if job is None:
        _error(peer, _DATA_NOT_FOUND)
        return None
    return broker.forward_update(job, kind, body)


def _work_complete(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return _finish(broker, peer, kind, body, _RESULT_NOT_FOUND)


def _work_exception(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    return _finish(broker, peer, kind, body, _EXCEPTION_NOT_FOUND)


def _finish(broker: Broker, peer: Peer, kind: int, body: bytes, not_found: bytes) -> Work | None:
    handle, _ = _arguments(kind, body, 2)
    job = peer.running_jobs.get(handle)
    if job is None:
        _error(peer, not_found)
        return None
    return broker.finish_job(job, kind, body)


def _work_fail(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    handle = _until_nul(body)
    job = peer.running_jobs.get(handle)
    if job is None:
        _error(peer, _RESULT_NOT_FOUND if len(handle) <= MAX_HANDLE else _HANDLE_TOO_LARGE)
        return None
    return broker.finish_job(job, kind, body[: len(handle) + 1])


def _work_oversize(broker: Broker, peer: Peer, kind: int, body: bytes) -> Work | None:
    """End a job whose result or update is too long, so that no other worker is given it."""
    handle, separator, _ = body.partition(b"\0")
    if not separator:
        raise RemoteProtocolError("a handle has no end")
    job = peer.running_jobs.get(handle)
    if job is None:
        _error(peer, _NOT_FOUND[OVERSIZE - kind])
        return None
    return broker.finish_job(job, PacketType.WORK_FAIL, job.handle)


_NOT_FOUND: Final[Mapping[int, bytes]] = {
    PacketType.WORK_STATUS: _RESULT_NOT_FOUND,
    PacketType.WORK_DATA: _DATA_NOT_FOUND,
    PacketType.WORK_WARNING: _DATA_NOT_FOUND,
    PacketType.WORK_COMPLETE: _RESULT_NOT_FOUND,
    PacketType.WORK_EXCEPTION: _EXCEPTION_NOT_FOUND,
}


# What nobody may send.


def _not_expected(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    _error(peer, _COMMAND_NOT_EXPECTED)


def _wrong_magic(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    _error(peer, _REQUEST_MAGIC_EXPECTED)


def unknown(broker: Broker, peer: Peer, kind: int, body: bytes) -> None:
    """Close the connection of a peer that sent a packet of no known type: what follows may be anything."""
    raise RemoteProtocolError(f"no packet type {kind} is known")


REQUESTS: Final[Mapping[int, Request]] = {
    **dict.fromkeys((kind for kind, spec in PACKETS.items() if not spec.to_server), _not_expected),
    5: _not_expected,  # a number that was never given out, but which gearmand knows
    PacketType.ALL_YOURS: _not_expected,
    PacketType.SUBMIT_JOB_SCHED: _not_expected,
    WRONG_MAGIC: _wrong_magic,
    TEXT_LINE: answer,
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
