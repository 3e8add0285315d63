"""What a thread, or a greenlet, waits on."""

from __future__ import annotations

import threading

import pytest

from geartrain import mailbox as module
from geartrain.mailbox import Mailbox


@pytest.mark.parametrize("is_patched", [False, True])
def test_an_item_of_another_thread_ends_the_wait(monkeypatch: pytest.MonkeyPatch, is_patched: bool) -> None:
    monkeypatch.setattr(module, "is_patched", lambda: is_patched)
    mailbox = Mailbox[int]()
    with pytest.raises(TimeoutError, match=r"0\.01 s"):
        mailbox.get(0.01)
    mailbox.put(1)  # nobody waits any more
    assert mailbox.get() == 1
    thread = threading.Timer(0.01, mailbox.put, (2,))
    thread.start()
    assert mailbox.get(10) == 2
    thread.join()
    assert mailbox.is_empty
