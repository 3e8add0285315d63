from geartrain.protocol.heartbeat import Heartbeat, Verdict


def test_connection_is_lost_if_a_reply_is_pending_for_the_whole_interval() -> None:
    heartbeat = Heartbeat(10.0, now=0.0)
    assert heartbeat.check(1.0, pending=7, received=0) is Verdict.ALIVE
    assert heartbeat.check(10.9, pending=7, received=500) is Verdict.ALIVE
    assert heartbeat.check(11.0, pending=7, received=900) is Verdict.LOST, "other traffic is not the reply"


def test_next_pending_reply_has_the_whole_interval_again() -> None:
    heartbeat = Heartbeat(10.0, now=0.0)
    heartbeat.check(1.0, pending=7, received=0)
    assert heartbeat.check(11.0, pending=8, received=0) is Verdict.ALIVE
    assert heartbeat.check(21.0, pending=8, received=0) is Verdict.LOST


def test_silent_connection_without_a_pending_reply_is_probed() -> None:
    heartbeat = Heartbeat(10.0, now=0.0)
    assert heartbeat.check(9.0, pending=None, received=None) is Verdict.ALIVE
    assert heartbeat.check(10.0, pending=None, received=None) is Verdict.SILENT
    assert heartbeat.check(11.0, pending=None, received=12) is Verdict.ALIVE
    assert heartbeat.check(21.0, pending=None, received=12) is Verdict.SILENT


def test_reply_is_not_overdue_while_its_request_is_being_written() -> None:
    """A large workload takes time on a slow line; each byte written shows that the peer reads."""
    heartbeat = Heartbeat(10.0, now=0.0)
    for now in range(0, 100, 5):
        assert heartbeat.check(now, pending=7, received=0, bytes_queued=1000, bytes_written=now * 10) is Verdict.ALIVE
    assert heartbeat.check(104.0, pending=7, received=0, bytes_queued=1000, bytes_written=950) is Verdict.ALIVE
    assert heartbeat.check(105.0, pending=7, received=0, bytes_queued=1000, bytes_written=950) is Verdict.LOST


def test_bytes_sent_after_the_request_do_not_extend_the_interval() -> None:
    """The kernel accepts bytes for a dead peer until its buffer is full."""
    heartbeat = Heartbeat(10.0, now=0.0)
    assert heartbeat.check(0.0, pending=7, received=0, bytes_queued=100, bytes_written=100) is Verdict.ALIVE
    assert heartbeat.check(5.0, pending=7, received=0, bytes_queued=500, bytes_written=500) is Verdict.ALIVE
    assert heartbeat.check(10.0, pending=7, received=0, bytes_queued=900, bytes_written=900) is Verdict.LOST
