"""The checkpoints of a run with the figures by which people choose among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.selectors.run_words import objective_of, spec_of
from trainer import registry
from trainer.metrics import lower_is_better

if TYPE_CHECKING:
    from orchestrator.models import Checkpoint, Run

BEST_OF = {"rollouts": "eval/reward", "pairs": "eval/pair_accuracy"}
"""What the objective learns from -> what tells the best checkpoint; all others go by `eval/loss`."""
COLUMNS_MOST = 5


def saved_list(run: Run) -> dict[str, Any]:
    """`saved` rows newest first, `columns` of metrics, and the metric that decides which is best."""
    decides = best_metric(spec_of(run))
    found = list(run.checkpoints.order_by("-step"))
    best = best_saved([one for one in found if one.deleted is None], decides)
    keys = sorted({key for one in found for key in one.metrics if key.count("/") <= 1})
    columns = [key for key in [decides, *keys] if key in keys]
    columns = list(dict.fromkeys(columns))[:COLUMNS_MOST]
    rows = [
        {
            "checkpoint": one,
            "best": best is not None and one.pk == best.pk,
            "values": [one.metrics.get(key) for key in columns],
        }
        for one in found
    ]
    return {"saved": rows, "columns": columns, "decides": decides}


def best_metric(spec: dict[str, Any]) -> str:
    """The metric that decides which checkpoint is best: the spec's choice or the objective's usual one."""
    policy = spec.get("checkpoint")
    chosen = str(policy.get("best_metric", "")) if isinstance(policy, dict) else ""
    method = registry.family("objectives").get(objective_of(spec))
    return chosen or BEST_OF.get(str(getattr(method, "learns_from", "")), "eval/loss")


def best_saved(saved: list[Checkpoint], key: str) -> Checkpoint | None:
    """The one with the best figure; of equal ones the shorter trained for losses, else the longer."""
    scored = [(one.metrics[key], one) for one in saved if _is_number(one.metrics.get(key))]
    if not scored:
        return None
    choose = min if lower_is_better(key) else max
    return choose(
        scored, key=lambda pair: (pair[0], pair[1].step if choose is max else -pair[1].step)
    )[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
