from geartrain.protocol.heartbeat import Heartbeat, Verdict


def test_a_reply_that_is_owed_for_the_whole_interval_loses_the_connection() -> None:
    heartbeat = Heartbeat(10.0, now=0.0)
    assert heartbeat.beat(1.0, owed=7, heard=0) is Verdict.ALIVE
    assert heartbeat.beat(10.9, owed=7, heard=500) is Verdict.ALIVE
    assert heartbeat.beat(11.0, owed=7, heard=900) is Verdict.LOST, "other traffic does not pay the debt"


def test_the_next_reply_owed_has_the_whole_interval_again() -> None:
    heartbeat = Heartbeat(10.0, now=0.0)
    heartbeat.beat(1.0, owed=7, heard=0)
    assert heartbeat.beat(11.0, owed=8, heard=0) is Verdict.ALIVE
    assert heartbeat.beat(21.0, owed=8, heard=0) is Verdict.LOST


def test_a_connection_that_owes_nothing_and_is_silent_is_to_be_asked() -> None:
    heartbeat = Heartbeat(10.0, now=0.0)
    assert heartbeat.beat(9.0, owed=None, heard=None) is Verdict.ALIVE
    assert heartbeat.beat(10.0, owed=None, heard=None) is Verdict.SILENT
    assert heartbeat.beat(11.0, owed=None, heard=12) is Verdict.ALIVE
    assert heartbeat.beat(21.0, owed=None, heard=12) is Verdict.SILENT


def test_as_long_as_the_question_is_on_its_way_out_no_answer_is_owed_for_too_long() -> None:
    """A large workload on a slow line takes its time; each byte of it that leaves shows that the peer reads."""
    heartbeat = Heartbeat(10.0, now=0.0)
    for now in range(0, 100, 5):
        assert heartbeat.beat(now, owed=7, heard=0, queued=1000, taken=now * 10) is Verdict.ALIVE
    assert heartbeat.beat(104.0, owed=7, heard=0, queued=1000, taken=950) is Verdict.ALIVE
    assert heartbeat.beat(105.0, owed=7, heard=0, queued=1000, taken=950) is Verdict.LOST


def test_what_is_sent_after_the_question_puts_nothing_off() -> None:
    """The kernel takes bytes for a peer that is gone until its buffer is full."""
    heartbeat = Heartbeat(10.0, now=0.0)
    assert heartbeat.beat(0.0, owed=7, heard=0, queued=100, taken=100) is Verdict.ALIVE
    assert heartbeat.beat(5.0, owed=7, heard=0, queued=500, taken=500) is Verdict.ALIVE
    assert heartbeat.beat(10.0, owed=7, heard=0, queued=900, taken=900) is Verdict.LOST
