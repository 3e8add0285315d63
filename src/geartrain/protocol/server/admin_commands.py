"""The text commands of the admin protocol. Replies are identical to gearmand's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from geartrain.errors import RemoteProtocolError
from geartrain.protocol.numbers import c_integer
from geartrain.protocol.server.job_queue import HIGH, LOW, NORMAL, JobState
from geartrain.protocol.server.peer import Work

if TYPE_CHECKING:
    from geartrain.protocol.server.broker import Broker
    from geartrain.protocol.server.peer import Peer

__all__ = ["run_command"]


class DeferredReply(NamedTuple):
    """A reply to send when an operation is complete."""

    work: Work
    text: bytes


# (broker, first word as received, other words) -> reply, or an iterator of its lines
Command = Callable[["Broker", bytes, Sequence[bytes]], bytes | DeferredReply | Iterator[bytes]]

MAX_WORDS: Final = 5  # gearmand closes the connection on more

# Replies end in CR LF or in LF, as gearmand's do.
_OK: Final = b"OK\r\n"
_INCOMPLETE: Final = (
    b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+%b\r\n"  # the command
)
_UNKNOWN_COMMAND: Final = b"ERR UNKNOWN_COMMAND Unknown+server+command%b\r\n"  # the first word
_UNKNOWN_SHOW: Final = b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"
_UNKNOWN_ERROR: Final = b"ERR UNKNOWN_ERROR\r\n"
_UNKNOWN_JOB: Final = b"ERR UNKNOWN_JOB\r\n"
_UNKNOWN_FUNCTION: Final = b"ERR function not found\r\n"
_FUNCTION_IN_USE: Final = b"ERR there are still connected workers or executing clients\r\n"
_FULL: Final = b"ERR QUEUE_ERROR Job+queue+is+full\r\n"  # gearmand has no such limit
_END: Final = b".\n"

_LINES_PER_STEP: Final = 100


def run_command(broker: Broker, peer: Peer, kind: int, line: bytes) -> Work | None:
    """
    Run the command in a line of text; return the rest of a long one.

    Raises:
        RemoteProtocolError: If the line has too many words.
    """
    # gearmand treats the line as a C string, and separates words by spaces.
    name, *words = line.removesuffix(b"\r").partition(b"\0")[0].split(b" ")
    arguments = [word for word in words[:-1] if word] + words[-1:]  # a trailing space adds an empty last word
    if len(arguments) >= MAX_WORDS:
        raise RemoteProtocolError(f"a text command must have at most {MAX_WORDS} words, got {len(arguments) + 1}")
    command = _COMMANDS.get(name.lower())
    if command is None:
        peer.send_text(_UNKNOWN_COMMAND % name)
        return None
    reply = command(broker, name, arguments)
    if isinstance(reply, bytes):
        peer.send_text(reply)
        return None
    return _send_deferred(peer, reply) if isinstance(reply, DeferredReply) else _send_list(broker, peer, reply)


def _send_deferred(peer: Peer, reply: DeferredReply) -> Work:
    yield from reply.work
    peer.send_text(reply.text)


def _send_list(broker: Broker, peer: Peer, pieces: Iterator[bytes]) -> Work:
    """Send a list in chunks, so that no more than the peer's backlog limit is ever generated."""
    pieces = chain(pieces, (_END,))
    while peer.failure is None and (some := list(islice(pieces, _LINES_PER_STEP))):
        peer.send_text(b"".join(some))
        broker.work_done += 2 * len(some)
        yield


def _c_string(name: bytes) -> bytes:
    return name.partition(b"\0")[0]


# Commands that reply with a list. The list is copied first, since it may change while it is being sent.


def _status(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> Iterator[bytes]:
    for function in list(broker.queue.functions.values()):
        numbers = (function.job_count, function.running_count, len(function.workers))
        yield b"%b\t%d\t%d\t%d\n" % (_c_string(function.name), *numbers)


def _priority_status(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> Iterator[bytes]:
    for function in list(broker.queue.functions.values()):
        high, normal, low = (len(function.queues[priority]) for priority in (HIGH, NORMAL, LOW))
        numbers = (high, normal + len(function.delayed), low, len(function.workers))
        yield b"%b\t%d\t%d\t%d\t%d\n" % (_c_string(function.name), *numbers)


def _workers(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> Iterator[bytes]:
    for peer in list(broker.peers):
        yield b"%d %b %b :" % (peer.number, peer.host.encode(), peer.client_id)
        for name in list(reversed(peer.abilities)):
            yield b" " + _c_string(name)
        yield b"\n"


def _show(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes | Iterator[bytes]:
    if not arguments:
        return _UNKNOWN_COMMAND % name
    words = [word.lower() for word in arguments]
    jobs = (job for job in list(broker.queue.jobs.values()) if job.state is not JobState.ENDED)
    if words == [b"jobs"]:
        return (
            b"%b\t%d\t%d\t%d\n" % (job.handle, job.losses, job.ignored, job.persisted and not job.ignored)
            for job in jobs
        )
    if words == [b"unique", b"jobs"]:
        return (job.unique + b"\n" for job in jobs)
    return _UNKNOWN_SHOW


# Commands that reply with one line.


def _version(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes:
    return b"OK %b\n" % broker.version


def _getpid(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes:
    return b"OK %d\n" % broker.pid


def _verbose(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes:
    return b"OK ERROR\n"


def _maxqueue(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes:
    if not arguments:
        return _INCOMPLETE % name
    function = broker.queue.functions.get(arguments[0])
    if function is not None:
        limits = [max(0, c_integer(text)) for text in arguments[1:]]
        # One number limits all three priorities; no number removes the limits.
        high, normal, low = limits if len(limits) == 3 else [limits[0] if limits else 0] * 3
        function.limits[HIGH], function.limits[NORMAL], function.limits[LOW] = high, normal, low
    return _OK


def _create(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes:
    if not _names_function(arguments):
        return _INCOMPLETE % name
    if broker.queue.is_full and arguments[1] not in broker.queue.functions:
        return _FULL
    broker.queue.ensure_function(arguments[1])
    return _OK


def _drop(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes | DeferredReply:
    if not _names_function(arguments):
        return _INCOMPLETE % name
    function = broker.queue.functions.get(arguments[1])
    if function is None:
        return _UNKNOWN_FUNCTION
    if function.workers or function.running_count:
        return _FUNCTION_IN_USE
    return DeferredReply(broker.drop_function(function), _OK)


def _names_function(arguments: Sequence[bytes]) -> bool:
    return len(arguments) == 2 and arguments[0].lower() == b"function"


def _cancel(broker: Broker, name: bytes, arguments: Sequence[bytes]) -> bytes | DeferredReply:
    if len(arguments) < 2:
        return _UNKNOWN_COMMAND % name
    if len(arguments) > 2 or arguments[0].lower() != b"job":
        return _UNKNOWN_ERROR
    job = broker.queue.jobs.get(arguments[1])
    if job is None:
        return _UNKNOWN_JOB
    work = broker.cancel_job(job)
    return _OK if work is None else DeferredReply(work, _OK)


_COMMANDS: Final[Mapping[bytes, Command]] = {
    b"status": _status,
    b"prioritystatus": _priority_status,
    b"workers": _workers,
    b"show": _show,
    b"version": _version,
    b"getpid": _getpid,
    b"verbose": _verbose,
    b"maxqueue": _maxqueue,
    b"create": _create,
    b"drop": _drop,
    b"cancel": _cancel,
}
