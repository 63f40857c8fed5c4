"""What is sent through the broker: ids, in time for control, and never out of date for a node."""

from __future__ import annotations

import pytest
from kombu.exceptions import OperationalError

from orchestrator.services import dispatch


@pytest.fixture
def sent(monkeypatch):
    found = []
    monkeypatch.setattr(
        dispatch.app, "send_task", lambda task, **words: found.append((task, words))
    )
    return found


def test_an_order_never_goes_out_of_date(sent):
    """A node would judge that by its own clock: one that is hours ahead would take no order at all."""
    assert dispatch.launch_send(node_name="n1", run_id="r" * 12, attempt=3)
    ((task, words),) = sent
    assert task == "orchestrator.tasks.node_launch"
    assert (words["args"], words["queue"]) == (["r" * 12, 3], "node.n1")
    assert words["expires"] is None


def test_a_wish_to_schedule_does(sent, monkeypatch):
    monkeypatch.setattr(dispatch, "_newest", 0.0)
    dispatch.schedule_soon()
    dispatch.schedule_soon()
    ((task, words),) = sent
    assert (task, words["expires"]) == ("orchestrator.tasks.schedule", 5)


def test_a_broker_that_is_away_is_no_reason_to_fail(monkeypatch):
    def away(task, **words):
        raise OperationalError("away")

    monkeypatch.setattr(dispatch.app, "send_task", away)
    assert not dispatch.launch_send(node_name="n1", run_id="r" * 12, attempt=1)
