from __future__ import annotations

from typing import TYPE_CHECKING, cast

from geartrain.protocol.job_liveness import StatusProbe, StatusProbes

if TYPE_CHECKING:
    from geartrain.protocol.coalescing import CoalescedJobs
    from geartrain.protocol.handlers import JobHandler, QueryHandler
    from geartrain.protocol.packets import PacketType


def test_every_stale_job_gets_its_turn_if_there_are_more_than_may_be_probed() -> None:
    probed: list[bytes] = []

    def answer(query: QueryHandler, _: PacketType) -> None:
        assert isinstance(query, StatusProbe)
        probed.append(query.argument)
        query.on_reply([query.argument, b"1"])

    jobs = cast("dict[bytes, JobHandler | CoalescedJobs]", {b"%d" % number: object() for number in range(10)})
    probes = StatusProbes(jobs, answer)
    while len(probed) < 20:
        probes.next_interval(max_probes=1, max_open=1)
    assert probed == [b"%d" % number for number in range(10)] * 2
