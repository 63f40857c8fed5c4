"""Reference scores: kept by content, unchanged by a second scoring, the same after a stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from trainer.control import Control
from trainer.engine.dataset import Example
from trainer.engine.reference_scores import ReferenceScores

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.trainer.engine.support import Runs

CPU = torch.device("cpu")


def example(name: str, prompt: list[int], *answers: list[int]) -> Example:
    return Example(name, {}, prompt, answers)


def test_the_same_tokens_have_one_score_whatever_their_name() -> None:
    scores = ReferenceScores({})
    scores.add([example("a", [1], [2, 3])], torch.tensor([[0.5]]))
    assert not scores.lack([example("b", [1], [2, 3])])
    assert scores.of([example("b", [1], [2, 3])], CPU).tolist() == [[0.5]]


@pytest.mark.parametrize(
    "other",
    [
        example("a", [1], [2, 4]),
        example("a", [1, 2], [3]),
        example("a", [1], [2], [3]),
        example("a", [], [1, 2, 3]),
    ],
    ids=["answer", "border", "two answers", "no prompt"],
)
def test_other_tokens_have_not(other: Example) -> None:
    scores = ReferenceScores({})
    scores.add([example("a", [1], [2, 3])], torch.tensor([[0.5]]))
    assert scores.lack([other])


def test_the_first_score_stays() -> None:
    scores, pair = ReferenceScores({}), example("a", [1], [2], [3])
    scores.add([pair], torch.tensor([[0.1, 0.2]]))
    scores.add([pair], torch.tensor([[0.3, 0.4]]))
    assert torch.equal(scores.of([pair], CPU), torch.tensor([[0.1, 0.2]]))


def test_they_come_back_from_a_checkpoint_to_the_bit() -> None:
    scores, memory = ReferenceScores({}), {}
    pairs = [example("a", [n], [2] * n, [3]) for n in range(1, 6)]
    values = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    scores.add(pairs, values)
    back = ReferenceScores(memory)
    back.restore(scores.tensors())
    assert torch.equal(back.of(pairs, CPU), values)
    assert len(memory) == 5, "they must stand in the memory that the reference empties"


@pytest.mark.parametrize("kind", ["kto", "bco", "aot", "wpo"])
def test_a_stopped_run_equals_the_run_never_stopped(
    runs: Runs, stop_after: Callable[..., Any], kind: str
) -> None:
    spec = [f"objective.type={kind}", "batch.tokens_per_microbatch=40"]
    assert runs.run("calm", *spec) == 0
    stop_after(runs.dir("stopped"), 1, 3, Control("stop", "user", "stopped by ada"))
    assert runs.run("stopped", *spec) == 3
    assert runs.resume("stopped") == 0
    assert runs.checkpoint_bytes("calm", 6) == runs.checkpoint_bytes("stopped", 6)
    assert runs.metrics("calm") == runs.metrics("stopped")
    if kind == "bco":
        assert runs.metrics("calm")[6, "reward_shift"] != 0
