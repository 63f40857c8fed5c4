"""Orders of several processes: all take the same ones at the same turn, and nobody trains another model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import pytest

from trainer.control import Control
from trainer.engine.failure import Failure, Halt, Verdict
from trainer.engine.ranks import Ranks
from trainer.engine.shared_orders import FollowedOrders, SharedOrders
from trainer.rundir import RunDir


class Wire(Ranks):
    """Two ranks in one process: what the first one tells lies here for the other."""

    said: ClassVar[list] = []

    def told(self, value):
        if self.first:
            self.said.append(value)
        return self.said[-1]


@pytest.fixture
def attempt(tmp_path):
    attempt = RunDir(tmp_path).attempt(1)
    attempt.path.mkdir(parents=True)
    return attempt


@pytest.fixture
def both(attempt, request):
    sharded = getattr(request, "param", False)
    run = RunDir(attempt.path.parent)
    followers = SimpleNamespace(lost=lambda: None)
    first = SharedOrders(run, attempt, followers)
    first.ranks = Wire(0, 2, sharded=sharded)
    return first, FollowedOrders(run, attempt, Wire(1, 2, sharded=sharded))


def test_an_order_counts_from_the_turn_at_which_it_was_told(both, attempt):
    first, other = both
    assert (first.agree(1.5, 0.0), other.agree(9.9, 0.0)) == (1.5, 1.5)
    assert first.given() is other.given() is None
    order = Control(knobs={"optimizer.lr": 0.5}, asks={"save": 2})
    order.write(attempt.control)
    assert first.given() is other.given() is None, "not in the middle of a turn"
    first.agree(2.5, 3.0)
    other.agree(2.6, 3.0)
    assert first.given() == other.given() == order


def test_a_process_that_holds_all_of_the_model_may_end_in_the_middle_of_a_step(both, attempt):
    first, other = both
    first.agree(0.0, 0.0)
    Control("pause", "user", "paused by ada").write(attempt.control)
    other.check(now=True)
    with pytest.raises(Halt, match="paused by ada"):
        first.check(now=True)


@pytest.mark.parametrize("both", [True], indirect=True)
def test_processes_that_hold_a_part_each_end_together_between_two_steps(both, attempt):
    first, other = both
    first.agree(0.0, 0.0)
    other.agree(0.0, 0.0)
    Control("stop", "user", "stopped by ada").write(attempt.control)
    first.check(now=True)
    for orders in both:
        with pytest.raises(Halt, match="stopped by ada") as halt:
            orders.agree(1.0, 2.0)
        assert (halt.value.state, halt.value.cause) == ("stopped", "user")


def test_before_the_first_turn_a_stop_counts_at_once(both, attempt):
    Control("stop").write(attempt.control)
    with pytest.raises(Halt):
        both[0].check(now=True)


@pytest.mark.parametrize(("norm", "apart"), [(2.0, False), (2.0000001, False), (2.001, True)])
def test_ranks_whose_gradients_differ_do_not_go_on(both, norm, apart):
    first, other = both
    first.agree(0.0, 2.0)
    if not apart:
        other.agree(0.0, norm)
        return
    with pytest.raises(Failure, match="rank 1 are not those of rank 0 any more"):
        other.agree(0.0, norm)


def test_a_rank_that_died_is_told_of_at_the_next_tick(both):
    first, _ = both
    word = Verdict("failed", "killed", "Rank 1 of 2 ended first")
    first.followers = SimpleNamespace(lost=lambda: word)
    with pytest.raises(Failure, match="Rank 1 of 2") as failure:
        first.check()
    assert failure.value.cause == "killed"
