"""The table of a submission's states agrees with what submissions do."""

from __future__ import annotations

import pytest

from geartrain.client.submission import Submission
from geartrain.client.submission_state import TRANSITIONS, State
from tests.simulation.world import World

SEEDS = 8


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[tuple[State, State]]:
    """Record each change of the state of any submission."""
    changes: set[tuple[State, State]] = set()
    states: dict[Submission, State] = {}
    set_attribute = object.__setattr__

    def recording(submission: Submission, name: str, value: object) -> None:
        set_attribute(submission, name, value)
        if name == "details":  # the last of the fields that __init__ sets, or a later change
            states.setdefault(submission, submission.state)
        elif submission in states and (state := submission.state) is not states[submission]:
            changes.add((states[submission], state))
            states[submission] = state

    monkeypatch.setattr(Submission, "__setattr__", recording)
    return changes


@pytest.mark.parametrize("faults", [False, True])
def test_only_transitions_of_the_table_occur(faults: bool, seen: set[tuple[State, State]]) -> None:
    for seed in range(SEEDS):
        World(seed, faults=faults).run()
    allowed = {(before, after) for before, afters in TRANSITIONS.items() for after in afters}
    assert seen <= allowed
    if faults:
        # A job of a batch has trouble in few runs.
        assert allowed - seen <= {(State.UNASSIGNED, State.SENT), (State.UNASSIGNED, State.CREATED)}
