"""The models that scorers of a comparison name, fixed: the same name must not stand for other weights tomorrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.selectors.inputs import checkpoint_named
from orchestrator.selectors.reward_models import reward_model_problem
from orchestrator.services.comparison_models import digest_now
from trainer import registry
from trainer.named_models import (
    CHECKPOINT_PREFIX,
    RUN_PREFIX,
    reward_models,
)
from trainer.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT = "content"
"""The knob of a scorer that notes which files a name stood for."""


def scorers_fixed(
    scorers: Sequence[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The scorers with `run:ID` replaced by the checkpoint that it stands for and with what folders hold noted,
    and what is wrong with the models that they name."""
    found = [dict(one) for one in scorers]
    problems: list[Problem] = []
    for path, name in reward_models({"rewards": found}):
        _, number, knob = path.split(".")
        place = f"scorers.{number}.{knob}"
        scorer = found[int(number)]
        if problem := reward_model_problem(name):
            problems.append(Problem(path=place, message=problem))
        elif name.startswith((RUN_PREFIX, CHECKPOINT_PREFIX)):
            checkpoint = checkpoint_named(name)
            if checkpoint is None:
                words = f"{name} has no checkpoint yet; wait until it has finished"
                problems.append(Problem(path=place, message=words))
            else:
                scorer[knob] = f"{CHECKPOINT_PREFIX}{checkpoint.pk}"
        elif CONTENT in registry.family("rewards")[scorer["type"]].model_fields:
            scorer[CONTENT] = digest_now(name)
    return found, problems
