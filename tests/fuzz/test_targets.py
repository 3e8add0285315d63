"""The fuzz targets over their seeds, past findings of the fuzzer, and variations by Hypothesis; without atheris."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.protocol.coalescing import CoalescedJobs
from geartrain.protocol.decoder import Decoder
from geartrain.protocol.long_packet import SkippedPacket
from geartrain.protocol.server.job_queue import JobQueue
from geartrain.protocol.text_replies import OneLine
from geartrain.protocol.worker import WorkerProtocol
from tests.fuzz.seeds import (
    ANSWERS,
    LARGE_ASSIGNS,
    LARGE_REQUESTS,
    LARGE_RESULTS,
    LINES,
    REQUESTS,
    RESPONSES,
    SEEDS,
)
from tests.fuzz.targets import TARGETS, Step, Target, script, steps

pytestmark = pytest.mark.untraced

REGRESSIONS = Path(__file__).with_name("regressions")


def test_every_target_has_seeds() -> None:
    assert list(SEEDS) == list(TARGETS)
    assert all(SEEDS.values())


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_prefixes_are_handled(name: str) -> None:
    for seed in SEEDS[name]:
        for end in {*range(0, len(seed), 7), len(seed)}:
            TARGETS[name](seed[:end])


def test_past_findings_of_the_fuzzer_are_handled() -> None:
    for path in sorted(REGRESSIONS.glob("*/*")):
        TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
def test_mutated_seeds_are_handled(name: str, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(SEEDS[name]))
    start = data.draw(st.integers(0, len(one)))
    end = data.draw(st.integers(start, len(one)))
    TARGETS[name](one[:start] + data.draw(st.binary(max_size=6)) + one[end:] + data.draw(st.sampled_from(SEEDS[name])))


def scripts(packets: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Return scripts with whole packets, some other bytes, and all other actions, in any order."""
    parts = st.one_of(
        st.sampled_from(packets), st.lists(st.sampled_from(packets)).map(b"".join), st.binary(max_size=20)
    )
    steps = st.tuples(st.integers(0, 255), st.one_of(st.sampled_from(packets), parts))
    return st.lists(steps, max_size=30).map(lambda chosen: script(*chosen))


@given(scripts([*RESPONSES, *LARGE_RESULTS]))
def test_any_packets_in_any_order_do_not_harm_a_client(data: bytes) -> None:
    TARGETS["client"](data)


@given(scripts([*RESPONSES, *LARGE_ASSIGNS]))
def test_any_packets_in_any_order_do_not_harm_a_worker(data: bytes) -> None:
    TARGETS["worker"](data)


@given(st.lists(st.sampled_from([*RESPONSES, *LARGE_ASSIGNS, b"\0", b"x"])).map(b"".join))
def test_a_worker_does_not_depend_on_how_packets_arrive(data: bytes) -> None:
    TARGETS["worker_in_pieces"](data)


@given(scripts([*REQUESTS, *LARGE_REQUESTS, *LINES]))
def test_any_requests_in_any_order_do_not_harm_a_job_server(data: bytes) -> None:
    TARGETS["broker"](data)


@given(st.integers(0, 99), st.lists(st.sampled_from(ANSWERS).map(lambda answer: answer[1:]) | st.binary(max_size=9)))
def test_any_answers_to_any_commands_do_not_harm_an_admin_client(commands: int, answers: list[bytes]) -> None:
    TARGETS["answers"](bytes([commands]) + b"".join(answers))


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=255)), max_size=10))
def test_a_script_is_read_as_it_was_written(parts: list[Step]) -> None:
    assert list(steps(script(*parts))) == parts


FAULTS = {
    "requests": (SkippedPacket, "take", lambda self, data: None),
    "responses": (Decoder, "feed", lambda self, data: [(1, [data])]),
    "client": (CoalescedJobs, "end_first", CoalescedJobs.next),
    "worker": (WorkerProtocol, "_match_grab_replies", lambda self, kind, count: None),
    "answers": (OneLine, "take", lambda self, line: int(line)),
    "commands": (JobQueue, "remove_job", lambda self, job: None),
    "broker": (JobQueue, "detach_client", lambda self, job, client: None),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_targets_find_deliberate_faults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the tests above would prove nothing."""
    owner, attribute, broken = FAULTS[name]
    monkeypatch.setattr(owner, attribute, broken)
    assert any(fails(TARGETS[name], seed) for seed in SEEDS[name])


def fails(target: Target, data: bytes) -> bool:
    try:
        target(data)
    except Exception:  # noqa: BLE001  # the fuzzer reports any exception
        return True
    return False
