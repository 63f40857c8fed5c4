"""Pairs: any split gives the same gradient, references are scored once, evaluation measures the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tests.trainer.engine.support import make_policy, tiny_spec
from tests.trainer.engine.written import (
    BUDGETS,
    gradient,
    make_learner,
    objectives_of,
    written_rows,
)
from trainer.engine.evaluate import Evaluation
from trainer.engine.loop import best_metric
from trainer.engine.pairs import DividedPairs
from trainer.engine.reference_scores import ReferenceScores

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.session import Session

VARIANTS = {
    "aot": ["objective.paired=false"],
    "f-dpo": ["objective.divergence=alpha", "objective.alpha=0.3"],
    "dpo": ["objective.sft_weight=0.7"],
}


def every_pair_objective() -> list[list[str]]:
    tags = objectives_of("pairs")
    plain = [[f"objective.type={tag}"] for tag in tags]
    return plain + [[f"objective.type={tag}", *VARIANTS[tag]] for tag in tags if tag in VARIANTS]


def test_the_registry_holds_the_family() -> None:
    assert len(objectives_of("pairs")) >= 21


@pytest.mark.parametrize("method", every_pair_objective(), ids=" ".join)
def test_micro_batches_change_neither_gradient_nor_metrics(
    session: Session, tmp_path: Path, method: list[str]
) -> None:
    found = []
    for budget in BUDGETS:
        learner, state = make_learner(
            session, tmp_path, *method, f"batch.tokens_per_microbatch={budget}"
        )
        found.append(gradient(learner, state))
    whole_loss, whole, whole_values = found[-1]
    assert float(whole.norm()) > 0
    for loss, grad, values in found[:-1]:
        assert loss == pytest.approx(whole_loss, rel=1e-5, abs=1e-6)
        assert float((grad - whole).norm() / whole.norm()) < 1e-5
        assert values == pytest.approx(whole_values, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("tag", ["dpo", "ipo", "dpo-norm", "ld-dpo"])
def test_a_policy_that_is_its_reference_has_no_margin(
    session: Session, tmp_path: Path, tag: str
) -> None:
    """Sums, means and tails alike: both sides must be scored with the same weights."""
    learner, state = make_learner(session, tmp_path, f"objective.type={tag}")
    learner.reference.load = make_policy
    _, _, values = gradient(learner, state)
    assert values["rewards/margins"] == values["rewards/chosen"] == 0
    assert values["rewards/accuracies"] == 0.5


def test_a_pair_is_never_divided(session: Session, tmp_path: Path) -> None:
    learner, state = make_learner(
        session,
        tmp_path,
        "objective.type=dpo",
        "batch.tokens_per_microbatch=1",
        "batch.packing=none",
    )
    assert len(list(learner.losses(state, None))) == 9


def test_each_side_gets_its_own_log_probabilities_and_collisions(
    session: Session, tmp_path: Path
) -> None:
    learner, _ = make_learner(session, tmp_path, "objective.type=wpo")
    divided = DividedPairs(learner, learner.examples, learner.known)
    (part,) = divided.parts
    fields = divided.forward(part)
    for place, pair in enumerate(part.members):
        example = learner.examples[pair]
        for side, answer in zip(("chosen", "rejected"), example.answers, strict=True):
            with torch.no_grad():
                ids = torch.tensor([example.prompt + answer])
                all_TV = learner.policy.model(input_ids=ids).logits[0].float().log_softmax(-1)
            before_TV = all_TV[len(example.prompt) - 1 : -1]
            logp_T = before_TV.gather(1, torch.tensor(answer)[:, None])[:, 0]
            collision_T = before_TV.exp().square().sum(-1).log()
            for name, wanted_T in (("logp", logp_T), ("collision", collision_T)):
                found_T = fields[f"{side}_{name}_BT"][place].detach()
                assert torch.allclose(found_T[: len(answer)], wanted_T, atol=1e-4)
                assert not found_T[len(answer) :].any()


def test_packing_changes_no_gradient(session: Session, tmp_path: Path) -> None:
    one, other = (
        gradient(
            *make_learner(session, tmp_path, "objective.type=ld-dpo", f"batch.packing={packing}")
        )
        for packing in ("none", "rows")
    )
    assert other[0] == pytest.approx(one[0], rel=1e-5)
    assert float((other[1] - one[1]).norm() / one[1].norm()) < 1e-5


def test_without_a_reference_none_is_loaded(session: Session, tmp_path: Path) -> None:
    learner, state = make_learner(session, tmp_path, "objective.type=simpo")
    learner.reference.load = None
    gradient(learner, state)
    assert learner.tensors(state) == {}


def test_two_rows_with_one_id_have_references_of_their_own(
    session: Session, tmp_path: Path
) -> None:
    rows = written_rows(4)
    named = [{**row, "id": "same"} for row in rows]
    plain, state = make_learner(session, tmp_path, "objective.type=dpo", rows=rows)
    doubled, other = make_learner(session, tmp_path, "objective.type=dpo", rows=named)
    assert gradient(plain, state)[0] == gradient(doubled, other)[0]
    assert len(doubled.known) == 4


def test_saved_reference_scores_are_taken_up_to_the_bit(session: Session, tmp_path: Path) -> None:
    learner, state = make_learner(session, tmp_path, "objective.type=ld-dpo")
    first = gradient(learner, state)
    again, other = make_learner(session, tmp_path, "objective.type=ld-dpo")
    again.restore(learner.tensors(state))
    again.reference.load = None
    second = gradient(again, other)
    assert first[0] == second[0] and torch.equal(first[1], second[1])


def test_the_threshold_of_bco_reaches_the_loss(session: Session, tmp_path: Path) -> None:
    learner, state = make_learner(session, tmp_path, "objective.type=bco")
    before = gradient(learner, state)[0]
    learner.dials = {"reward_shift": 0.5}
    assert gradient(learner, state)[0] != pytest.approx(before, rel=1e-3)


@pytest.mark.parametrize("tag", ["dpo", "aot", "simpo"])
def test_evaluation_measures_what_training_measures(
    session: Session, tmp_path: Path, tag: str
) -> None:
    learner, state = make_learner(
        session, tmp_path, f"objective.type={tag}", "rewards=[]", "batch.tokens_per_microbatch=50"
    )
    loss, _, values = gradient(learner, state)
    learner.policy.model.zero_grad()
    parts = learner.cursor._parts
    found = Evaluation(session, learner.spec, learner.policy, parts, learner).values(0)
    assert found["eval/loss"] == pytest.approx(loss, rel=1e-5)
    assert found["eval/pair_accuracy"] == values["rewards/accuracies"]
    assert found["eval/margins"] == pytest.approx(values["rewards/margins"], rel=1e-4)
    assert all(parameter.grad is None for parameter in learner.policy.model.parameters())


def test_the_best_checkpoint_prefers_the_chosen_answers() -> None:
    assert best_metric(tiny_spec("objective.type=ipo")) == "eval/pair_accuracy"


def test_reference_scores_are_forgotten_when_the_reference_moves(
    session: Session, tmp_path: Path
) -> None:
    learner, state = make_learner(session, tmp_path, "objective.type=dpo")
    before = gradient(learner, state)[0]
    learner.reference.sync(learner.policy, 1.0)
    assert len(learner.known) == 0
    assert gradient(learner, state)[0] == pytest.approx(0.693147, abs=1e-5) != before


def test_an_unscored_example_is_an_error(session: Session, tmp_path: Path) -> None:
    learner, _ = make_learner(session, tmp_path, "objective.type=dpo")
    with pytest.raises(KeyError):
        ReferenceScores({}).of(learner.examples, torch.device("cpu"))
