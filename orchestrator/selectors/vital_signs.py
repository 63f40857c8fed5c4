"""Which figures tell whether a run is healthy, and within which bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.selectors.run_words import objective_of
from trainer import registry
from trainer.metrics import help_of

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Sign:
    """One figure with its bounds; past a `bad` bound something is wrong, past a `warn` bound look closer."""

    key: str
    label: str
    meaning: str
    warn_above: float | None = None
    bad_above: float | None = None
    warn_below: float | None = None
    bad_below: float | None = None

    @property
    def bounds(self) -> str:
        """The healthy side in words: "below 0.5", "0.02 to 4"."""
        above = self.warn_above if self.warn_above is not None else self.bad_above
        below = self.warn_below if self.warn_below is not None else self.bad_below
        if above is not None and below is not None:
            return f"{below:g} to {above:g}"
        if above is not None:
            return f"below {above:g}"
        return f"above {below:g}" if below is not None else "finite"

    @property
    def title(self) -> str:
        """The metric's full name."""
        return help_of(self.key).title


GRADIENT = Sign(
    "grad_norm", "Gradient", "A norm that is not a number ends learning; a jump announces it.",
    warn_above=100.0,
)  # fmt: skip

SIGNS: dict[str, tuple[Sign, ...]] = {
    "rollouts": (
        Sign(
            "frac_reward_zero_std", "Silent groups",
            "Groups whose answers all scored the same teach nothing: change the prompts' difficulty "
            "or sample more.",
            warn_above=0.5, bad_above=0.95,
        ),
        Sign(
            "entropy", "Entropy",
            "Near zero the policy always says the same and stops exploring.",
            warn_below=0.05, bad_below=0.005,
        ),
        Sign(
            "completions/clipped_ratio", "Cut short",
            "Answers that ran into the length limit; they rarely score.",
            warn_above=0.1, bad_above=0.5,
        ),
        Sign(
            "clip_ratio/region_mean", "Clipped",
            "Tokens whose ratio left the trust region: the policy moves too fast.",
            warn_above=0.2, bad_above=0.5,
        ),
        Sign(
            "gen_kl_error", "Sampler gap",
            "Sampler and trainer must agree on probabilities, or the gradient is of another policy.",
            warn_above=1e-3, bad_above=0.1,
        ),
        GRADIENT,
    ),
    "pairs": (
        Sign(
            "rewards/accuracies", "Pair accuracy", "Half is guessing.",
            warn_below=0.5,
        ),
        Sign(
            "rewards/margins", "Margin", "Below zero the rejected answers are preferred.",
            warn_below=0.0,
        ),
        Sign(
            "rewards/chosen", "Chosen reward",
            "Far below zero the chosen answers became unlikely too: add an NLL term (sft_weight).",
            warn_below=-1.0, bad_below=-10.0,
        ),
        GRADIENT,
    ),
    "scores": (
        Sign("accuracy", "Pair accuracy", "Half is guessing.", warn_below=0.5),
        Sign("margin", "Margin", "Below zero the rejected answers score higher.", warn_below=0.0),
        GRADIENT,
    ),
    "labels": (
        Sign(
            "label_accuracy", "Told apart", "Share of labels on the right side; half is guessing.",
            warn_below=0.5,
        ),
        Sign("loss", "Loss", "Half of the weights at the start; it must fall.", warn_above=20.0),
        GRADIENT,
    ),
    "ratings": (
        Sign("loss", "Loss", "Mean squared error; it must fall.", warn_above=1e4),
        GRADIENT,
    ),
    "demonstrations": (
        Sign("loss", "Loss", "Must stay finite and fall.", warn_above=20.0),
        Sign("mean_token_accuracy", "Token accuracy", "Share of answer tokens predicted.", warn_below=0.05),
        GRADIENT,
    ),
}  # fmt: skip


def signs_of(spec: dict[str, Any], latest: Iterable[str]) -> tuple[Sign, ...]:
    """The signs of this objective that the run reports; all of them before its first step."""
    if spec.get("kind") == "evaluate":
        return ()
    method = registry.family("objectives").get(objective_of(spec))
    kind = str(getattr(method, "learns_from", ""))
    if kind == "pairs" and "score-head" in getattr(method, "needs", ()):
        kind = "scores"  # a reward model tells answers apart by its score
    signs = SIGNS.get(kind, ())
    known = set(latest)
    return tuple(sign for sign in signs if sign.key in known) if known else signs
